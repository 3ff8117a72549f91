"""Measurements against truth that this project did not make: `python -m benchmarks.heads OUT --brains DIR`.

Judges (`--judge`, repeatable; default: all):
  heads     T1s drawn from label maps of real heads, in two renderings, against the heads' own labels
  retest    a second session of each head, and real T1s on another grid, against the first
  real      a real T1 against the segmentation that came with it
  pet       SUVR against uptake drawn from the heads' labels; simulated people and a real FDG template against
            published means of 537 normal scans
  msd       real hippocampus crops with manual labels
  response  known changes put into real images (with --bidsgate COMMAND also by that tool)

DIR holds label_maps/, t1/, hippocampus_msd/, fdg_template/, mni152_2mm/ and fdg_cn_region_summary.csv. Writes
OUT/heads.tsv, one row a measure, and OUT/values.tsv, every pair of values with the verdict of quality control. What is
prepared is not prepared again. The last four heads and two thirds of the crops are locked: they are left out unless
--locked asks for them alone, and each such look belongs into RESULTS.md.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pandas as pd

from benchmarks.heads import crops, injected, judges, pet, uptake
from benchmarks.heads.agreement import COLUMNS, summarize
from benchmarks.simulated_cohort import NOBODY_ELSE, prepare
from preprocessing.simulated.people import CohortDesign
from preprocessing.steps import register

JUDGES = ("heads", "retest", "real", "pet", "msd", "response")
NORMAL_PEOPLE = 60
PRINTED = [column for column in COLUMNS if column not in ("judge", "measure")]


def collect(judge: str, arguments: argparse.Namespace) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """Pairs of values, and rows of the table that are finished already; None where a judge has none of a kind."""
    brains, out, locked = arguments.brains, arguments.out, arguments.locked
    if judge in ("heads", "retest", "pet"):
        kinds = {"heads": ("first", "second"), "retest": ("first", "again"), "pet": ("first", "again")}[judge]
        heads = judges.heads_of(brains, locked)[: arguments.heads]
        judges.prepare_heads(heads, out, kinds, arguments.jobs)
    if judge == "heads":
        return judges.judge_heads(heads, out), None
    if judge == "retest":
        return judges.judge_retest(heads, {} if locked else judges.real_scans(brains, out)[0], out), None
    if judge == "pet":
        return uptake.judge_pet(heads, out), None if locked else _pet_from_outside(brains, out, arguments.jobs)
    if judge == "real":
        return (None if locked else judges.judge_real(brains, out)), None
    return _judge_crops(judge, arguments), None


def write_beside(table: pd.DataFrame, path: Path) -> None:
    """Write the table, and keep what an earlier call found by other judges."""
    if path.is_file():
        before = pd.read_csv(path, sep="\t")
        table = pd.concat([before[~before.judge.isin(table.judge)], table], ignore_index=True)
    table.to_csv(path, sep="\t", index=False, float_format="%.4f")


def quality_of(values: pd.DataFrame) -> str:
    """How many heads of each judge passed quality control, were warned of, or failed: one line a judge."""
    each = values[values.qc != ""].drop_duplicates(["judge", "head"])
    verdicts = each.qc.str.extract(r"^(pass|warn|fail)")[0]
    counts = pd.crosstab(each.judge, verdicts)
    lines = [f"{judge}: {', '.join(f'{n} {name}' for name, n in row.items() if n)}" for judge, row in counts.iterrows()]
    return "quality control\n" + "\n".join(lines)


def _judge_crops(judge: str, arguments: argparse.Namespace) -> pd.DataFrame:
    segment, folder = crops.product_segmentation(), arguments.brains / "hippocampus_msd"
    if judge == "msd":
        return crops.judge_msd(segment, folder, arguments.locked)
    values = [crops.judge_response(segment, folder, locked=arguments.locked)]
    if arguments.bidsgate and not arguments.locked:
        scans, labels = judges.real_scans(arguments.brains, arguments.out)
        values.append(injected.judge_injected(arguments.bidsgate, scans["segmented"], labels, arguments.out))
    return pd.concat(values, ignore_index=True)


def _pet_from_outside(brains: Path, out: Path, jobs: int) -> pd.DataFrame:
    summary = brains / "fdg_cn_region_summary.csv"
    nobody = NOBODY_ELSE | {"converters": 0, "stable": 0, "normal": NORMAL_PEOPLE}
    prepared = prepare(out / "normal", CohortDesign(**nobody, missing_pet=0.0, seed=20_000), jobs)
    people = pd.read_csv(prepared / "regions.tsv", sep="\t")
    rows = [pet.compare_simulated(people, summary), pet.compare_template(brains, out / "prepared", summary)]
    return pd.concat(rows, ignore_index=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--brains", type=Path, required=True, metavar="DIR")
    parser.add_argument("--judge", action="append", choices=JUDGES)
    parser.add_argument("--locked", action="store_true", help="the locked heads and crops, and these alone")
    parser.add_argument("--heads", type=int, metavar="N", help="the first N heads only, for a quick look")
    parser.add_argument("--bidsgate", type=Path, metavar="COMMAND", help="of an environment of its own")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    register.make_repeatable()
    values, rows = [], []
    for judge in arguments.judge or JUDGES:
        pairs, finished = collect(judge, arguments)
        if pairs is not None:
            values.append(pairs)
            rows.append(summarize(pairs))
        if finished is not None:
            rows.append(finished)
    table = pd.concat(rows, ignore_index=True).reindex(columns=COLUMNS)
    stem = "locked_" if arguments.locked else ""
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_beside(table, arguments.out / f"{stem}heads.tsv")
    if values:
        every = pd.concat(values, ignore_index=True)
        print(quality_of(every))
        write_beside(every, arguments.out / f"{stem}values.tsv")
    with pd.option_context("display.width", 250, "display.max_rows", None, "display.max_columns", None):
        print(table.to_string(index=False, na_rep="", float_format="%.3g"))


if __name__ == "__main__":
    main()
