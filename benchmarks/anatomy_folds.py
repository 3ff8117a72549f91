"""Simulated cohorts whose people have the heads of label maps, in folds: no head has people who train and are tested.

The folds are those of the networks (`preprocessing.simulated.folds`), four of the twenty heads each: people of a fold
are measured by networks that never saw their heads, and judged by classifiers that never saw them either.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from adni_tcgm.datasets.adni_people import CLASSES
from adni_tcgm.files import write_text
from adni_tcgm.tables import to_tsv
from benchmarks import simulated_cohort
from pipelines.truth import Truth
from preprocessing.intake.labels import LabelRule
from preprocessing.simulated.folds import folds_of
from preprocessing.simulated.label_maps import label_map_files
from preprocessing.simulated.people import CohortDesign

# Whom `run_adni` labels by default.
RULE = LabelRule(classes=("cn", *CLASSES, "ad"))
# The last file of a prepared folder to be written.
DESCRIPTION = "dataset_description.json"


def prepare(out: Path, seed: int, anatomies: Path, **design: float) -> list[tuple[Path, Path]]:
    """The cohort of that seed by the full path: a prepared folder of training people and one of test people a fold.

    Tables alone; the maps (0.4 GB) are deleted once these are written. What registration finds of the heads lies in
    `out`, for all cohorts.
    """
    folder = out / str(seed)
    folds = _folds(anatomies)
    pairs = [(folder / f"fold-{fold}" / "train", folder / f"fold-{fold}" / "test") for fold in sorted(set(folds))]
    if not (pairs[-1][1] / DESCRIPTION).is_file():
        cohort = folder / "cohort"
        _share_heads(out / "anatomies", cohort / "truth" / "anatomies")
        people = CohortDesign(raw=0, truncated=0, seed=seed, **design)
        prepared = simulated_cohort.prepare(cohort, people, jobs=1, rule=RULE, anatomies=anatomies)
        head = Truth.read(cohort / "truth").people.anatomy
        fold = {participant: folds[number] for participant, number in head.items()}
        for number, (train, test) in enumerate(pairs, start=1):
            split(prepared, fold, number, train, test)
        for maps in prepared.glob("sub-*"):
            shutil.rmtree(maps)
    return pairs


def _folds(anatomies: Path) -> list[int]:
    """Of each head. Raises ValueError where there is one that networks were not trained on: it has no fold."""
    files = label_map_files(anatomies)
    folds = folds_of(files)
    for file, fold in zip(files, folds, strict=True):
        if fold is None:
            raise ValueError(f"{file}: not one of the twenty heads of the networks' folds; leave it out of the folder")
    return [fold for fold in folds if fold]


def _share_heads(shared: Path, link: Path) -> None:
    shared.mkdir(parents=True, exist_ok=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(shared.resolve(), target_is_directory=True)


def split(prepared: Path, fold: Mapping[str, int], tested: int, train: Path, test: Path) -> None:
    """Write `train`, everybody of `prepared` whose head is of another fold, and `test`, stable and converting people of
    fold `tested`: manifest, regions, description. fold: by participant_id."""
    manifest, regions = (
        pd.read_csv(prepared / name, sep="\t", dtype=str, keep_default_na=False)
        for name in ("manifest.tsv", "regions.tsv")
    )
    inside = manifest.participant_id.map(fold) == tested
    for folder, rows in ((train, manifest[~inside]), (test, manifest[inside & manifest.label.isin(CLASSES)])):
        write_text(folder / "manifest.tsv", to_tsv(rows))
        write_text(folder / "regions.tsv", to_tsv(regions[regions.participant_id.isin(rows.participant_id)]))
        write_text(folder / DESCRIPTION, (prepared / DESCRIPTION).read_text(encoding="utf-8"))
