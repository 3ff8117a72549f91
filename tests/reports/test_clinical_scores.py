"""Clinical scores beside imaging: alone, the imaging alone, both; fitted on validation people and judged on others."""

from __future__ import annotations

import numpy as np
import pytest

from reports.clinical_scores import clinical_section, compare, load_scores, split_baselines
from reports.cohort import describe_cohort
from reports.gathering import gather_cohort
from reports.records import load_prepared, load_run
from tests.reports.conftest import build_outputs, run_folders


@pytest.fixture
def cohort(tmp_path):
    build_outputs(tmp_path)
    runs = [load_run(folder) for folder in run_folders(tmp_path)[:1]]
    return gather_cohort(runs, load_prepared(tmp_path / "prepared"))


def write_scores(cohort, **scores):
    visits = cohort.prepared.visits
    table = visits[["participant_id", "session_id"]].assign(**scores)
    table.to_csv(cohort.prepared.root / "clinical.tsv", sep="\t", index=False)


def telling(cohort) -> np.ndarray:
    """A score that knows the class, hidden or not."""
    return 25.0 + 3 * (cohort.prepared.visits["label"] == "stable") + np.arange(len(cohort.prepared.visits)) % 2


def area(row: dict[str, str]) -> float:
    return float(row["auc"].split()[0])


def test_without_scores_there_is_no_such_section(cohort):
    assert clinical_section(cohort, []) is None


def test_a_telling_score_beats_a_poor_image_and_the_difference_has_its_interval(cohort):
    write_scores(cohort, mmse=telling(cohort), adas13="")
    clinical, imaging, both = compare(cohort, load_scores(cohort))
    assert area(clinical) > area(imaging)
    assert imaging["difference"].startswith("−") and clinical["difference"] == "–"
    assert area(both) > area(imaging)


def test_imaging_is_added_to_mmse_and_adas_without_the_other_scores(cohort):
    write_scores(cohort, mmse=telling(cohort), adas13=np.arange(len(cohort.prepared.visits)) % 3, cdrsb=0.5)
    names = [row["name"] for row in compare(cohort, load_scores(cohort))]
    assert names[3:] == ["MMSE and ADAS-Cog 13", "MMSE and ADAS-Cog 13, and imaging"]
    rows = compare(cohort, load_scores(cohort))
    assert rows[3]["difference"] == "–" and "to" in rows[4]["difference"]
    write_scores(cohort, cdrsb=telling(cohort))
    assert len(compare(cohort, load_scores(cohort))) == 3


def test_hidden_training_labels_play_no_part(cohort):
    write_scores(cohort, mmse=telling(cohort))
    before = compare(cohort, load_scores(cohort))
    splits = cohort.headline.splits
    hidden = splits.index[splits["split"] == "train"]
    splits.loc[hidden, "label"] = "stable"
    rows = cohort.headline.predictions
    rows.loc[rows["split"] == "train", "label"] = "stable"
    assert compare(cohort, load_scores(cohort)) == before


def test_a_column_that_nobody_has_is_no_score_and_gaps_are_named(cohort):
    mmse = telling(cohort)
    mmse.iloc[::2] = np.nan
    write_scores(cohort, mmse=mmse, cdrsb="")
    section = clinical_section(cohort, [])
    assert "CDR" not in section["scores"]
    assert section["scores"].startswith("MMSE (known of ")


def test_the_probability_of_the_run_is_not_changed_by_a_clinical_table(cohort):
    before = describe_cohort(cohort, [])[0]["metrics"]
    write_scores(cohort, mmse=telling(cohort))
    data = describe_cohort(cohort, [])[0]
    assert data["metrics"] == before
    stated = next(row["auc"] for row in before if row["kind"] == "run" and row["modality"] == "MRI + FDG-PET")
    assert area(data["clinical"]["rows"][1]) == pytest.approx(float(stated), abs=0.011)


def test_bars_of_clinical_scores_stand_in_their_own_section(cohort):
    rows = [
        {"baseline": name, "labels": "visible", "modality": "all", "split": "test", "auc": 0.7} for name in ("a", "b")
    ]
    rows += [dict(rows[0], baseline="clinical: age + sex + mmse"), dict(rows[0], baseline="clinical + imaging")]
    clinical, others = split_baselines(rows)
    assert [baseline["baseline"] for baseline in others] == ["a", "b"]
    write_scores(cohort, mmse=telling(cohort))
    shown = clinical_section(cohort, clinical)["baselines"]
    assert [(row["name"], row["visible"], row["more"]) for row in shown] == [
        ("clinical scores", "0.70", "–"),
        ("clinical + imaging", "0.70", "–"),
    ]
