"""All visits of a person on demand: each with its own session, label and PET, and one of them labeled in training."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from preprocessing.cohort.run import preprocess_cohort
from preprocessing.intake.adni import read_download

SCALED = "MPR; GradWarp; B1 Correction; N3; Scaled"
FDG = "Coreg, Avg, Std Img and Vox Siz, Uniform Resolution"
VISITS = {"bl": "2006-03-01", "m06": "2006-09-01", "m12": "2007-03-01", "m24": "2008-03-01"}


@pytest.fixture
def raw(download) -> Path:
    """MCI until month 12, dementia at 24; T1s at all visits but a failed one at 12, FDGs at 6 and 24."""
    for visit, date in VISITS.items():
        download.add_image("001_S_0001", SCALED, visit=visit, date=date, file=visit != "m12")
    download.add_image("001_S_0001", FDG, visit="m06", date="2006-08-20", modality="PET")
    download.add_image("001_S_0001", FDG, visit="m24", date="2008-03-05", modality="PET")
    download.add_image("001_S_0002", SCALED)
    for ptid in ("001_S_0001", "001_S_0002"):
        download.add_diagnoses(ptid, bl=2, m06=2, m12=2, m24=3, m36=3)
    return download.write()


def test_one_visit_is_the_earliest_with_mci_and_a_pair(raw):
    (person, other) = read_download(raw).people
    assert (person.session_id, person.months, person.label.label) == ("ses-M006", 6, "converter")
    assert other.session_id == "ses-M000"


def test_all_visits_have_their_own_label_and_the_pet_nearest_to_them(raw):
    intake = read_download(raw, visits="all", pair_days=400)
    visits = {p.session_id: p for p in intake.people if p.participant_id.endswith("0001")}
    assert list(visits) == ["ses-M000", "ses-M006", "ses-M024"]
    assert {s: p.label.reason for s, p in visits.items()} == {
        "ses-M000": "converter",
        "ses-M006": "converter",
        "ses-M024": "not_mci",
    }
    assert {s: p.label.months_to_conversion for s, p in visits.items()} == {
        "ses-M000": 24,
        "ses-M006": 18,
        "ses-M024": None,
    }
    assert {s: p.pet and p.pet.days_from_t1 for s, p in visits.items()} == {
        "ses-M000": None,  # the FDG of month 6 lies within 400 days, and nearer to another visit
        "ses-M006": 12,
        "ses-M024": 4,
    }
    rows = {(row.session_id, row.modality): row.reason_code for row in intake.ledger if "0001" in row.participant_id}
    assert rows == {
        ("ses-M000", "pet"): "no_pet",
        ("ses-M012", "mri"): "missing_file",
        ("ses-M012", "pet"): "no_t1",
    }
    assert "nearer to another visit" in next(row.reason for row in intake.ledger if row.session_id == "ses-M000")


def test_every_visit_is_prepared_once_and_has_its_own_rows(raw, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    import stub_workers

    prepared = tmp_path / "prepared"
    for processed in (4, 0):
        summary = preprocess_cohort(
            raw,
            prepared,
            jobs=0,
            progress=False,
            worker=lambda *task: stub_workers.pretend(*task, bad=False),
            visits="all",
        )
        assert (summary.processed, summary.raw) == (processed, 4)
    tables = {
        name: pd.read_csv(prepared / f"{name}.tsv", sep="\t", dtype=str)
        for name in ("manifest", "regions", "ledger", "people", "chosen_scans")
    }
    sessions = ["ses-M000", "ses-M006", "ses-M024", "ses-M000"]
    assert tables["manifest"].session_id.tolist() == tables["people"].session_id.tolist() == sessions
    assert tables["manifest"].months.tolist() == ["0", "6", "24", "0"]
    assert set(map(tuple, tables["regions"][["participant_id", "session_id"]].to_numpy())) == set(
        map(tuple, tables["manifest"][["participant_id", "session_id"]].to_numpy())
    )
    assert not tables["ledger"].duplicated(["participant_id", "session_id", "modality"]).any()
    assert len(tables["ledger"]) == 2 * 5


def test_all_sessions_of_a_bids_data_set_are_visits_too(data):
    scans = ["sub-1/ses-M000/anat/sub-1_ses-M000_T1w.nii.gz", "sub-1/ses-M012/anat/sub-1_ses-M012_T1w.nii.gz"]
    data.add(*scans, "sub-1/ses-M012/pet/sub-1_ses-M012_trc-FDG_pet.nii.gz")
    data.table("participants.tsv", "participant_id diagnosis_history", "sub-1 0:MCI,12:MCI,24:AD")
    assert [p.session_id for p in data.read(pair_days=400).people] == ["ses-M000"]
    intake = data.read(pair_days=400, visits="all")
    assert [(p.session_id, p.months, p.label.months_to_conversion) for p in intake.people] == [
        ("ses-M000", 0, 24),
        ("ses-M012", 12, 12),
    ]
    assert [p.pet and p.pet.days_from_t1 for p in intake.people] == [None, 0]
    assert [(row.session_id, row.modality, row.reason_code) for row in intake.ledger] == [("ses-M000", "pet", "no_pet")]
