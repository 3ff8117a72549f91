"""What the earlier stages left on disk, read by the file contract alone: run folders and the prepared folder."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from adni_tcgm.evaluation.calibration import CROSS_FITTED
from adni_tcgm.files import sha256, verify_checksums

CLASSES = ("stable", "converter")
SPLITS = ("train", "validation", "test")
MODALITIES = ("mri", "pet", "all")
MODALITY_TITLES = {"mri": "MRI", "pet": "FDG-PET", "all": "MRI + FDG-PET"}
OPTIONAL_NUMBERS = ("months_without_dementia", "months_to_death", "months", "field_strength_t", "days_between")
OPTIONAL_WORDS = ("tracer", "diagnosis")
AGE_CAP = 89.0  # HIPAA safe harbor: ages above 89 are not told apart


@dataclass(frozen=True)
class Run:
    """One fit. `predictions` has one row per sample and modality, `splits` one per sample.

    adjustment: what was taken out of regional measurements before training; empty where nothing was.
    """

    folder: Path
    metrics: dict[str, Any]
    predictions: pd.DataFrame
    splits: pd.DataFrame
    calibration: dict[str, Any]
    adjustment: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def month(self) -> str:
        """ "November 2026": when it was trained; empty where the run does not say."""
        found = str(_read_json(self.folder / "environment.json").get("month", ""))
        return f"{date.fromisoformat(f'{found}-01'):%B %Y}" if re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", found) else ""

    @property
    def title(self) -> str:
        return f"{self.metrics['method'].upper()}, {self.metrics['features']}"

    @property
    def austere(self) -> bool:
        """Whether no label but the visible ones was looked at (`protocol`)."""
        return self.metrics.get("protocol") == "austere"

    @property
    def calibration_split(self) -> str:
        """Which rows of `predictions` the calibration was fitted on: of models that did not train on these people."""
        return CROSS_FITTED if self.austere else "validation"

    @property
    def calibrated_on(self) -> str:
        return describe_calibration(self.metrics)

    @property
    def validation_log_loss(self) -> float:
        """Of the combined prediction; infinite where the run did not record it."""
        value = self.metrics.get("validation", {}).get("all", {}).get("log_loss")
        return float("inf") if value is None or not np.isfinite(value) else float(value)


@dataclass(frozen=True)
class Prepared:
    """The prepared folder: `visits` is its manifest indexed by sample id, `regions` and `ledger` its long tables.

    elsewhere: sample id -> the prepared folder of somebody who was added to this one.
    """

    root: Path
    visits: pd.DataFrame
    regions: pd.DataFrame
    ledger: pd.DataFrame
    elsewhere: dict[str, Path] = field(default_factory=dict)

    def home(self, sample_id: str) -> Path:
        """The folder that the paths of this person's row count from."""
        return self.elsewhere.get(sample_id, self.root)

    def volume(self, sample_id: str, modality: str) -> Path | None:
        """Path of a sample's grey-matter (`mri`) or SUVR (`pet`) map; None where the manifest names none."""
        name = self.visits.at[sample_id, {"mri": "gm_path", "pet": "pet_path"}[modality]]
        return self.home(sample_id) / name if name else None


def _read_table(path: Path, numbers: tuple[str, ...] = ()) -> pd.DataFrame:
    """A TSV as text (an id "NA" stays one), with the named columns as floats."""
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    for column in table.columns.intersection(list(numbers)):
        table[column] = pd.to_numeric(table[column], errors="coerce").astype(float)
    return table


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _as_bool(column: pd.Series) -> pd.Series:
    return column.str.strip().str.lower().isin(["true", "1", "1.0", "yes"])


def _require(table: pd.DataFrame, columns: tuple[str, ...], path: Path) -> None:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(f"{path}: column {missing[0]!r} is missing; found: {', '.join(table.columns)}")


def load_run(folder: Path) -> Run:
    """Read a run folder. Raises FileNotFoundError or ValueError naming the file and what is wrong with it."""
    folder = Path(folder).resolve()
    if not (folder / "metrics.json").is_file():
        raise FileNotFoundError(f"{folder} is not a finished run: it has no metrics.json")
    verify_checksums(folder)
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    for key in ("method", "features", "simulated"):
        if key not in metrics:
            raise ValueError(f"{folder / 'metrics.json'}: key {key!r} is missing; found: {', '.join(metrics)}")
    probabilities = tuple(
        f"{log}p_{kind}{name}" for log in ("", "log_") for kind in ("", "calibrated_") for name in CLASSES
    )
    predictions = _read_table(folder / "predictions.tsv", probabilities)
    _require(
        predictions, ("sample_id", "split", "modality", "label", "present", *probabilities), folder / "predictions.tsv"
    )
    predictions["present"] = _as_bool(predictions["present"])
    splits = _read_table(folder / "splits.tsv")
    _require(splits, ("sample_id", "split", "label", "label_visible"), folder / "splits.tsv")
    # People outside the three splits (unlabeled, but of a group that is in one) are not part of the run.
    splits = splits[splits["split"].isin(SPLITS)]
    splits = splits.assign(label_visible=_as_bool(splits["label_visible"]))
    return Run(
        folder=folder,
        metrics=metrics,
        predictions=predictions,
        splits=splits.set_index("sample_id", drop=False),
        calibration=_read_json(folder / "calibration.json"),
        adjustment=_read_json(folder / "adjustment.json"),
    )


def load_prepared(root: Path) -> Prepared:
    """Read the tables of a prepared folder; ages are capped at 89 here, so no page can show a higher one."""
    root = Path(root)
    visits = _read_table(root / "manifest.tsv", ("age", "tiv_ml", "months_to_conversion", *OPTIONAL_NUMBERS))
    # Folders of an older version say less.
    visits = visits.assign(**{name: np.nan for name in OPTIONAL_NUMBERS if name not in visits})
    visits = visits.assign(**{name: "" for name in OPTIONAL_WORDS if name not in visits})
    columns = ("participant_id", "session_id", "kind", "gm_path", "pet_path", "label", "label_reason", "age", "sex")
    _require(visits, (*columns, "site", "tiv_ml", "qc"), root / "manifest.tsv")
    visits["over_age_cap"] = visits["age"] > AGE_CAP
    visits["age"] = visits["age"].clip(upper=AGE_CAP)
    visits["sample_id"] = visits["participant_id"] + "_" + visits["session_id"]
    if visits["sample_id"].duplicated().any():
        twice = visits.loc[visits["sample_id"].duplicated(), "sample_id"].iloc[0]
        raise ValueError(f"{root / 'manifest.tsv'}: {twice} has two rows; a visit must have one")
    regions = _read_table(root / "regions.tsv", ("volume_ml", "suvr"))
    regions["sample_id"] = regions["participant_id"] + "_" + regions["session_id"]
    ledger = root / "ledger.tsv"
    return Prepared(
        root=root,
        visits=visits.set_index("sample_id", drop=False),
        regions=regions,
        ledger=_read_table(ledger) if ledger.is_file() else pd.DataFrame(),
    )


# An id of ADNI's, 011_S_4105, as BIDS spells it.
ADNI_ID = re.compile(r"sub-ADNI\d{3}S\d{4,5}(_ses-.*)?")


def describe_origin(simulated: bool, sample_ids: Iterable[str], acknowledgement: str = "") -> dict[str, str]:
    """kind: simulated, adni (all ids are ADNI's) or other; and the acknowledgement that the user gave."""
    names = list(sample_ids)
    adni = bool(names) and all(ADNI_ID.fullmatch(name) for name in names)
    return {"kind": "simulated" if simulated else "adni" if adni else "other", "acknowledgement": acknowledgement}


def find_prepared(run: Run) -> Path | None:
    """The prepared folder that a run names in its `prepared.json`; None where it is gone or holds other people now."""
    note = run.folder / "prepared.json"
    if not note.is_file():
        return None
    named = json.loads(note.read_text(encoding="utf-8"))
    folder = (run.folder / named["path"]).resolve()
    manifest = folder / "manifest.tsv"
    if not manifest.is_file():
        return None
    if sha256(manifest) != named["manifest_sha256"]:
        warnings.warn(f"{manifest} has changed since {run.name} was trained: its images are left out", stacklevel=2)
        return None
    return folder


@dataclass(frozen=True)
class Posteriors:
    """Uncalibrated log-posteriors, modality -> (B, C), of B samples; present (B, M) bool; label (B,) text."""

    sample_ids: list[str]
    log: dict[str, np.ndarray]
    present: np.ndarray
    label: pd.Series


def list_posteriors(run: Run, rows: pd.DataFrame) -> Posteriors:
    """What the classifiers said before calibration, from rows of `predictions.tsv`, in the shape calibration takes.

    The entry "all" is there only where the run's calibration has no single modality.
    """
    names = [name for name in run.calibration["rescalings"] if name != "all"] or ["all"]
    parts = {name: rows[rows["modality"] == name].set_index("sample_id") for name in names}
    order = parts[names[0]].index
    columns = [f"log_p_{name}" for name in CLASSES]
    log = {n: part.loc[order, columns].to_numpy(float) for n, part in parts.items()}
    present = np.stack([part.loc[order, "present"].to_numpy(bool) for part in parts.values()], axis=1)
    return Posteriors(list(order), log, present[:, : 0 if names == ["all"] else None], parts[names[0]]["label"])


def log_odds(rows: pd.DataFrame) -> pd.Series:
    """Calibrated log odds of conversion of rows of `predictions.tsv`, which keep the order of extreme probabilities."""
    return rows["log_p_calibrated_converter"] - rows["log_p_calibrated_stable"]


def label_budget(run: Run) -> pd.DataFrame:
    """The labels that a run knew: visible training labels and, by the paper's protocol, those of validation."""
    knew = (run.splits["split"] == "train") & run.splits["label_visible"]
    if not run.austere:
        knew |= run.splits["split"] == "validation"
    known = run.splits[knew]
    return known[known["label"].isin(CLASSES)]


def describe_calibration(metrics: dict[str, Any]) -> str:
    """The end of a sentence: which labels chose and calibrated a run."""
    if metrics.get("protocol") != "austere":
        return (
            f"chosen and calibrated on {metrics.get('labels', {}).get('validation', '?')} labeled validation subjects"
        )
    about = metrics.get("calibration", {})
    if about.get("applied"):
        return f"no other label was looked at; calibrated by cross-fitting these {about['samples']}"
    reason = about.get("why", "cross-fitting these showed a higher log-loss with it")
    return f"no other label was looked at; not calibrated, since {reason}"


def choose_headline(runs: list[Run]) -> Run:
    """The run behind the headline probability, among TCGM's if there are any.

    By the austere protocol regions come before voxels, as fixed beforehand; else the lowest validation log-loss counts.
    """
    candidates = [run for run in runs if run.metrics["method"] == "tcgm"] or runs
    if any(run.austere for run in candidates):
        return min(candidates, key=lambda run: (run.metrics["features"] != "regions", run.name))
    return min(candidates, key=lambda run: (run.validation_log_loss, run.name))
