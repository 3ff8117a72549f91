from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from adni_tcgm.privacy import pseudonym, pseudonym_key
from reports.figure7 import count_both_ways, describe_figure, find_misses, find_rival, fit_reference, list_visible, main
from reports.records import load_prepared, load_run
from tests.reports.conftest import write_map


@pytest.fixture
def runs(outputs):
    return [load_run(outputs / "runs" / f"voxels-{method}-r0.1-s0") for method in ("tcgm", "ce")]


def set_probability(run, sample_id: str, modality: str, value: float) -> None:
    rows = (run.predictions["sample_id"] == sample_id) & (run.predictions["modality"] == modality)
    run.predictions.loc[rows, "p_calibrated_converter"] = value


def make_miss(runs, sample_id: str, modality: str = "mri") -> None:
    tcgm, ce = runs
    for run in runs:
        set_probability(run, sample_id, "pet", 0.9)
    set_probability(ce, sample_id, modality, 0.2)
    for name in (modality, "all"):
        set_probability(tcgm, sample_id, name, 0.8)


CONVERTER, STABLE = "sub-SIM0055_ses-M000", "sub-SIM0056_ses-M000"


def test_a_converter_whom_ce_misses_and_tcgm_finds_is_found(runs):
    make_miss(runs, CONVERTER)
    found = {miss.sample_id: miss for miss in find_misses(*runs)}
    assert (found[CONVERTER].modality, found[CONVERTER].by_ce, found[CONVERTER].by_tcgm) == ("mri", 0.2, 0.8)


def test_stable_people_and_people_of_other_splits_are_never_misses(runs):
    make_miss(runs, STABLE)
    make_miss(runs, "sub-SIM0001_ses-M000")  # a converter of the training split
    assert not {STABLE, "sub-SIM0001_ses-M000"} & {miss.sample_id for miss in find_misses(*runs)}


def test_a_converter_missed_in_the_end_is_no_success(runs):
    make_miss(runs, CONVERTER)
    set_probability(runs[0], CONVERTER, "all", 0.4)
    assert CONVERTER not in {miss.sample_id for miss in find_misses(*runs)}


def test_the_counts_are_given_in_both_directions_and_turn_with_the_runs(runs):
    forth, back = count_both_ways(*runs), count_both_ways(*runs[::-1])
    assert [(row["tcgm"], row["ce"]) for row in forth] == [(row["ce"], row["tcgm"]) for row in back]
    assert any(row["tcgm"] != row["ce"] for row in forth)


def test_only_visible_training_labels_enter_a_reference(runs):
    tcgm = runs[0]
    before = list_visible(tcgm, "stable")
    assert before
    hidden = ~tcgm.splits["label_visible"] | (tcgm.splits["split"] != "train")
    tcgm.splits.loc[hidden, "label"] = "stable"
    assert list_visible(tcgm, "stable") == before


def image(values: np.ndarray) -> nib.Nifti1Image:
    return nib.Nifti1Image(values.astype(np.float32), np.eye(4))


def test_what_age_explains_is_no_deficit():
    rng = np.random.default_rng(0)
    ages = np.linspace(60, 85, 40)
    people = [image(10 - 0.1 * age + rng.normal(0, 0.2, (4, 4, 4))) for age in ages]
    reference = fit_reference(people, ages)
    usual, small = image(np.full((4, 4, 4), 10 - 0.1 * 85)), image(np.full((4, 4, 4), 10 - 0.1 * 85 - 0.6))
    assert np.abs(reference.deficit(usual, 85).get_fdata()).max() < 1
    assert reference.deficit(small, 85).get_fdata().mean() == pytest.approx(3, abs=0.5)


def test_a_reference_of_four_people_is_refused():
    with pytest.raises(ValueError, match="4 visibly stable"):
        fit_reference([image(np.ones((2, 2, 2)))] * 4, np.full(4, 70.0))


def test_the_figure_shows_the_person_between_the_groups(outputs, runs):
    prepared, rng = load_prepared(outputs / "prepared"), np.random.default_rng(1)
    for label in ("stable", "converter"):
        for sample_id in list_visible(runs[0], label):
            for modality, low, high in (("mri", 0.1, 1.0), ("pet", 0.6, 1.8)):
                write_map(prepared.volume(sample_id, modality), rng, low, high)
    make_miss(runs, CONVERTER)
    data, drawn = describe_figure(*runs, prepared)
    assert data["references"] == {"MRI": "5", "FDG-PET": "5"}
    svg = drawn["columns.svg"].decode()
    assert (
        svg.index("stable")
        < svg.index(pseudonym("sub-SIM0055", pseudonym_key(runs[0].folder)))
        < svg.rindex("converter")
    )
    assert "SD below usual" in svg and "µL per 2 mm voxel" in svg


def test_the_rival_is_the_run_of_ce_beside_it(outputs):
    assert find_rival(outputs / "runs" / "voxels-tcgm-r0.1-s0").name == "voxels-ce-r0.1-s0"


def test_without_the_rival_the_command_says_which_run_is_missing(outputs, capsys, tmp_path):
    assert main([str(outputs / "runs" / "voxels-tcgm-r0.1-s0"), "--rival", str(tmp_path / "none")]) == 2
    assert "none is not a finished run" in capsys.readouterr().err
