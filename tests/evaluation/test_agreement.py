from __future__ import annotations

import numpy as np
import pytest

from adni_tcgm.evaluation.agreement import agreement_of, describe, explain_agreement, explained_share, suspects

N = 300


def people(seed: int, scanner_weight: float) -> tuple[np.ndarray, dict, np.ndarray]:
    """Agreement, nuisances and labels of N people whose agreement follows the label and, by that weight, a scanner."""
    rng = np.random.default_rng(seed)
    labels, scanner, age = rng.integers(0, 2, N), rng.choice(["a", "b", "c"], N), rng.normal(73, 7, N)
    agreement = 0.7 * labels + scanner_weight * (scanner == "a") + rng.normal(0, 1, N)
    return agreement, {"scanner": scanner.tolist(), "age": age.tolist()}, labels


def test_a_scanner_that_both_modalities_follow_is_found_and_said():
    agreement, nuisances, labels = people(0, scanner_weight=3.0)
    rows = explain_agreement(agreement, nuisances, agreement[:60], labels[:60])
    assert [row.name for row in suspects(rows)] == ["scanner"]
    assert describe(rows).startswith("Warning") and "scanner" in describe(rows)


def test_agreement_that_follows_the_label_is_no_suspect():
    agreement, nuisances, labels = people(1, scanner_weight=0.0)
    rows = explain_agreement(agreement, nuisances, agreement[:60], labels[:60])
    assert not suspects(rows) and "no recorded nuisance" in describe(rows)


def test_the_adjusted_share_of_a_nuisance_without_effect_is_zero_on_average():
    rng = np.random.default_rng(2)
    shares = [explained_share(rng.normal(size=60), rng.choice(list("abcdef"), 60))[0] for _ in range(400)]
    assert np.mean(shares) == pytest.approx(0, abs=0.01)


def test_without_any_effect_a_nuisance_is_suspected_in_one_case_in_twenty():
    rng = np.random.default_rng(3)
    found = [
        bool(
            suspects(
                explain_agreement(
                    rng.normal(size=40), {"age": rng.normal(size=40)}, np.zeros(0), np.zeros(0, int), seed
                )
            )
        )
        for seed in range(100)
    ]
    assert 0.01 <= np.mean(found) <= 0.1


def test_people_without_a_modality_agree_with_nobody():
    values = np.log([[0.2, 0.8], [0.6, 0.4], [0.5, 0.5]])
    present = np.array([[True, True], [True, False], [True, True]])
    found = agreement_of({"mri": values, "pet": values, "all": values}, present)
    assert np.isnan(found).tolist() == [False, True, False]
    assert found[[0, 2]] == pytest.approx([1, -1])
