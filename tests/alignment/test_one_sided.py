"""From one modality to another: the paper's own toy, the pairs' regression, and what is stored."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from adni_tcgm.alignment.one_sided import DistanceMapping, PairedNetwork, Ridge


def on_segment(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Places along a segment from 0 to 1, and a person in the source: (place, 0)."""
    place = torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return place, torch.stack([place, torch.zeros_like(place)], 1)


def test_a_segment_is_laid_onto_another_in_order_or_mirrored_without_any_pair():
    place, source = on_segment(100, 0)
    other, _ = on_segment(80, 1)
    made = DistanceMapping(steps=200).fit(source, torch.stack([other, other + 1], 1)).transform(source)
    along = made[place.argsort(), 0].diff()
    assert (along > 0).all() or (along < 0).all()
    assert made[:, 0].std() / other.std() == pytest.approx(1, abs=0.5)


def test_ridge_finds_the_slopes_that_made_the_pairs():
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(200, 3, generator=generator, dtype=torch.float64)
    slopes = torch.tensor([[1.0, 0], [0, 2], [-1, 1]], dtype=torch.float64)
    found = Ridge(penalty=1e-9).fit(source, source @ slopes + 5)
    assert torch.allclose(found.transform(source), source @ slopes + 5, atol=1e-6)


@pytest.mark.parametrize("way", [Ridge(), PairedNetwork(steps=2), DistanceMapping(steps=2)])
def test_what_is_stored_maps_in_the_same_way(way):
    _, source = on_segment(20, 0)
    way.fit(source, source + 1)
    again = type(way)().restore(way.tensors())
    assert torch.equal(again.transform(source), way.transform(source))


def test_people_who_are_no_pairs_are_refused_by_what_learns_from_pairs():
    with pytest.raises(ValueError, match="ridge learns from pairs; there are 20 and 19 people"):
        Ridge().fit(torch.zeros(20, 2), torch.zeros(19, 2))
