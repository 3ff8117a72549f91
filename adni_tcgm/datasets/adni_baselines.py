"""The baselines for brains: what simple, well-known predictors reach on the same split with the same labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from adni_tcgm.datasets.adni import AdniConfig, AdniSplits, NoSourcePeople, load_people, load_source
from adni_tcgm.datasets.adni_adjust import SETTINGS
from adni_tcgm.datasets.adni_maps import MODALITIES, read_crops
from adni_tcgm.datasets.adni_people import BEYOND, CLASSES, POOL, read_people
from adni_tcgm.datasets.adni_regions import summaries
from adni_tcgm.evaluation.baselines import (
    LinearKernel,
    baseline_row,
    logistic_scores,
    mean_z_scores,
    ridge_scores,
    svm_scores,
)
from adni_tcgm.tcgm.batch import UNLABELED, MultimodalBatch, SplitRow, join

SEVERITY = ["hippocampus_ml", "meta_roi_suvr", "age"]
DEFICITS = ["hippocampus_ml", "meta_roi_suvr"]
# People whose voxels are in memory at once.
CHUNK = 200
NUISANCE = ["age", "male", "tiv_ml"]
# Of a table beside the manifest, where there is one. They make baselines of their own and never enter an imaging
# classifier.
CLINICAL_FILE = "clinical.tsv"
CLINICAL = ("education", "apoe4", "mmse", "cdrsb", "adas13")


@dataclass(frozen=True)
class _People:
    """N people of one prepared folder: index of their class (UNLABELED where unknown) and what is measured of them."""

    path: Path
    people: pd.DataFrame
    labels: np.ndarray

    def select(self, rows: slice) -> _People:
        return _People(self.path, self.people.iloc[rows], self.labels[rows])

    @property
    def table(self) -> pd.DataFrame:
        table = summaries(self.path, self.people.sample_id.tolist())
        table = table.join(read_clinical(self.path).reindex(table.index))
        return table.assign(male=table.sex.str.upper().str.startswith("M").astype(float))

    @property
    def clinical(self) -> list[str]:
        """The clinical scores that this folder has."""
        return list(read_clinical(self.path).columns)

    def present(self, modality: str) -> np.ndarray:
        return self.people[MODALITIES[modality]].ne("").to_numpy()

    def voxels(self, config: AdniConfig, modality: str) -> np.ndarray:
        """(N, D) float32: the crop without its margin."""
        margin = config.margin_voxels
        crops = read_crops(self.path, self.people, modality, config.crop, margin)
        inner = [slice(margin, size - margin) for size in crops.shape[1:]]
        return crops[(slice(None), *inner)].reshape(len(crops), -1)


def read_clinical(prepared: Path) -> pd.DataFrame:
    """Sample id -> the scores of `CLINICAL` that a prepared folder has, NaN where unknown; no column without a file."""
    file = prepared / CLINICAL_FILE
    if not file.is_file():
        return pd.DataFrame()
    table = pd.read_csv(file, sep="\t", dtype={"participant_id": str, "session_id": str})
    index = (table.participant_id + "_" + table.session_id).rename("sample_id")
    return table[[name for name in CLINICAL if name in table]].set_index(index)


def compute_baselines(
    config: AdniConfig,
    splits: AdniSplits,
    prepared: str | Path,
    external: str | Path | None = None,
    bayes: Mapping[str, float] | None = None,
) -> list[dict]:
    """Rows `baseline labels modality features n_labels split n auc accuracy balanced_accuracy`.

    splits: of the signature regions, measured and adjusted as the classifiers see them (of anything else, baselines on
    these regions are left out): their signed mean without any label, a ridge logistic regression, and one of CN against
    AD people ("cn_ad": where the manifest has such labels) that is applied to MCI.
    Baselines: linear SVM on standardized voxels (MRI, PET, both), logistic regression on hippocampal volume, meta-ROI
    proxy and age, the zero-label mean of the two deficit z-scores, logistic regression on age, sex and head size; where
    the folder has clinical scores (`CLINICAL`), logistic regression on them, on imaging, and on both. `labels` says
    which were used: "visible" (those of the label rate), "visible+validation" (the paper's whole budget), "all"
    (every training label, hidden ones too: what the data could give) or "none". Tested on the test split and, where
    given, on the prepared folder `external`. A single modality is tested on the people who have it; missing PET
    stands at the training mean in a combination. bayes: name -> AUC, known only for simulated people.
    """
    prepared = Path(prepared)
    train = _from_rows(prepared, splits.rows, ("train", "validation"))
    judged = {"test": _from_rows(prepared, splits.rows, ("test",))}
    if external is not None:
        people, _ = read_people(external)
        labels = people.status.map(_class_index).to_numpy()
        judged["external"] = _People(Path(external), people, labels)
    budgets = _label_budgets(train, splits.rows)
    rows = [*_table_baselines(train, judged, budgets), *_voxel_baselines(config, train, judged, budgets)]
    if splits.modalities[0].signs:
        rows += _signature_baselines(config, splits, judged, external)
    return rows + [
        {
            "baseline": f"Bayes, {name}",
            "labels": "truth",
            "modality": "all",
            "features": "truth",
            "split": "exact",
            "auc": auc,
        }
        | dict.fromkeys(("n_labels", "n", "accuracy", "balanced_accuracy"))
        for name, auc in (bayes or {}).items()
    ]


def _class_index(status: str) -> int:
    return CLASSES.index(status) if status in CLASSES else UNLABELED


def _from_rows(prepared: Path, rows: list[SplitRow], parts: tuple[str, ...]) -> _People:
    chosen = pd.DataFrame([row.__dict__ for row in rows if row.split in parts])
    people = read_people(prepared, pool=(*POOL, *BEYOND))[0].set_index("sample_id").loc[chosen.sample_id].reset_index()
    people = people.assign(split=chosen.split.to_numpy())
    return _People(prepared, people, chosen.label.map(_class_index).to_numpy())


def _label_budgets(train: _People, rows: list[SplitRow]) -> dict[str, np.ndarray]:
    """Name -> (N,) class index or UNLABELED: which labels a baseline may learn from."""
    shown = {row.sample_id: row.label_visible for row in rows}
    visible = train.people.sample_id.map(shown).to_numpy(dtype=bool)
    training = (train.people.split == "train").to_numpy()
    chosen = {"visible": visible & training, "visible+validation": visible, "all": training}
    return {name: np.where(mask, train.labels, UNLABELED) for name, mask in chosen.items()}


def _table_baselines(
    train: _People, judged: dict[str, _People], budgets: dict[str, np.ndarray]
) -> Iterator[dict[str, object]]:
    # Means and SDs come from the training split, and from validation too where its labels are used.
    training = (train.people.split == "train").to_numpy()
    everything = train.table
    tables = {name: people.table for name, people in judged.items()}
    baselines = {"logistic, hippocampus + meta-ROI + age": SEVERITY, "logistic, age + sex + TIV": NUISANCE}
    baselines |= _clinical_baselines([train, *judged.values()], everything)
    for baseline, columns in baselines.items():
        for budget in ("visible", "visible+validation"):
            rows = training | (budgets[budget] >= 0)
            values = [table[columns].to_numpy() for table in tables.values()]
            scores = logistic_scores(everything[columns].to_numpy()[rows], budgets[budget][rows], values)
            yield from _rows(baseline, budget, budgets[budget], "all", "summaries", judged, scores)
    values = [table[DEFICITS].to_numpy() for table in tables.values()]
    scores = mean_z_scores(everything[DEFICITS].to_numpy()[training], (-1.0, -1.0), values)
    none = np.full(len(train.labels), UNLABELED)
    yield from _rows("mean of the two deficit z-scores", "none", none, "all", "summaries", judged, scores)


def _signature_baselines(
    config: AdniConfig, splits: AdniSplits, judged: dict[str, _People], external: str | Path | None
) -> Iterator[dict[str, object]]:
    """Baselines on the inputs of classifiers of regions: (N, 16) z-scores, 0 where a modality is absent."""
    done = splits.adjustment
    regions = replace(config, features="regions", targets="none")
    if done:
        regions = replace(regions, **{name: getattr(done, name) for name in SETTINGS})
    batches = {"test": splits.test}
    if external is not None:
        batches["external"] = load_people(regions, splits.norms, external, done)
    asked = {name: _in_order(batch, judged[name]) for name, batch in batches.items()}
    signs = {modality.name: np.array(modality.signs) for modality in splits.modalities}
    none = np.full(len(splits.train), UNLABELED)
    for modality in (*MODALITIES, "all"):
        scores = [_signature_mean(batch, signs, modality) for batch in asked.values()]
        yield from _rows("signature mean", "none", none, modality, "signature", judged, scores)
    known = join([splits.train, splits.validation])
    true = {row.sample_id: _class_index(row.label) for row in splits.rows}
    everything = np.array([true[name] for name in splits.train.sample_ids])
    budgets = {
        "visible": (splits.train, splits.train.labels.numpy()),
        "visible+validation": (known, known.labels.numpy()),
        "all": (splits.train, everything),
    }
    with suppress(NoSourcePeople):
        source = load_source(regions, splits)
        budgets["cn_ad"] = (source, source.labels.numpy())
    for budget, (batch, labels) in budgets.items():
        baseline = "CN against AD, applied to MCI" if budget == "cn_ad" else "ridge logistic, signature regions"
        for modality in (*MODALITIES, "all"):
            usable = labels if modality == "all" else np.where(_has(batch, modality), labels, UNLABELED)
            tables = [_columns(each, modality) for each in asked.values()]
            scores = ridge_scores(_columns(batch, modality), usable, tables)
            yield from _rows(baseline, budget, usable, modality, "signature", judged, scores)


def _in_order(batch: MultimodalBatch, people: _People) -> MultimodalBatch:
    place = {name: row for row, name in enumerate(batch.sample_ids)}
    return batch.select(torch.tensor([place[name] for name in people.people.sample_id]))


def _has(batch: MultimodalBatch, modality: str) -> np.ndarray:
    return batch.present[:, list(batch.inputs).index(modality)].numpy()


def _columns(batch: MultimodalBatch, modality: str) -> np.ndarray:
    """(N, k) of one modality, or of all side by side."""
    names = list(batch.inputs) if modality == "all" else [modality]
    return np.concatenate([batch.inputs[name].numpy() for name in names], axis=1).astype(float)


def _signature_mean(batch: MultimodalBatch, signs: dict[str, np.ndarray], modality: str) -> np.ndarray:
    """(N,) mean of signed z-scores of a modality; of "all", the mean over the modalities that somebody has."""
    names = list(signs) if modality == "all" else [modality]
    means = np.stack([(batch.inputs[name].numpy() * signs[name]).mean(1) for name in names])
    present = np.stack([_has(batch, name) for name in names])
    return (means * present).sum(0) / np.maximum(present.sum(0), 1)


def _clinical_baselines(folders: list[_People], everything: pd.DataFrame) -> dict[str, list[str]]:
    """Baseline -> columns: clinical scores alone, imaging alone, and both, where every folder has such scores."""
    shared = [name for name in CLINICAL if all(name in people.clinical for people in folders)]
    known = [name for name in shared if everything[name].notna().any()]
    if not known:
        return {}
    clinical = ["age", "male", *known]
    named = f"clinical: age + sex + {' + '.join(known)}"
    return {named: clinical, "imaging: hippocampus + meta-ROI": DEFICITS, "clinical + imaging": clinical + DEFICITS}


def _voxel_baselines(
    config: AdniConfig, train: _People, judged: dict[str, _People], budgets: dict[str, np.ndarray]
) -> Iterator[dict[str, object]]:
    training = (train.people.split == "train").to_numpy()
    grams, kernels, features = {}, {}, {}
    for name in MODALITIES:
        present = train.present(name)
        kernel = LinearKernel(train.voxels(config, name), present, measured=training)
        grams[name] = kernel.products(kernel.training)
        kernels[name] = [_products(kernel, people, config, name) for people in judged.values()]
        features[name] = kernel.features
    # Voxels side by side: inner products add up, each modality with as many terms as it has voxels.
    shares = {name: count / sum(features.values()) for name, count in features.items()}
    grams["all"] = sum(shares[name] * grams[name] for name in shares)
    kernels["all"] = [sum(shares[name] * kernels[name][i] for name in shares) for i in range(len(judged))]
    for name, gram in grams.items():
        for budget, labels in budgets.items():
            usable = labels if name == "all" else np.where(train.present(name), labels, UNLABELED)
            scores = svm_scores(gram, usable, kernels[name])
            yield from _rows("linear SVM on voxels", budget, usable, name, config.crop, judged, scores)


def _products(kernel: LinearKernel, people: _People, config: AdniConfig, modality: str) -> np.ndarray:
    """Kernel rows of all people, a chunk of them at a time: 2,000 people's voxels need not be in memory together."""
    chunks = [people.select(slice(start, start + CHUNK)) for start in range(0, len(people.labels), CHUNK)]
    rows = [
        kernel.products(kernel.standardize(chunk.voxels(config, modality), chunk.present(modality))) for chunk in chunks
    ]
    return np.concatenate(rows)


def _rows(
    baseline: str,
    budget: str,
    used: np.ndarray,
    modality: str,
    features: str,
    judged: dict[str, _People],
    scores: list[np.ndarray | None],
) -> Iterator[dict[str, object]]:
    names = {"baseline": baseline, "labels": budget, "modality": modality, "features": features}
    names["n_labels"] = int((used >= 0).sum())
    for (split, people), values in zip(judged.items(), scores, strict=True):
        having = None if modality == "all" else people.present(modality)
        yield baseline_row(people.labels, values, {**names, "split": split}, having)
