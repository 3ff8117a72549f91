"""SUVR of drawn heads against the uptake that was drawn: by region, by reference region, with the correction for
partial volume, and of two sessions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from benchmarks.heads import judges, measured, pet, rendering
from preprocessing.steps import partial_volume, regions, register, suvr
from preprocessing.subject.folder import SubjectFolder
from preprocessing.subject.plan import SubjectTask
from preprocessing.subject.t1 import PROBABILITIES, SEGMENTED

DEFAULT = "pons"


def judge_pet(heads: list[judges.Head], out: Path) -> pd.DataFrame:
    """Long table of true and found SUVRs (columns `judges.VALUES`). Cortical rows are reported for information.

    Judges: "pet", what the default recipe reports against truth at the same resolution; "pet, REFERENCE", the same with
    another reference region; "pet, sharp", against truth before any blur, and "pet, sharp, muller-gartner", the
    corrected SUVR; "pet, retest", the second session of a head, where one is prepared, against the first.
    """
    rows = []
    for head in tqdm(heads, desc="SUVR", unit="head"):
        tasks = {kind: head.task(out, kind) for kind in judges.WITH_PET}
        truth, found = _truth(head, out), {kind: _found(task, out) for kind, task in tasks.items()}
        locked = "locked, " if head.judge == "locked" else ""
        qc = measured.verdict(tasks["first"], out / "prepared")
        for judge, (true, values) in _pairs(truth, **found).items():
            table = pd.DataFrame({"true": true, "found": values}).dropna().reset_index()
            table = table[table.region.isin(true.index.get_level_values("region"))]
            table["measure"] = "SUVR " + table.region
            rows.append(table.assign(judge=locked + judge, head=head.name, dice=np.nan, qc=qc))
    return pd.concat(rows, ignore_index=True)[judges.VALUES]


def _pairs(
    truth: pd.DataFrame, first: dict[str, pd.Series], again: dict[str, pd.Series]
) -> dict[str, tuple[pd.Series, pd.Series]]:
    """True and found SUVRs by judge, indexed by region and side."""
    if not first:
        return {}
    ratios = {name: truth / truth.loc[name, "both"] for name in suvr.REFERENCES}
    pairs = {"pet" if name == DEFAULT else f"pet, {name}": (ratios[name].seen, first[name]) for name in ratios}
    pairs["pet, sharp"] = ratios[DEFAULT].sharp, first[DEFAULT]
    pairs["pet, sharp, muller-gartner"] = ratios[DEFAULT].sharp, first["muller-gartner"]
    for name in ratios if again else ():
        measured_before = first[name].reindex(truth.index)
        pairs["pet, retest" if name == DEFAULT else f"pet, retest, {name}"] = measured_before, again[name]
    return pairs


def _truth(head: judges.Head, out: Path) -> pd.DataFrame:
    """`pet.true_uptake`, kept in a file, by region and side."""
    cache = out / "truth" / f"{head.name.replace(' ', '')}_uptake.tsv"
    if not cache.is_file():
        cache.parent.mkdir(parents=True, exist_ok=True)
        pet.true_uptake(rendering.read_labels(head.file), head.number).to_csv(cache, sep="\t", index=False)
    return pd.read_csv(cache, sep="\t").set_index(["region", "side"])


def _found(task: SubjectTask, out: Path) -> dict[str, pd.Series]:
    """SUVR by region and side with each reference region, and corrected for partial volume: by the product's functions
    on the maps that it wrote. Empty without such maps."""
    folder, ending = SubjectFolder(task, out / "prepared"), f"desc-suvr{suvr.REFERENCES[DEFAULT].word}_pet"
    if not folder.map(ending).is_file():
        return {}
    ratio, tissues = folder.read_map(ending), np.stack([folder.read_map(each) for each in PROBABILITIES])
    segmented = {region: folder.read_map(each) for region, each in SEGMENTED.items()}
    gray, white = suvr.gray_and_white(tissues, segmented)
    everywhere = np.ones(ratio.shape, bool)
    found = {
        name: _by_region(suvr.compute_suvr(ratio, everywhere, name)[0], gray, segmented) for name in suvr.REFERENCES
    }
    scale = np.cbrt(register.affine_determinant(folder.transforms.affine))
    widths = np.array(folder.read_sidecar(ending)["EffectiveResolutionFWHM_mm"]) / scale
    corrected = partial_volume.correct(ratio, gray, white, widths)
    return found | {"muller-gartner": _by_region(ratio, gray, segmented, corrected)}


def _by_region(
    ratio: np.ndarray, gray: np.ndarray, segmented: Mapping[str, np.ndarray], corrected: np.ndarray | None = None
) -> pd.Series:
    counted = regions.GreyUptake(gray, corrected, segmented)
    table = regions.measure_regions(np.ones(ratio.shape, np.float32), suvr=ratio, gray=counted)
    cortical = table[table.region.isin(pet.CORTICAL)]
    cortical = cortical.assign(region="cortex: " + cortical.region)
    return pd.concat([table, cortical]).set_index(["region", "side"]).suvr
