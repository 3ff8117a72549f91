"""What the methods with a joint classifier have in common: the labeled term, and absent modalities."""

from __future__ import annotations

from collections.abc import Callable
from math import nan

import pytest
import torch
from torch.nn import functional as F

from adni_tcgm.methods.method import Spec
from adni_tcgm.methods.mmatch import MMatch
from adni_tcgm.methods.stil import STiL
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.tcgm.batch import MultimodalBatch
from tests.methods.conftest import half_labeled

NO_STIL = {"contrastive_weight": 0.0, "independence_weight": 0.0, "pseudo_weight": 0.0, "prototype_weight": 0.0}


@pytest.mark.parametrize("method", [MMatch(MLPConfig(), pseudo_weight=0, graph_weight=0), STiL(MLPConfig(), **NO_STIL)])
def test_without_weights_the_labeled_term_is_all(method: MMatch | STiL, spec: Spec, batch: MultimodalBatch) -> None:
    model = method.build(spec)
    assert method.unlabeled_loss(model, half_labeled(batch)) is None
    outputs = model(batch)
    expected = sum(F.nll_loss(row, batch.labels) for row in [*outputs.log_posteriors, outputs.log_joint])
    torch.testing.assert_close(method.labeled_loss(model, batch), expected)


@pytest.mark.parametrize(
    "method", [MMatch(MLPConfig(), threshold=0.4), STiL(MLPConfig(), threshold=0.4, start_steps=0)]
)
def test_what_stands_in_absent_rows_changes_nothing_and_they_get_the_prior(
    method: MMatch | STiL, spec: Spec, batch: MultimodalBatch, with_gaps: Callable[..., MultimodalBatch]
) -> None:
    found = []
    for filling in (0.0, nan):
        torch.manual_seed(3)
        gaps, model = half_labeled(with_gaps(batch, filling)), method.build(spec)
        loss = method.unlabeled_loss(model, gaps)
        loss.backward()
        said = method.predict(model, gaps)
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        found.append([loss, *said.values(), *gradients, *model.buffers()])
        torch.testing.assert_close(said["view2"][::3], spec.log_prior.expand(4, 3))
    assert all(value.isfinite().all() for value in found[0])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
