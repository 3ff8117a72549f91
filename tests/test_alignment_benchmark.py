"""The benchmark of alignments optimizes what the product does, on sites that are what they claim to be."""

from __future__ import annotations

import torch

from adni_tcgm.tcgm.gain import total_correlation_gain
from benchmarks.alignment.cohort import draw_cohort, scan
from benchmarks.alignment.learner import gains
from benchmarks.alignment.shared_factors import draw_toy as draw_factors
from benchmarks.alignment.shared_factors import explained
from benchmarks.alignment.sites import align, disease_direction, draw_labels, effect, site_predictability, standardized
from benchmarks.alignment.toys import accuracy, draw
from benchmarks.alignment.toys import align as align_toy


def test_its_gain_is_that_of_the_product_with_people_missing_too():
    generator = torch.Generator().manual_seed(0)
    found = torch.randn(1, 2, 30, 2, generator=generator).log_softmax(-1)
    prior = torch.tensor([[0.4, 0.6]]).log()
    for share in (1.0, 0.6):
        both = torch.rand(1, 30, generator=generator) < share
        present = torch.stack([torch.ones(30, dtype=torch.bool), both[0]], 1)
        expected = total_correlation_gain(found[0], prior[0], present)
        assert torch.allclose(gains(found, both, prior)[0], expected, atol=1e-5)


def test_scanners_tell_sites_apart_and_an_alignment_makes_them_alike_while_the_disease_stays():
    clean = draw_cohort(3, imbalance=0.0)
    scanned = scan(clean, 1.0, True, 3)
    z = standardized(scanned)
    aligned = align("site", scanned, 0)
    after = standardized(aligned)
    assert site_predictability(scanned, z) > 0.8 and site_predictability(aligned, after) < 0.4
    direction = disease_direction(clean[0], standardized(clean)[0])
    assert effect(after[1], direction, clean[1].labels) > 1
    assert (draw_labels(clean[0].labels, 0) >= 0).sum() == 18


def test_a_classifier_of_the_first_half_of_a_toy_fails_on_the_second_until_it_is_aligned():
    x, y = draw("blobs", 20, 0)
    assert accuracy(x, y) < 0.5 < 0.9 < accuracy(align_toy("gaussian_flow", x, 0), y)


def test_the_toy_of_shared_factors_is_known_from_its_numbers_and_a_worthless_code_explains_nothing():
    inputs, shared, private = draw_factors("linear", 300, 0)
    new, new_shared, new_private = draw_factors("linear", 301, 0)
    assert explained(inputs["a"], shared, (new["a"], new_shared)) > 0.8
    assert explained(private["a"], shared, (new_private["a"], new_shared)) < 0.1
