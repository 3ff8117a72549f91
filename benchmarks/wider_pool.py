"""What do more unlabeled people bring, and people without MCI? TCGM on regions, 18 labels, judged on 2,000 people.

`python -m benchmarks.wider_pool OUT [--seeds 5]`, after `benchmarks.few_labels OUT`: seed s trains on cohort s, and the
unlabeled of the other cohorts join its pool: MCI that are censored or reverted, cognitively normal people, people with
dementia. Writes OUT/pools and OUT/pools/table.tsv and prints the means and the paired differences. SIMULATED.

The gain is that of all training people at once. Where people without MCI are among them it is either one gain under the
prior of the labels, or that of two populations, the second under a prior of its own: the shares of normal people and of
those with dementia, which their diagnoses tell.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from adni_tcgm.datasets import adni
from adni_tcgm.datasets.adni_people import BEYOND, CLASSES, POOL
from adni_tcgm.evaluation.intervals import PairedRun, paired_difference, verdicts
from adni_tcgm.evaluation.metrics import binary_auc
from adni_tcgm.tcgm.batch import MultimodalBatch
from adni_tcgm.tcgm.trainer import predict
from benchmarks.few_labels import parse_seeds
from pipelines.config import Settings, load_settings
from pipelines.fitting import fitter

# What the simulation calls them, and the class that `run_adni --classes cn,stable,converter,ad` gives.
DIAGNOSED = {"normal": "cn", "dementia": "ad"}
TABLES = ("manifest", "regions")


@dataclass(frozen=True)
class Arm:
    """A way to train: on whose tables, with which pool, by which method, and whether BEYOND has a prior of its own."""

    method: str = "tcgm"
    cohorts: str = "own"
    pool: tuple[str, ...] = POOL
    own_prior: bool = False


ARMS = {
    "CE": Arm("ce"),
    "training people only": Arm(pool=()),
    "+ 30 MCI of unknown outcome": Arm(),
    "+ those of all cohorts": Arm(cohorts="all"),
    "+ CN and AD, prior of the labels": Arm(cohorts="all", pool=(*POOL, *BEYOND)),
    "+ CN and AD, prior of their own": Arm(cohorts="all", pool=(*POOL, *BEYOND), own_prior=True),
}


def write_tables(out: Path, seed: int, seeds: range) -> dict[str, Path]:
    """ "own" and "all" -> a folder of tables: cohort `seed`, and with it the unlabeled of the others. Maps stay where
    they are: regions do not need them."""
    folders = {}
    for name, others in (("own", ()), ("all", [other for other in seeds if other != seed])):
        folder = folders[name] = out / "pools" / f"{name}-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        parts = [_tables(out, seed, everybody=True), *(_tables(out, other, everybody=False) for other in others)]
        for table in TABLES:
            pd.concat([part[table] for part in parts]).to_csv(folder / f"{table}.tsv", sep="\t", index=False)
    return folders


def _tables(out: Path, seed: int, everybody: bool) -> dict[str, pd.DataFrame]:
    """The tables of a cohort under names that tell cohorts apart, with the diagnoses of people without MCI."""
    cohort = out / f"cohort-{seed}"
    tables = {
        name: pd.read_csv(cohort / "prepared" / f"{name}.tsv", sep="\t", dtype=str, keep_default_na=False)
        for name in TABLES
    }
    groups = pd.read_csv(cohort / "truth" / "people.tsv", sep="\t").set_index("participant_id").group
    manifest = tables["manifest"]
    diagnosed = manifest.participant_id.map(groups).map(DIAGNOSED)
    manifest["label"] = diagnosed.fillna(manifest.label)
    if not everybody:
        kept = ~manifest.label.isin(CLASSES)
        tables = {name: t[t.participant_id.isin(manifest.participant_id[kept])] for name, t in tables.items()}
    renamed = {}
    for name, table in tables.items():
        columns = [column for column in ("participant_id", "group_id") if column in table]
        renamed[name] = table.assign(**{column: f"sub-C{seed}" + table[column].str[4:] for column in columns})
    return renamed


def settings_of(arm: Arm, folders: dict[str, Path], pretraining: str) -> Settings:
    # The batch holds everybody: a share of it would be another gain for each arm.
    overrides = {"data.path": str(folders[arm.cohorts]), "data.pool": list(arm.pool), "train.device": "cpu"}
    overrides |= {"train.batch_size_unlabeled": 10_000, "pretraining": pretraining}
    if arm.own_prior:
        manifest = pd.read_csv(folders[arm.cohorts] / "manifest.tsv", sep="\t", dtype=str)
        counts = [int((manifest.label == name).sum()) for name in BEYOND]
        overrides |= {"methods.tcgm.within_nuisance_groups": True, "methods.tcgm.priors.beyond": counts}
    return load_settings("adni_regions", overrides)


def judge(settings: Settings, method: str, seed: int, external: Path) -> tuple[MultimodalBatch, dict, int]:
    """The external test people, their P(converter) by modality, and how many trained."""
    splits = settings.load(seed)
    fitted = fitter(settings, method, splits, seed)(splits, None, None)
    people = adni.load_people(settings.data, splits.norms, external, splits.adjustment)
    found = {name: values[:, 1].exp().numpy() for name, values in predict(fitted, people).items()}
    return people, found, len(splits.train)


def run_seed(out: Path, seed: int, seeds: range, pretraining: str) -> Iterator[tuple[dict, PairedRun]]:
    """One row for each arm, and the arm (first) beside the plain pool (second) on "all"."""
    folders, found = write_tables(out, seed, seeds), {}
    for name, arm in ARMS.items():
        settings = settings_of(arm, folders, pretraining)
        people, scores, trained = judge(settings, arm.method, seed, out / "external" / "prepared")
        found[name] = scores | {"n": trained}
    labels, ids = people.labels.numpy(), list(people.sample_ids)
    for name, scores in found.items():
        aucs = {m: binary_auc(labels[seen], scores[m][seen]) for m, seen in _judged(people)}
        plain = found["+ 30 MCI of unknown outcome"]["all"]
        yield {"arm": name, "seed": seed, "n": scores["n"], **aucs}, PairedRun(ids, labels, scores["all"], plain)


def _judged(people: MultimodalBatch) -> Iterator[tuple[str, np.ndarray]]:
    for column, name in enumerate(people.inputs):
        yield name, people.present[:, column].numpy()
    yield "all", np.ones(len(people), dtype=bool)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of benchmarks.few_labels")
    parser.add_argument("--seeds", type=parse_seeds, default=range(5), help="how many, or the first and the last: 5-9")
    parser.add_argument("--pretraining", default="none")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows, pairs = [], {name: [] for name in ARMS}
    for seed in arguments.seeds:
        for row, pair in run_seed(arguments.out, seed, arguments.seeds, arguments.pretraining):
            rows.append(row)
            pairs[row["arm"]].append(pair)
        print(f"seed {seed} done", flush=True)
    table = pd.DataFrame(rows)
    table.to_csv(arguments.out / "pools" / f"table-{arguments.pretraining}.tsv", sep="\t", index=False)
    print(table.drop(columns="seed").groupby("arm", sort=False).agg(["mean", "std"]).round(3).to_string())
    compared = [name for name in ARMS if name != "+ 30 MCI of unknown outcome"]
    differences = {name: paired_difference(binary_auc, pairs[name], "shared") for name in compared}
    shown = verdicts(differences)
    print("\nLess '+ 30 MCI of unknown outcome', AUC of all, external test set shared by all seeds, Holm over these")
    for name, d in differences.items():
        print(f"{name:34} {d.estimate:+.3f} [{d.low:+.3f}, {d.high:+.3f}] p {d.p_value:.4f}  {shown[name]}")


if __name__ == "__main__":
    main()
