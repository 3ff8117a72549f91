"""Mean Teacher: classifiers that follow, on disturbed inputs, the running average of their own weights.

Reference: Tarvainen and Valpola, Mean teachers are better role models, NeurIPS 2017 (arXiv 1703.01780), here with
classifiers of several modalities: each is taught by its own average, and by what the averages say together.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from math import exp

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adni_tcgm.methods.method import ClassifierPerModality, ModalityClassifiers, Spec, labeled_cross_entropy
from adni_tcgm.tcgm.aggregator import aggregate
from adni_tcgm.tcgm.batch import MultimodalBatch


@dataclass(frozen=True)
class MeanTeacher(ClassifierPerModality):
    """Labeled cross-entropy of the students, and the squared distance of their posteriors to the teachers'.

    Predictions are the teachers'. The teachers see the input as it is and in evaluation mode.

    consistency: final weight of the distances; the paper has 100, on a mean over classes, and a single optimizer for
        both losses. 0 leaves CE whose predictions are averaged over time.
    aggregated_share: of that weight, the part for the distance to the aggregated posterior of all teachers; the rest is
        for the distance to the teacher of the same modality, which is the paper's.
    decay: of the average, as published (.999; .99 in a short training); a plain mean until that is reached.
    ramp_up_steps: unlabeled steps until the weight is full, by exp(-5 (1 - t)²); the paper has 40,000 of 150,000.
    dropout: share of input entries that a student does not see.

    >>> import torch
    >>> from adni_tcgm.tcgm.batch import Modality, MultimodalBatch
    >>> from adni_tcgm.nets.mlp import MLPConfig
    >>> from adni_tcgm.tcgm.method import Spec
    >>> spec = Spec([Modality("left", (2,)), Modality("right", (3,))], ("no", "yes"), torch.tensor([0.5, 0.5]).log())
    >>> inputs = {"left": torch.ones(4, 2), "right": torch.ones(4, 3)}
    >>> batch = MultimodalBatch(list("abcd"), inputs, torch.ones(4, 2, dtype=torch.bool), torch.tensor([0, 1, -1, -1]))
    >>> method = MeanTeacher(MLPConfig(hidden=(4,)))
    >>> method.predict(method.build(spec), batch)["all"].shape
    torch.Size([4, 2])
    """

    consistency: float = 100.0
    aggregated_share: float = 0.5
    decay: float = 0.99
    ramp_up_steps: int = 100
    dropout: float = 0.5

    def build(self, spec: Spec) -> TaughtClassifiers:
        return TaughtClassifiers(super().build(spec))

    def labeled_loss(self, model: TaughtClassifiers, batch: MultimodalBatch) -> Tensor:
        return labeled_cross_entropy(model.students, batch)

    def unlabeled_loss(self, model: TaughtClassifiers, batch: MultimodalBatch) -> Tensor | None:
        """Also counts the step."""
        if self.consistency == 0:
            return None
        disturbed = {name: F.dropout(inputs, self.dropout) for name, inputs in batch.inputs.items()}
        students = model.students.log_posteriors(batch.with_inputs(disturbed)).exp()
        with torch.no_grad():
            own = model.teachers.log_posteriors(batch)
            joint = aggregate(own, model.teachers.log_prior, batch.present)
        to_own, to_joint = (students - own.exp()).square().mean(-1), (students - joint.exp()).square().mean(-1)
        distance = self.aggregated_share * to_joint + (1 - self.aggregated_share) * to_own
        present = batch.present.T
        per_modality = (distance * present).sum(1) / present.sum(1).clamp(min=1)
        model.unlabeled_steps += 1
        return self.consistency * ramp_up(int(model.unlabeled_steps), self.ramp_up_steps) * per_modality.sum()

    def after_step(self, model: TaughtClassifiers) -> None:
        model.follow(self.decay)

    def predict(self, model: TaughtClassifiers, batch: MultimodalBatch) -> dict[str, Tensor]:
        return super().predict(model.teachers, batch)


class TaughtClassifiers(nn.Module):
    """Students, which are trained, and teachers, the running average of their weights.

    Both step counts are kept with the weights.
    """

    def __init__(self, students: ModalityClassifiers) -> None:
        super().__init__()
        self.students = students
        self.teachers = deepcopy(students).requires_grad_(False).eval()
        self.register_buffer("steps", torch.tensor(0))
        self.register_buffer("unlabeled_steps", torch.tensor(0))

    def train(self, mode: bool = True) -> TaughtClassifiers:
        super().train(mode)
        self.teachers.eval()
        return self

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """Average the weights of the students in; running statistics of batch normalization are copied as they are."""
        self.steps += 1
        decay = min(decay, 1 - 1 / int(self.steps))
        for teacher, student in zip(self.teachers.parameters(), self.students.parameters(), strict=True):
            teacher.lerp_(student, 1 - decay)
        for teacher, student in zip(self.teachers.buffers(), self.students.buffers(), strict=True):
            teacher.copy_(student)


def ramp_up(step: int, length: int) -> float:
    """exp(-5 (1 - step / length)²), 1 from `length` on.

    >>> ramp_up(0, 100) < 0.01, ramp_up(100, 100)
    (True, 1.0)
    """
    return exp(-5 * max(0.0, 1 - step / length) ** 2) if length else 1.0
