"""The default recipe on fresh simulated cohorts of regional measurements, with few labels and no others.

`python -m benchmarks.austere OUT --full FULL --seeds 2000-2019`: every seed draws a disease, a cohort, a split, labels,
and an external test set of 2,000 people with the same disease, who never train. FULL is a cohort of the full
path (`pipelines.simulate FULL --prepared-only`), from which the response of measurements is learned
(`benchmarks.regional_cohorts`). Or `--anatomies DIR --label-rate 0.125` in the place of `--full FULL`: cohorts by the
full path, on the heads of label maps in DIR, tested in five folds of heads (`benchmarks.anatomy_folds`).
The primary family is TCGM on both modalities less each of FAMILY, AUC of the calibrated probability, the mean of a
cohort's folds; intervals by t over cohorts, Holm over the family. All else is secondary. --peers: TCGM and all other
methods instead, cross-entropy among them, with a table of their own, OUT/peers.tsv. --nuisance, --site-effect:
cohorts with an unrecorded factor that both modalities share (its correlation), or with effects of scanners (in units of
`preprocessing.simulated.sites`).
Writes OUT/table.tsv, a row a seed, fold and learner; resumable, a fold at a time.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from adni_tcgm.datasets import adni
from adni_tcgm.datasets.adni_baselines import DEFICITS
from adni_tcgm.datasets.adni_regions import summaries
from adni_tcgm.evaluation.baselines import mean_z_scores, ridge_scores
from adni_tcgm.evaluation.intervals import PairedRun, holm, paired_difference, verdicts
from adni_tcgm.evaluation.metrics import binary_auc
from adni_tcgm.files import whole_file, write_text
from adni_tcgm.methods.registry import METHODS
from adni_tcgm.storage import write_json
from adni_tcgm.tables import to_tsv
from adni_tcgm.tcgm.batch import UNLABELED, MultimodalBatch, Splits
from adni_tcgm.tcgm.trainer import predict
from benchmarks import anatomy_folds
from benchmarks.few_labels import parse_seeds
from benchmarks.regional_cohorts import Response, fit_response, write_regional
from benchmarks.simulated_cohort import NOBODY_ELSE
from pipelines.config import load_settings
from pipelines.fitting import calibrate, fitter, shown_to_training
from preprocessing.simulated.people import CohortDesign

# Added to the seed of a cohort: that of its external test set.
EXTERNAL = 100_000
PEOPLE = 2000
TCGM, CE = "TCGM", "CE"
# Ends the names of learners for whom what MRI and PET share is left in (`data.shared_limit`).
LEFT_IN = ", shared left in"
# Learner -> its method, what it changes in the configuration, and the labels it sees.
LEARNERS = {
    TCGM: ("tcgm", {}, "visible"),
    CE: ("ce", {"train.orientation": 0.0}, "visible"),
    "CE shrunk towards the signature mean": ("ce", {}, "visible"),
    "TCGM + CN/AD": ("tcgm", {}, "visible + CN/AD"),
    "CE, all training labels": ("ce", {}, "all"),
    f"{TCGM}{LEFT_IN}": ("tcgm", {}, "visible"),
    f"{CE}{LEFT_IN}": ("ce", {"train.orientation": 0.0}, "visible"),
    f"CE shrunk towards the signature mean{LEFT_IN}": ("ce", {}, "visible"),
}
FAMILY = (CE, "mean z", "signature mean", "ridge logistic", "CE shrunk towards the signature mean")
FIRST, SECOND = list(LEARNERS)[:3], list(LEARNERS)[3:]
# Every other method, with the settings that the configuration has for it.
PEERS = [name for name in METHODS if name not in ("tcgm", "ce")]
LEARNERS |= {name: (name, {}, "visible") for name in PEERS}
MODALITIES = ("mri", "pet", "all")


def prepare(out: Path, seed: int, response: Response, **design: float) -> tuple[Path, Path]:
    """The cohort of that seed and its external test set."""
    cohort, external = out / str(seed) / "cohort", out / str(seed) / "external"
    if not (external / "dataset_description.json").is_file():
        write_regional(cohort, CohortDesign(raw=0, truncated=0, seed=seed, **design), response)
        converters = round(PEOPLE * 144 / 300)
        sizes = {"converters": converters, "stable": PEOPLE - converters, **NOBODY_ELSE, "missing_pet": 0.0}
        write_regional(external, CohortDesign(**sizes, seed=seed + EXTERNAL, disease_seed=seed, **design), response)
    return cohort, external


def learned_response(file: Path, full: Path) -> Response:
    """That of the cohort `full`, kept in `file`."""
    if not file.is_file():
        fit_response(full).save(file)
    return Response.read(file)


def judge_seed(
    cohort: Path, external: Path, seed: int, label_rate: float, learners: Sequence[str]
) -> Iterator[dict[str, object]]:
    """Rows learner, modality, auc, log_loss of the external test set; scores of "all" as (N,) under `scores`."""
    shared = {"data.path": str(cohort), "data.label_rate": label_rate, "train.device": "cpu"}
    splits, asked = load_both(shared, seed, external)
    own = splits, asked
    for name in sorted(learners, key=lambda name: name.endswith(LEFT_IN)):
        method, changes, budget = LEARNERS[name]
        if name.endswith(LEFT_IN):
            shared["data.shared_limit"] = None
            splits, asked = load_both(shared, seed, external)
        settings = load_settings("adni_regions", shared | changes)
        known = splits if budget == "visible + CN/AD" else replace(splits, source=None)
        shown = shown_to_training(settings, with_all_labels(known) if budget == "all" else known)
        train = fitter(settings, method, shown, seed)
        fitted = train(shown, None, None)
        found = calibrate(settings, fitted, splits, shown, train)
        said = {key: value.numpy() for key, value in predict(fitted, asked, chunk=500).items()}
        calibrated = found.calibration.apply(said, asked.present.numpy())
        for modality in filter(calibrated.__contains__, MODALITIES):
            logs = calibrated[modality]
            yield row(seed, name, modality, asked, logs[:, 1] - logs[:, 0], logs)
        odds = said["all"][:, 1] - said["all"][:, 0]
        yield row(seed, f"{name}, uncalibrated", "all", asked, odds, said["all"])
    yield from judge_baselines(cohort, external, seed, *own)


def load_both(shared: dict[str, object], seed: int, external: Path) -> tuple[Splits, MultimodalBatch]:
    """The splits by these settings, with CN and AD people, and the external test set as their training people are."""
    settings = load_settings("adni_regions", shared | {"data.source_labels": "cn_ad"})
    splits = settings.load(seed)
    return splits, adni.load_people(settings.data, splits.norms, external, splits.adjustment)


def judge_baselines(
    cohort: Path, external: Path, seed: int, splits: Splits, asked: MultimodalBatch
) -> Iterator[dict[str, object]]:
    """The same of rules that need no training by gradients, on the measurements that the learners see."""
    known = summaries(cohort, splits.train.sample_ids)[DEFICITS].to_numpy()
    table = summaries(external, asked.sample_ids)[DEFICITS].to_numpy()
    yield row(seed, "mean z", "all", asked, mean_z_scores(known, (-1.0, -1.0), [table])[0])
    means = {m.name: (asked.inputs[m.name].numpy() * np.array(m.signs)).mean(1) for m in splits.modalities}
    for modality, values in (means | {"all": np.mean(list(means.values()), axis=0)}).items():
        yield row(seed, "signature mean", modality, asked, values)
    for name, batch in (("ridge logistic", splits.train), ("CN/AD alone", splits.source)):
        yield row(seed, name, "all", asked, ridge_scores(beside(batch), batch.labels.numpy(), [beside(asked)])[0])


def beside(batch: MultimodalBatch) -> np.ndarray:
    """(N, k): all modalities side by side."""
    return np.concatenate([values.numpy() for values in batch.inputs.values()], axis=1).astype(float)


def with_all_labels(splits: Splits) -> Splits:
    """Every training label shown: what the data could give."""
    index = {name: number for number, name in enumerate(splits.classes)}
    true = {r.sample_id: index.get(r.label, UNLABELED) for r in splits.rows}
    labels = torch.tensor([true[name] for name in splits.train.sample_ids])
    return replace(splits, train=replace(splits.train, labels=labels))


def row(
    seed: int, name: str, modality: str, asked: MultimodalBatch, scores: np.ndarray, logs: np.ndarray | None = None
) -> dict[str, object]:
    labels = asked.labels.numpy()
    loss = None if logs is None else float(-logs[np.arange(len(labels)), labels].mean())
    shown = {"seed": seed, "learner": name, "modality": modality, "auc": binary_auc(labels, scores), "log_loss": loss}
    return shown | {"labels": labels, "scores": scores}


def keep(file: Path, table: pd.DataFrame) -> None:
    """One seed's rows, with who was predicted and how."""
    arrays = {name: np.stack(table[name].tolist()) for name in ("labels", "scores")}
    names = {name: table[name].to_numpy(str) for name in ("learner", "modality")}
    numbers = {name: table[name].to_numpy(float) for name in ("seed", "auc", "log_loss")}
    with whole_file(file) as partial, partial.open("wb") as handle:
        np.savez_compressed(handle, **arrays, **names, **numbers)


def read(file: Path) -> pd.DataFrame:
    with np.load(file, allow_pickle=False) as content:
        return pd.DataFrame({name: list(content[name]) for name in content.files})


def mean_auc(asked: np.ndarray, scores: np.ndarray) -> float | None:
    """AUC within each fold, averaged over folds: scores of two classifiers have no common scale. asked: (N, 2) labels
    and folds."""
    labels, folds = asked.T
    aucs = [binary_auc(labels[folds == fold], scores[folds == fold]) for fold in np.unique(folds)]
    return None if None in aucs else float(np.mean(aucs))


def compare(table: pd.DataFrame, first: str, others: Sequence[str]) -> pd.DataFrame:
    """AUC of `first` on both modalities less that of each other; every seed has its own cohort and test people."""
    both = table[table.modality == "all"].set_index(["learner", "seed", "fold"]).sort_index()
    found = {}
    for other in others:
        pairs = []
        for seed in table.seed.unique():
            one, two = both.loc[first, seed], both.loc[other, seed]
            folds = np.repeat(one.index, [len(labels) for labels in one.labels])
            asked = np.column_stack([np.concatenate(one.labels.tolist()), folds])
            scores = [np.concatenate(rows.scores.tolist()) for rows in (one, two)]
            pairs.append(PairedRun([str(i) for i in range(len(asked))], asked, *scores))
        found[other] = paired_difference(mean_auc, pairs, "independent")
    shown, adjusted = verdicts(found), holm([d.p_value for d in found.values()])
    rows = [
        {"difference": f"{first} - {name}", "estimate": d.estimate, "low": d.low, "high": d.high, "p_holm": p}
        | {"shown": shown[name]}
        for (name, d), p in zip(found.items(), adjusted, strict=True)
    ]
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--full", type=Path, help="a cohort that took the full path")
    source.add_argument("--anatomies", type=Path, help="a folder of the label maps whose heads people have")
    parser.add_argument("--seeds", type=parse_seeds, required=True, help="the first and the last: 2000-2019")
    parser.add_argument("--label-rate", type=float, default=0.1)
    more = parser.add_mutually_exclusive_group()
    more.add_argument("--secondary", action="store_true", help="TCGM with CN/AD labels and all labels, too")
    more.add_argument("--peers", action="store_true", help="all other methods instead")
    parser.add_argument("--nuisance", type=float, default=0.0)
    parser.add_argument("--site-effect", type=float, default=0.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    design = {"nuisance_correlation": arguments.nuisance, "site_effect": arguments.site_effect}
    response = None if arguments.anatomies else learned_response(arguments.out / "response.npz", arguments.full)
    learners = [*FIRST, *(SECOND if arguments.secondary else PEERS if arguments.peers else ())]
    kind = "all" if arguments.secondary else "peers" if arguments.peers else "primary"
    tables = []
    for seed in arguments.seeds:
        if response:
            pairs = [prepare(arguments.out, seed, response, **design)]
        else:
            pairs = anatomy_folds.prepare(arguments.out, seed, arguments.anatomies, **design)
        for fold, (cohort, external) in enumerate(pairs, start=1):
            file = cohort.parent / f"external-{kind}-r{arguments.label_rate:g}.npz"
            if not file.is_file():
                keep(file, pd.DataFrame(judge_seed(cohort, external, seed, arguments.label_rate, learners)))
            tables.append(read(file).assign(fold=fold))
        print(f"seed {seed} done", flush=True)
    table = pd.concat(tables, ignore_index=True)
    name = "peers.tsv" if arguments.peers else "table.tsv"
    write_text(arguments.out / name, to_tsv(table.drop(columns=["labels", "scores"])))
    settings = load_settings("adni_regions", {})
    chosen = {"data": str(settings.data), "train": str(settings.train), "tcgm": settings.methods.get("tcgm")}
    write_json(arguments.out / "settings.json", chosen)
    by_cohort = table.groupby(["learner", "modality", "seed"], sort=False)[["auc", "log_loss"]].mean()
    shown = by_cohort.groupby(["learner", "modality"], sort=False).agg(["mean", "std"])
    print(shown.round(3).to_string(na_rep=""))
    families = [(TCGM, FAMILY), (TCGM, ["CN/AD alone"])]
    if arguments.secondary:
        families[1:] = [(TCGM, [*SECOND, "CN/AD alone"]), (SECOND[0], ["CN/AD alone"])]
    elif arguments.peers:
        families = [(TCGM, [*FIRST[1:], *PEERS])]
    for first, others in families:
        print(f"\n{'primary' if others == FAMILY else 'secondary'}: {len(arguments.seeds)} cohorts, 95 %, Holm")
        print(compare(table, first, others).round(4).to_string(index=False))


if __name__ == "__main__":
    main()
