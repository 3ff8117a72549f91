"""Whom a prepared folder's manifest names, and what is known of them: outcome, unknown outcome, not to be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from adni_tcgm.tcgm.batch import UNLABELED

CLASSES = ("stable", "converter")
# MCI whose outcome within the horizon nobody knows: they train without a label.
POOL = ("censored", "died", "short_follow_up", "reverter")
UNKNOWN = ("no_diagnosis", "unknown_visit")
UNUSED = ("not_mci", *UNKNOWN, "cn", "ad")
# People without MCI train without a label, too, where a config asks for them. They are another population, of another
# class prior, and make a nuisance group of their own.
BEYOND = ("cn", "ad")
# Further visits of people, where a manifest has them: one visit of a person has a label.
VISITS = "visits"
VISIT = "another visit"


def read_people(
    path: str | Path, undiagnosed: bool = False, pool: Sequence[str] = POOL
) -> tuple[pd.DataFrame, Counter]:
    """The rows of `manifest.tsv` that can be used, with `sample_id` and `status` added, and how many others and why.

    undiagnosed: people without any diagnosis count as usable, as for a prediction. pool: as in `AdniConfig`.
    `status` is the manifest's label or, where that is empty, its label_reason: stable, converter, censored, reverter.
    """
    manifest = Path(path) / "manifest.tsv"
    if not manifest.is_file():
        raise FileNotFoundError(f"{manifest}: no manifest here; a prepared folder is written by the preprocess stage")
    people = pd.read_csv(manifest, sep="\t", dtype=str, keep_default_na=False)
    people["sample_id"] = people.participant_id + "_" + people.session_id
    people["status"] = people.label.where(people.label != "", people.label_reason)
    _check_people(people, manifest)
    reasons = pd.Series("", index=people.index)
    reasons[people.gm_path.eq("") & people.pet_path.eq("")] = "no images"
    wanted = {*CLASSES, *pool, *(UNKNOWN if undiagnosed else ())}
    people.loc[_further_visits(people), "status"] = VISIT
    wanted |= {VISIT} if VISITS in pool else set()
    unused = ~people.status.isin(wanted)
    reasons[unused] = people.status
    reasons[people.qc == "fail"] = "qc fail"
    kept = people[reasons == ""].reset_index(drop=True)
    return kept, Counter(reasons[reasons != ""])


def _further_visits(people: pd.DataFrame) -> pd.Index:
    """Rows of labeled visits that do not give their person's label: the earliest with both images does, if any."""
    labeled = people[people.status.isin(CLASSES) & (people.qc != "fail")]
    months = pd.to_numeric(labeled.get("months"), errors="coerce") if "months" in labeled else 0.0
    order = labeled.assign(incomplete=labeled.gm_path.eq("") | labeled.pet_path.eq(""), months=months)
    order = order.sort_values(["incomplete", "months", "session_id"], kind="stable")
    return order.index[order.participant_id.duplicated()]


def _check_people(people: pd.DataFrame, manifest: Path) -> None:
    repeated = people.sample_id[people.sample_id.duplicated()]
    if len(repeated):
        raise ValueError(f"{repeated.iloc[0]} stands twice in {manifest}; a visit of a person has one row")
    groups = people.groupby("participant_id").group_id.nunique()
    if (groups > 1).any():
        raise ValueError(f"{groups.idxmax()} has {groups.max()} group_ids in {manifest}; a person belongs to one group")
    known = CLASSES + POOL + UNUSED
    strange = people[~people.status.isin(known)]
    if len(strange):
        person = strange.iloc[0]
        raise ValueError(f"{person.sample_id} has label {person.status!r} in {manifest}; known: {', '.join(known)}")


def class_index(people: pd.DataFrame) -> np.ndarray:
    """(N,) index of each person's class, by `status`; UNLABELED where it is no class.

    >>> class_index(pd.DataFrame({"status": ["converter", "censored"]})).tolist()
    [1, -1]
    """
    index = {name: position for position, name in enumerate(CLASSES)}
    return people.status.map(lambda status: index.get(status, UNLABELED)).to_numpy(dtype=np.int64)
