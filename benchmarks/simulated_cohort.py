"""How hard is the simulated cohort? Effect sizes, linear SVMs with all labels, and Bayes, on prepared people.

`python -m benchmarks.simulated_cohort OUT`: 180 people train an SVM with all their labels, tested on 2,000 others.
Wanted: hippocampal volume d = .75, meta-ROI d = 1.1, SVM AUC .74-.77 (MRI), .77-.80 (PET), .79-.83 (both), below Bayes.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from adni_tcgm.datasets import adni
from adni_tcgm.datasets.adni_baselines import compute_baselines
from adni_tcgm.datasets.adni_people import read_people
from pipelines.truth import Truth
from preprocessing.cohort.run import preprocess_cohort
from preprocessing.intake.labels import LabelRule
from preprocessing.simulated.cohort import write_cohort
from preprocessing.simulated.people import CohortDesign

# Of the external test set, and of the disease that it shares with whoever trains.
EXTERNAL_SEED = 10_000
NOBODY_ELSE = dict.fromkeys(("censored", "reverting", "normal", "dementia", "raw", "truncated"), 0)


def prepare(
    out: Path,
    design: CohortDesign,
    jobs: int,
    rule: LabelRule = LabelRule(),  # noqa: B008 (frozen)
    anatomies: Path | None = None,
) -> Path:
    """A cohort of prepared people, tables and all, on the heads of `anatomies` or the template; the prepared folder."""
    write_cohort(out, design, anatomies, jobs=jobs)
    preprocess_cohort(out / "raw", out / "prepared", jobs=jobs, rule=rule)
    return out / "prepared"


def external_test_set(out: Path, people: int, jobs: int, **settings: float) -> Path:
    """People who never train. Their seed lies apart from those of the cohorts."""
    converters = round(people * 144 / 300)
    sizes = {"converters": converters, "stable": people - converters}
    return prepare(out, CohortDesign(**sizes, **NOBODY_ELSE, missing_pet=0.0, seed=EXTERNAL_SEED, **settings), jobs)


def effect(values: pd.Series, group: pd.Series) -> float:
    """Cohen's d of stable over converting people."""
    stable, converter = values[group == "stable"], values[group == "converter"]
    return float((stable.mean() - converter.mean()) / np.sqrt((stable.var() + converter.var()) / 2))


def effects(cohort: Path) -> dict[str, float]:
    """Cohen's d of the cohort's hippocampal volume and meta-ROI: true, and as its prepared people show them."""
    truth = Truth.read(cohort / "truth")
    regions = pd.read_csv(cohort / "prepared" / "regions.tsv", sep="\t").set_index("participant_id")
    shown = replace(truth, regions=regions)
    found = {}
    for kind, table in (("true", truth.summaries()), ("prepared", shown.summaries())):
        group = truth.people.group.loc[table.index]
        found |= {f"{name}, {kind}": effect(table[name], group) for name in table}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--people", type=int, default=2000)
    parser.add_argument("--cohorts", type=int, default=3, help="training cohorts of 300, each with its own seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    external = external_test_set(arguments.out / "external", arguments.people, arguments.jobs)
    truth = Truth.read(arguments.out / "external" / "truth")
    people, _ = read_people(external)
    group = truth.people.group.loc[people.participant_id]
    summaries = truth.summaries().loc[group.index]
    within = summaries.groupby(group).transform(lambda column: column - column.mean())
    print(
        json.dumps(
            {
                "d": {name: effect(summaries[name], group) for name in summaries},
                "correlation of the two summaries within class": within.corr().iloc[0, 1],
                "bayes": truth.bayes_metrics(people.sample_id),
                "bayes of the summaries": truth.summary_limit(people.sample_id),
            },
            indent=1,
        )
    )
    rows = []
    for seed in range(arguments.cohorts):
        prepared = prepare(
            arguments.out / f"cohort-{seed}",
            CohortDesign(raw=0, truncated=0, seed=seed, disease_seed=EXTERNAL_SEED),
            arguments.jobs,
        )
        print(f"cohort {seed}: d", {name: round(d, 2) for name, d in effects(prepared.parent).items()})
        config = adni.AdniConfig(path=str(prepared))
        splits = adni.load(adni.AdniConfig(path=str(prepared), features="regions"), seed)
        rows += compute_baselines(config, splits, prepared, external)
    table = pd.DataFrame(rows).query("split == 'external'")
    print(table.groupby(["baseline", "labels", "modality"]).auc.agg(["mean", "std", "count"]).round(3).to_string())


if __name__ == "__main__":
    main()
