"""`python -m reports.figure7 RUN_DIR`: converters whom CE misses and TCGM finds, in the manner of the paper's Figure 7.

Rows: grey-matter volume (red) and SUVR (blue), and beside each map how far it lies below what is usual at that age.
Columns: the chosen people between the means of the stable and the converting people whose labels training saw.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np

from adni_tcgm.command import add_debug, run_command
from adni_tcgm.evaluation.clinical import compare_decisions
from adni_tcgm.privacy import pseudonym, pseudonym_key
from reports import overlays
from reports.evidence import CALIBRATED, labeled_rows
from reports.mosaic import Panel, Row, draw_mosaic
from reports.records import (
    CLASSES,
    MODALITIES,
    MODALITY_TITLES,
    Prepared,
    Run,
    describe_origin,
    find_prepared,
    load_prepared,
    load_run,
)
from reports.subject import model_hash, show_age
from reports.tables import fixed
from reports.typesetting import show_missing_glyphs, typeset

SHOWN_PEOPLE = 3
# The cut through each modality's most telling place.
CUT = {"mri": overlays.CUTS[0], "pet": overlays.CUTS[2]}
SMALLEST_REFERENCE = 5


@dataclass(frozen=True)
class Miss:
    """A converter whom CE misses in a modality and TCGM finds in it and in the end; probabilities are calibrated."""

    sample_id: str
    modality: str
    by_ce: float
    by_tcgm: float
    combined: float


def find_misses(tcgm: Run, ce: Run) -> list[Miss]:
    """Test converters below .5 by CE in a modality, at or above .5 by TCGM in it and combined; clearest first."""
    combined, found = labeled_rows(tcgm, "test")[CALIBRATED], []
    for modality in MODALITIES[:2]:
        ours, theirs = (labeled_rows(run, "test", modality) for run in (tcgm, ce))
        for sample_id in ours.index[ours["converter"] == 1].intersection(theirs.index):
            values = theirs.at[sample_id, CALIBRATED], ours.at[sample_id, CALIBRATED], combined.get(sample_id, 0.0)
            if values[0] < 0.5 <= min(values[1:]):
                found.append(Miss(sample_id, modality, *map(float, values)))
    return sorted(found, key=lambda miss: (miss.by_ce - miss.by_tcgm, miss.sample_id))


def count_both_ways(tcgm: Run, ce: Run) -> list[dict[str, str]]:
    """By modality: test people, and among them converters, whom only TCGM and only CE get right; McNemar's p."""
    rows = []
    for modality in MODALITIES:
        ours, theirs = (labeled_rows(run, "test", modality) for run in (tcgm, ce))
        both = ours.index.intersection(theirs.index)
        ours, theirs = ours.loc[both], theirs.loc[both]
        right = [(table[CALIBRATED] >= 0.5).astype(int) == table["converter"] for table in (ours, theirs)]
        all_people, p = compare_decisions(*right), None
        p = all_people.p_value
        converter = ours["converter"] == 1
        only = compare_decisions(*(values[converter] for values in right)) if converter.any() else None
        rows.append(
            {
                "modality": MODALITY_TITLES[modality],
                "n": str(len(both)),
                "tcgm": str(all_people.first_only),
                "ce": str(all_people.second_only),
                "tcgm_converters": str(only.first_only) if only else "–",
                "ce_converters": str(only.second_only) if only else "–",
                "p": fixed(p, 3),
            }
        )
    return rows


@dataclass(frozen=True)
class Reference:
    """What is usual: voxel-wise mean, slope over age and residual SD of visibly stable training people."""

    mean: np.ndarray
    slope: np.ndarray
    sd: np.ndarray
    age: float
    n: int
    affine: np.ndarray

    def deficit(self, image: nib.Nifti1Image, age: float) -> nib.Nifti1Image:
        """How many SD a map lies below what is usual at that age; an unknown age counts as the reference's mean."""
        years = age - self.age if np.isfinite(age) else 0.0
        values = image.get_fdata(dtype=np.float32)
        z = (self.mean + self.slope * years - values) / np.where(self.sd > 0, self.sd, np.inf)
        return nib.Nifti1Image(z.astype(np.float32), self.affine)


def fit_reference(images: list[nib.Nifti1Image], ages: np.ndarray) -> Reference:
    """Least squares of each voxel on age. Raises ValueError with fewer than five people."""
    if len(images) < SMALLEST_REFERENCE:
        raise ValueError(f"{len(images)} visibly stable training people with maps; a reference needs 5")
    values = np.stack([image.get_fdata(dtype=np.float32) for image in images])
    ages = np.where(np.isfinite(ages), ages, np.nanmean(ages))
    years = (ages - ages.mean()).astype(np.float32)
    spread = float((years**2).sum())
    mean = values.mean(0)
    slope = np.tensordot(years, values, 1) / spread if spread > 0 else np.zeros_like(mean)
    residuals = values - mean - years[:, None, None, None] * slope
    sd = np.sqrt((residuals**2).sum(0) / (len(images) - 2))
    # Few people give a few voxels hardly any spread: no voxel counts as steadier than the median of them.
    inside = sd > 0
    sd = np.where(inside, np.maximum(sd, np.median(sd[inside]) if inside.any() else 1.0), 0)
    return Reference(mean, slope, sd, float(ages.mean()), len(images), images[0].affine)


def list_visible(run: Run, label: str) -> list[str]:
    """Training people whose label was shown; hidden labels and other splits never enter a reference."""
    rows = run.splits
    return list(rows.index[(rows["split"] == "train") & rows["label_visible"] & (rows["label"] == label)])


def load_group(prepared: Prepared, sample_ids: list[str], modality: str) -> tuple[list[nib.Nifti1Image], np.ndarray]:
    paths = {i: prepared.volume(i, modality) for i in sample_ids if i in prepared.visits.index}
    kept = {i: path for i, path in paths.items() if path is not None and path.is_file()}
    ages = prepared.visits.loc[list(kept), "age"].to_numpy(float)
    return [overlays.load_map(path) for path in kept.values()], ages


@dataclass(frozen=True)
class Column:
    """One column: a title, and by modality a map and its deficit; None where there is no such scan."""

    title: str
    maps: dict[str, tuple[nib.Nifti1Image, nib.Nifti1Image] | None]


def gather_columns(prepared: Prepared, run: Run, misses: list[Miss]) -> tuple[list[Column], dict[str, int]]:
    """Mean of the visibly stable, the chosen people, mean of the visible converters; and the references' sizes."""
    columns: dict[str, dict] = {}
    sizes, key = {}, pseudonym_key(run.folder)
    for modality in MODALITIES[:2]:
        stable, ages = load_group(prepared, list_visible(run, "stable"), modality)
        reference = fit_reference(stable, ages)
        groups = {"stable": (stable, ages), "converter": load_group(prepared, list_visible(run, "converter"), modality)}
        sizes[modality] = reference.n
        for label in CLASSES:
            images, years = groups[label]
            mean = overlays.mean_map(images) if images else None
            shown = (mean, reference.deficit(mean, float(np.nanmean(years)))) if images else None
            columns.setdefault(f"mean of visible\n{label}", {})[modality] = shown
        for miss in misses:
            path = prepared.volume(miss.sample_id, modality)
            visit = prepared.visits.loc[miss.sample_id]
            title = f"{_short(pseudonym(visit['participant_id'], key))}\n{show_age(visit)} y, {visit['sex'] or '?'}"
            image = overlays.load_map(path) if path is not None and path.is_file() else None
            shown = (image, reference.deficit(image, float(visit["age"]))) if image else None
            columns.setdefault(title, {})[modality] = shown
    built = [Column(title, maps) for title, maps in columns.items()]
    return [built[0], *built[2:], built[1]], sizes


def _show(sample_id: str, key: bytes) -> str:
    participant_id, mark, session = sample_id.partition("_ses-")
    return pseudonym(participant_id, key) + mark + session


def _short(name: str) -> str:
    return show_missing_glyphs(name if len(name) <= 18 else f"{name[:17]}…")


def draw_columns(columns: list[Column]) -> bytes:
    """SVG: a row of maps and a row of deficits for each modality, the same scales in all columns."""
    rows = []
    for modality in MODALITIES[:2]:
        scale, cut = overlays.SCALES[modality], CUT[modality]
        maps: list[Panel | str] = []
        deficits: list[Panel | str] = []
        for column in columns:
            pair, title = column.maps[modality], "" if rows else column.title
            if pair is None:
                maps.append(f"no {MODALITY_TITLES[modality]}")
                deficits.append("")
                continue
            below = nib.Nifti1Image(-pair[1].get_fdata(dtype=np.float32), pair[1].affine)
            maps.append(overlays.map_panel(pair[0], modality, cut, title))
            deficits.append(overlays.map_panel(below, f"{modality}_deficit", cut))
        bar = replace(overlays.bar_of(f"{modality}_deficit"), label="SD below usual\nat this age")
        rows.append(Row(MODALITY_TITLES[modality], scale.colors[1], maps, overlays.bar_of(modality)))
        rows.append(Row("deficit", scale.colors[1], deficits, bar))
    return draw_mosaic(rows)


def find_rival(run_dir: Path) -> Path:
    """The run of cross-entropy on the same split: `voxels-ce-r0.1-s0` beside `voxels-tcgm-r0.1-s0`."""
    parts = run_dir.name.split("-")
    return run_dir.parent / "-".join([parts[0], "ce", *parts[2:]])


def describe_figure(tcgm: Run, ce: Run, prepared: Prepared) -> tuple[dict, dict[str, bytes]]:
    if not tcgm.splits["split"].equals(ce.splits["split"]):
        raise ValueError(f"{tcgm.name} and {ce.name} do not share one split: their people cannot be compared")
    misses = find_misses(tcgm, ce)
    # One person once, by the clearest modality.
    people = list({miss.sample_id: miss for miss in reversed(misses)}.values())[::-1]
    chosen = sorted(people, key=lambda miss: miss.by_ce - miss.by_tcgm)[:SHOWN_PEOPLE]
    columns, sizes = gather_columns(prepared, tcgm, chosen)
    key = pseudonym_key(tcgm.folder)
    rows = [
        {
            "id": _show(miss.sample_id, key),
            "modality": MODALITY_TITLES[miss.modality],
            **{key: f"{100 * getattr(miss, key):.0f} %" for key in ("by_ce", "by_tcgm", "combined")},
        }
        for miss in misses
    ]
    data = {
        "simulated": bool(tcgm.metrics["simulated"]),
        "origin": describe_origin(bool(tcgm.metrics["simulated"]), tcgm.splits.index),
        "run": tcgm.name,
        "rival": ce.name,
        "model": model_hash(tcgm),
        "counts": count_both_ways(tcgm, ce),
        "misses": rows if tcgm.metrics["simulated"] else [],
        "found": str(len(misses)),
        "shown": str(len(chosen)),
        "cuts": {MODALITY_TITLES[m]: overlays.cut_title(cut) for m, cut in CUT.items()},
        "references": {MODALITY_TITLES[m]: str(n) for m, n in sizes.items()},
    }
    return data, {"columns.svg": draw_columns(columns)}


def write_figure7(run_dir: Path, rival_dir: Path | None = None, destination: Path | None = None) -> Path:
    """Write `figure7.pdf` into the run's reports. Raises FileNotFoundError or ValueError naming what is missing."""
    tcgm = load_run(run_dir)
    ce = load_run(rival_dir or find_rival(tcgm.folder))
    folder = find_prepared(tcgm)
    if folder is None:
        raise FileNotFoundError(f"{tcgm.folder}: its prepared folder is gone; the figure shows its maps")
    data, drawn = describe_figure(tcgm, ce, load_prepared(folder))
    return typeset("figure7", data, drawn, (destination or tcgm.folder.parent.parent / "reports") / "figure7.pdf")


def _run(options: argparse.Namespace) -> int:
    print(write_figure7(options.run_dir, options.rival, options.out))
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m reports.figure7", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="a run of TCGM")
    parser.add_argument("--rival", type=Path, metavar="RUN_DIR", help="default: the run of CE beside it")
    parser.add_argument("--out", type=Path, help="default: reports/ beside the runs folder")
    add_debug(parser)
    options = parser.parse_args(arguments)
    return run_command(_run, options, options.out)


if __name__ == "__main__":
    raise SystemExit(main())
