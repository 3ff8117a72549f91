"""`python -m pipelines.validate RUN_DIR --data OTHER`: a finished run, frozen, applied to the people of another cohort.

OTHER is a prepared folder, or an ADNI download; `--bids` and `--list` take scans as `pipelines.run_adni` does. Nothing
of the run changes. Labels of OTHER only evaluate it and, in a second column, shift the probabilities by one intercept.

OUT/validation.pdf, validation.json   flow, Table 1 of both cohorts, AUC, calibration, drift of measurements
OUT/predictions.tsv, drift.tsv        every probability; every region's standardized difference
OUT/prepared                          the prepared people, where scans were given
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd

from adni_tcgm.datasets.adni_people import read_people
from adni_tcgm.files import check_apart, lock_folder
from adni_tcgm.storage import Run, write_table
from pipelines import command_line
from pipelines.commands.validate import Options
from pipelines.predict import PREDICTIONS, predict_people
from pipelines.restoring import RECIPE, Refused, describe_recipe, open_run, recipe_of, settings_of
from preprocessing.choices import HORIZON_MONTHS
from preprocessing.cohort.run import preprocess_cohort
from preprocessing.intake.labels import LabelRule
from preprocessing.ledger import write_json
from reports.records import find_prepared
from reports.records import load_run as load_record
from reports.validation import OTHER, write_validation


def horizon_of(run: Run) -> float:
    """Months within which a conversion counted in the run's cohort."""
    return float((run.recipe or {}).get("HorizonMonths", HORIZON_MONTHS))


def prepare(options: Options, run: Run, out: Path) -> Path:
    """The prepared folder of the other cohort, made by the run's recipe and horizon where scans were given."""
    if (options.source / "manifest.tsv").is_file():
        check_recipe(options.source, run)
        return options.source
    prepared, recipe = out / "prepared", recipe_of(run)
    rule = LabelRule(horizon_months=horizon_of(run), reversion=options.reversion)
    summary = preprocess_cohort(
        options.source,
        prepared,
        tables=options.scans.tables,
        jobs=options.jobs,
        rule=rule,
        pair_days=options.pair_days,
        recipe=recipe,
        layout=options.scans.layout,
        dates=options.scans.dates,
    )
    write_json(describe_recipe(recipe, rule), prepared / RECIPE)
    print(summary)
    return prepared


def check_recipe(prepared: Path, run: Run) -> None:
    """Raises Refused for a folder whose scans or labels came to be in another way than those of the run."""
    file = prepared / RECIPE
    if not file.is_file():
        raise Refused(f"{file}: no such file; it would say how these people were prepared: give the scans instead")
    other = read_recipe(file)
    if other["RecipeHash"] != recipe_of(run).hash:
        raise Refused(
            f"{file}: recipe {other['RecipeHash']}; the run's people were prepared by {recipe_of(run).hash}: give the "
            "scans, and they are prepared as those were"
        )
    months = float(other.get("HorizonMonths", HORIZON_MONTHS))
    if months != horizon_of(run):
        raise Refused(
            f"{file}: labels count {months:g} months; those of the run {horizon_of(run):g}: prepare it with "
            f"--horizon {horizon_of(run):g}"
        )


def read_recipe(file: Path) -> dict:
    """Raises Refused where the file does not say which recipe."""
    content = json.loads(file.read_text(encoding="utf-8"))
    if "RecipeHash" not in content:
        raise Refused(f"{file}: key 'RecipeHash' is missing; found: {', '.join(content)}")
    return content


def list_known(run_dir: Path, people: pd.DataFrame) -> set[str]:
    """Sample ids of `people` who are of the run's own cohort, in whatever split: they are no other people.

    A participant_id of the run's splits or of its manifest (its norm and its CN and AD people are no strangers either),
    or a group_id of its splits, is the same person. Simulated cohorts number their people anew, so there the same id is
    the same person only with the same age, sex and head size.
    """
    run = load_record(run_dir)
    mine, folder = set(run.splits["sample_id"].str.partition("_ses-")[0]), find_prepared(run)
    facts = ["participant_id", "age", "sex", "tiv_ml"]
    table = pd.DataFrame(columns=facts)
    if folder is not None:
        table = pd.read_csv(folder / "manifest.tsv", sep="\t", dtype=str, keep_default_na=False)
    known = people["participant_id"].isin(mine | set(table["participant_id"]))
    known |= people["group_id"].isin(set(run.splits["group_id"]))
    if run.metrics["simulated"] and folder is not None:
        known &= people[facts].apply(tuple, axis=1).isin(set(table[facts].itertuples(index=False, name=None)))
    return set(people.loc[known, "sample_id"])


def run(options: Options) -> int:
    trained = open_run(options.run_dir, options.allow_code)
    settings_of(trained, Path("."))
    out = options.folder
    for other in (options.run_dir, options.source):
        if other.is_dir():
            check_apart(out, other)
    with lock_folder(out):
        return validate(options, trained, out)


def validate(options: Options, trained: Run, out: Path) -> int:
    prepared = prepare(options, trained, out)
    people, _ = read_people(prepared)
    known = list_known(options.run_dir, people)
    chosen = [sample_id for sample_id in people["sample_id"] if sample_id not in known]
    if not chosen:
        raise Refused(
            f"{prepared}: none of its {len(people)} people with mild cognitive impairment are others than this run's; "
            f"{len(known)} of them are of its own cohort"
        )
    predictions = predict_people(trained, prepared, OTHER, sample_ids=chosen)
    write_table(out / PREDICTIONS, predictions)
    for file in write_validation(
        options.run_dir, prepared, predictions, sorted(known), out, acknowledgement=options.acknowledgement
    ):
        print(file)
    return 0


def main(argv: list[str] | None = None) -> int:
    return command_line.main(["validate", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    raise SystemExit(main())
