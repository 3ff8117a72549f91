"""Which T1w and which PET of a BIDS data set is taken, and what is said of the others."""

from __future__ import annotations

import pytest

from preprocessing.intake.acquisition import read_tracer


def chosen(data, kind: str, *names: str):
    """The name of the T1 or the PET that is taken, and the choice."""
    data.add(*(f"sub-1/{kind}/sub-1_{name}.nii.gz" for name in names))
    people = data.read().people
    choice = (people[0].t1 if kind == "anat" else people[0].pet) if people else None
    return (choice.path.name.removeprefix("sub-1_").removesuffix(".nii.gz") if choice else None), choice


BETTER = [
    ("run-1_T1w", "run-2_T1w", "a later run"),
    ("run-2_T1w", "run-10_T1w", "a later run"),
    ("run-2_T1w", "acq-fast_run-1_T1w", "its name has more entities"),
    ("acq-mprage_T1w", "acq-localizer_T1w", "a localizer"),
    ("acq-mprage_T1w", "acq-AAHScout_T1w", "a localizer"),
    ("acq-highres_T1w", "ce-GADOLINIUM_T1w", "contrast-enhanced"),
    ("acq-x_T1w", "acq-postGd_T1w", "contrast-enhanced"),
    ("part-mag_T1w", "part-phase_T1w", "its phase part"),
    ("part-mag_T1w", "part-imag_T1w", "its imag part"),
    ("T1w", "rec-defaced_T1w", "it is defaced"),
    ("rec-norm_T1w", "acq-defaced_T1w", "it is defaced"),
    ("T1w", "rec-norm_T1w", "its name has more entities"),
    ("acq-me_T1w", "echo-1_T1w", "a single echo"),
    ("echo-1_T1w", "echo-2_T1w", "a later echo"),
    ("acq-x_run-2_T1w", "UNIT1", "a T1w is preferred to an MP2RAGE's UNIT1"),
    ("UNIT1", "inv-1_MP2RAGE", "one inversion of an MP2RAGE"),
    ("run-1_acq-3d_T1w", "acq-2d_run-1_T1w", "it was taken slice by slice"),
    ("acq-mprage_T1w", "acq-fse_T1w", "another one is called a 3-D T1"),
    ("acq-x_T1w", "desc-preproc_T1w", "it is derived from another image"),
    ("acq-x_T1w", "desc-brain_T1w", "without the skull"),
    ("acq-x_T1w", "chunk-1_T1w", "a chunk of the head"),
    ("ce-none_T1w", "ce-gd_T1w", "contrast-enhanced"),
]


@pytest.mark.parametrize(("better", "worse", "reason"), BETTER, ids=[f"{b} {w}" for b, w, _ in BETTER])
def test_the_better_t1_is_taken_and_the_other_is_listed_with_the_reason(data, better, worse, reason):
    name, choice = chosen(data, "anat", worse, better)
    assert name == better
    assert choice.why == "the first in order of preference of 2" + (
        ", although the UNIT1 of an MP2RAGE" * (better == "UNIT1") + ", although a single echo" * ("echo" in better)
    )
    assert choice.rejected == f"sub-1_{worse}.nii.gz ({reason})"


@pytest.mark.parametrize("name", ["ce-gd_T1w", "acq-scout_T1w", "part-real_T1w", "inv-2_MP2RAGE", "desc-brain_T1w"])
def test_what_is_no_t1_of_a_head_is_never_taken(data, name):
    data.add(f"sub-1/anat/sub-1_{name}.nii.gz")
    row = data.read().ledger[0]
    assert (row.status, row.reason_code) == ("excluded", "no_t1")
    assert f"no T1 of a head: sub-1_{name}.nii.gz (" in row.reason


def test_sidecars_tell_contrast_medium_and_slices(data):
    data.sidecar("acq-a_T1w.json", ContrastBolusIngredient="GADOLINIUM").sidecar(
        "acq-b_T1w.json", MRAcquisitionType="2D"
    )
    name, choice = chosen(data, "anat", "acq-a_T1w", "acq-b_T1w", "acq-c_T1w")
    assert name == "acq-c_T1w"
    assert "acq-a_T1w.nii.gz (contrast-enhanced)" in choice.rejected
    assert "acq-b_T1w.nii.gz (it was taken slice by slice)" in choice.rejected


def test_where_the_best_image_cannot_be_read_the_next_one_is_taken(data, tmp_path):
    data.add("sub-1/anat/sub-1_run-2_T1w.nii").sidecar("run-3_T1w.json", Modality="PT")
    (data.root / "sub-1/anat/sub-1_T1w.nii.gz").symlink_to(tmp_path / "gone")
    name, choice = chosen(data, "anat", "run-3_T1w")
    assert name == "run-2_T1w.nii"
    assert "sub-1_T1w.nii.gz (sub-1_T1w.nii.gz: the link leads nowhere" in choice.rejected


def test_a_session_with_mci_comes_first_then_one_with_an_fdg_then_the_earliest(data):
    for month in ("M000", "M012", "M024", "M036"):
        data.add(f"sub-1/ses-{month}/anat/sub-1_ses-{month}_T1w.nii")
    data.add("sub-1/ses-M024/pet/sub-1_ses-M024_trc-FDG_pet.nii", "sub-1/ses-M036/pet/sub-1_ses-M036_trc-FDG_pet.nii")
    assert data.read().people[0].session_id == "ses-M024"
    data.table("participants.tsv", "participant_id diagnosis_history", "sub-1 0:CN;12:MCI;24:MCI;36:AD")
    (person,) = data.read().people
    assert (person.session_id, person.t1.why.split(", the")[0]) == ("ses-M024", "MCI at its session, FDG near enough")
    assert person.t1.rejected.split("; ") == [
        "sub-1_ses-M000_T1w.nii (its session has no diagnosis of MCI)",
        "sub-1_ses-M012_T1w.nii (it has no FDG near enough)",
        "sub-1_ses-M036_T1w.nii (its session has no diagnosis of MCI)",
    ]


@pytest.mark.parametrize(
    ("better", "worse", "reason"),
    [
        ("trc-FDG_run-1_pet", "trc-FDG_run-2_pet", "a later run"),
        ("trc-FDG_pet", "trc-AV45_pet", "its tracer is AV45"),
        ("trc-FDG_rec-coregiso_pet", "trc-FDG_rec-coregavg_pet", "one of uniform resolution is preferred"),
        ("trc-FDG_rec-acstat_pet", "trc-FDG_rec-acdyn_pet", "a static reconstruction is preferred"),
        ("trc-FDG_rec-acdyn_pet", "trc-FDG_rec-nacstat_pet", "not corrected for attenuation"),
        ("trc-FDG_acq-late_pet", "trc-FDG_acq-early_pet", "early frames only"),
        ("trc-FDG_pet", "pet", "nothing says its tracer"),
    ],
)
def test_the_better_pet_is_taken_and_the_other_is_listed_with_the_reason(data, better, worse, reason):
    data.add("sub-1/anat/sub-1_T1w.nii")
    name, choice = chosen(data, "pet", worse, better)
    assert name == better
    assert choice.rejected == f"sub-1_{worse}.nii.gz ({reason})" and choice.why.startswith("near the T1, the first")


def test_the_nearest_of_several_pets_is_taken(data):
    data.add("sub-1/ses-d0100/anat/sub-1_ses-d0100_T1w.nii")
    for day in ("d0080", "d0110", "d0400"):
        data.add(f"sub-1/ses-{day}/pet/sub-1_ses-{day}_trc-FDG_pet.nii")
    pet = data.read().people[0].pet
    assert pet.days_from_t1 == 10
    assert pet.rejected == (
        "sub-1_ses-d0080_trc-FDG_pet.nii (farther from the T1); sub-1_ses-d0400_trc-FDG_pet.nii (too far from the T1)"
    )


FDG = (
    *("18F-FDG", "[18F]FDG", "fdg", "18FFDG", "F18 FDG", "fluorodeoxyglucose", "2-deoxy-2-[18F]fluoro-D-glucose"),
    *("Fludeoxyglucose F18", "Fluordesoxyglukose", "18F-Fluoro-deoxy-glucose", "Fluorodeoxyglucose F^18^"),
    *("[18F]-2-fluoro-2-deoxy-D-glucose", "FDG -- fluorodeoxyglucose"),
)
NO_FDG = ("F18", "Solution", "18F-FDGal", "fluorodeoxyglucosamine", "AV45", "Fluorodopa F18", "[11C]deoxyglucose", "")


def test_every_spelling_of_fdg_is_fdg_and_nothing_else_is():
    assert {text for text in (*FDG, *NO_FDG) if read_tracer(text)} == set(FDG)


@pytest.mark.parametrize(
    ("about", "name", "code"),
    [
        ({"TracerName": "2-deoxyglucose", "TracerRadionuclide": "F18"}, "pet", None),
        ({"TracerName": "Solution", "Radiopharmaceutical": "Fluorodeoxyglucose"}, "pet", None),
        ({"TracerName": "FDG"}, "trc-18F_pet", None),
        ({"TracerName": "FDG"}, "trc-unknown_pet", None),
        ({"TracerName": "FDG"}, "trc-PIB_pet", "other_tracer"),
        ({"TracerName": "PIB", "Radiopharmaceutical": "FDG"}, "pet", "other_tracer"),
        ({"TracerName": "F18"}, "pet", "unknown_tracer"),
        ({"TracerName": "Solution", "TracerRadionuclide": "F18"}, "pet", "unknown_tracer"),
        ({"TracerName": "n/a"}, "pet", "unknown_tracer"),
        ({"TracerName": "Fluorodopa", "TracerRadionuclide": "F18"}, "pet", "other_tracer"),
        ({}, "trc-FDG_rec-nacstat_pet", "no_pet"),
    ],
)
def test_the_tracer_is_what_the_name_and_the_sidecar_say_together(data, about, name, code):
    data.add("sub-1/anat/sub-1_T1w.nii", f"sub-1/pet/sub-1_{name}.nii").sidecar("pet.json", **about)
    assert [row.reason_code for row in data.read().ledger] == ([code] if code else [])


def test_a_word_that_names_no_tracer_is_said(data):
    data.add("sub-1/anat/sub-1_T1w.nii", "sub-1/pet/sub-1_pet.nii").sidecar("pet.json", TracerName="F18")
    assert data.read().ledger[0].reason.startswith("'F18' names no tracer")
