"""MRI + FDG-PET of people with mild cognitive impairment, from a prepared folder: who converts to dementia?"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from adni_tcgm.alignment import ALIGNMENTS
from adni_tcgm.choices import check_choices, choice
from adni_tcgm.datasets.adni_adjust import (
    SETTINGS,
    SMALLEST_GROUP,
    Adjustment,
    fit_adjustment,
    group_sites,
    in_groups,
    read_covariates,
)
from adni_tcgm.datasets.adni_maps import CROPS, MODALITIES, read_crops
from adni_tcgm.datasets.adni_norms import fit_norms, standardize, transforms_of
from adni_tcgm.datasets.adni_people import BEYOND, CLASSES, POOL, VISITS, class_index, read_people
from adni_tcgm.datasets.adni_regions import region_features, signs_of
from adni_tcgm.datasets.folds import check_folds, fold_splits
from adni_tcgm.datasets.shared_directions import SMALLEST_SAMPLE, fit_shared_directions
from adni_tcgm.datasets.splitting import LEFT_OUT, SHARES, check_label_rate, draw_splits, draw_visible
from adni_tcgm.tcgm.batch import UNLABELED, Modality, MultimodalBatch, SplitRow, Splits

POPULATIONS = {False: "mci", True: "beyond"}
NUISANCE_GROUPS = ("site", "field_strength")


@dataclass(frozen=True)
class AdniConfig:
    """What to read and how to split.

    path: the prepared folder. features: "voxels" (maps cut to `crop`) or "regions" (a table of measurements).
    margin: voxels kept around the crop for random shifts; None means the crop's own default. kept_in: where volumes
    stay while they train: "memory" (float32) or "disk" (float16, in a file that is gone afterwards: for thousands of
    people at 64³, who fill more than the memory). regions: "signature" (few,
    chosen from the literature) or "all". label_rate: share of the labeled training samples whose label is shown.
    folds: 0 draws 60/20/20 anew for each seed; K tests each group once in seeds 0 to K - 1 (`datasets.folds`).

    pool: who trains without a label, of POOL, of "cn" and "ad" (a nuisance group, "beyond", whose class prior the gain
    must be told: `methods.tcgm.priors`), and "visits". One visit gives a person's label: the earliest labeled one with
    both modalities, else the earliest; the other labeled ones are "visits", left out unless named here.

    targets: regional measurements that encoders of voxels may learn to predict without any label: "signature" or "all"
    (as in `regions`, volumes over head size), or "none".

    Of regions only, fitted on training people without their labels: harmonize takes out the effects of sites with at
    least 20 training people, and of the field strength of all smaller ones, by ComBat ("site") or another of
    `alignment.ALIGNMENTS`, onto `reference_site` where it has one ("": the largest); people of a site that trained
    nobody stay as they are. adjust "tiv_age_sex" takes out age, sex and head size by regression, volumes then in mL
    instead of over head size.

    shared_limit: of regions only. MRI and PET of people of one diagnosis (MCI; CN and AD of the manifest, if of no
    group in validation or test) vary together in some directions. Those whose correlation lies above this limit are
    damped, since no classes that are hard to tell make so much of it (`datasets.shared_directions`); None: none is.

    nuisance_groups: the manifest's column whose groups `methods.tcgm.within_nuisance_groups` compares within: "site" or
        "field_strength".

    source_labels: "cn_ad": CN and AD people of the manifest teach as stable and converter, too (`Splits.source`,
    `train.source_weight`), all of them, whatever the label rate; those of a group in validation or test do not.

    >>> AdniConfig("prepared", features="regions", harmonize="site").adjusts
    True
    >>> AdniConfig("prepared", features="maps")
    Traceback (most recent call last):
        ...
    ValueError: features is 'maps'; choose one of voxels, regions
    """

    path: str
    features: str = choice("voxels", ("voxels", "regions"))
    crop: str = choice("hippocampi", CROPS)
    margin: int | None = None
    kept_in: str = choice("memory", ("memory", "disk"))
    regions: str = choice("signature", ("signature", "all"))
    label_rate: float = 0.1
    harmonize: str = choice("none", ("none", *ALIGNMENTS))
    reference_site: str = ""
    adjust: str = choice("none", ("none", "tiv_age_sex"))
    shared_limit: float | None = None
    targets: str = choice("none", ("none", "signature", "all"))
    pool: tuple[str, ...] = choice(POOL, (*POOL, *BEYOND, VISITS))
    folds: int = 0
    nuisance_groups: str = choice("none", ("none", *NUISANCE_GROUPS))
    source_labels: str = choice("none", ("none", "cn_ad"))

    def __post_init__(self) -> None:
        check_choices(self)
        check_label_rate(self.label_rate)
        check_folds(self.folds)
        for name in SETTINGS:
            if self.features != "regions" and getattr(self, name) not in ("none", None):
                raise ValueError(f"{name} is {getattr(self, name)!r}, which is for features: regions; these are voxels")
        if self.shared_limit is not None and not 0 < self.shared_limit < 1:
            raise ValueError(f"shared_limit is {self.shared_limit}; it is a correlation, more than 0 and less than 1")
        if self.reference_site and self.harmonize == "none":
            raise ValueError(
                f"reference_site is {self.reference_site!r}, but harmonize is 'none': no site is a reference"
            )
        if self.margin is not None and self.margin < 0:
            raise ValueError(f"margin is {self.margin} voxels; it must be 0 or more")

    @property
    def adjusts(self) -> bool:
        return self.harmonize != "none" or self.adjust != "none" or self.shared_limit is not None

    @property
    def margin_voxels(self) -> int:
        return CROPS[self.crop].margin if self.margin is None else self.margin

    @property
    def crop_shape(self) -> tuple[int, int, int]:
        """What a classifier sees, without the margin."""
        return CROPS[self.crop].shape


@dataclass(frozen=True)
class AdniSplits(Splits):
    """`Splits` with the norms that standardized them (`modality feature mean sd n`) and who was left out, and why.

    adjustment: what was taken out of the regional measurements before that; None where nothing was.
    """

    norms: pd.DataFrame = field(default_factory=pd.DataFrame)
    left_out: dict[str, int] = field(default_factory=dict)
    adjustment: Adjustment | None = None


def load(config: AdniConfig, seed: int) -> AdniSplits:
    """Train, validation and test people (60/20/20 by group), standardized by the training people, labels hidden.

    Labeled people (stable or converter) are drawn into the three splits, raw and prepared ones alike; people whose
    outcome is unknown join training without a label, unless their group is in validation or test. The split depends on
    the seed (and `folds`) only, and the labels shown at a low rate are among those shown at a higher one.
    """
    people, left_out = read_people(config.path, pool=config.pool)
    split = _split(config, people, seed)
    used = split != LEFT_OUT
    if not used.all():
        left_out["group in validation or test"] = int((~used).sum())
    people, split = people[used].reset_index(drop=True), split[used]
    known, trains = class_index(people), split == "train"
    shown = draw_visible(known, trains, config.label_rate, np.random.default_rng([seed, 1]))
    visible = shown | (~trains & (known != UNLABELED))
    rows = [
        SplitRow(person.sample_id, person.group_id, where, person.status if person.status in CLASSES else "", shown)
        for person, where, shown in zip(people.itertuples(), split, visible.tolist(), strict=True)
    ]
    # One split after the other, so that a batch is a view of its part of the arrays: thousands of people fill
    # gigabytes, and must not exist twice.
    order = np.concatenate([np.flatnonzero(split == name) for name in SHARES])
    people, split, labels = people.iloc[order], split[order], np.where(visible, known, UNLABELED)[order]
    people, trains = people.reset_index(drop=True), split == "train"

    inputs, present, features = _read_inputs(config, people)
    adjustment = _fit_adjustment(config, people, inputs, present, split, features)
    _adjust(inputs, present, adjustment, people, features)
    _warn_of_other_sites(present, adjustment, people)
    norms = fit_norms(inputs, present, trains, features)
    standardize(inputs, present, norms, features)
    targets, target_signs = _read_targets(config, people, present, trains)
    parts = {}
    for name in SHARES:
        of_split = np.flatnonzero(split == name)
        whole = slice(of_split[0], of_split[-1] + 1)
        parts[name] = _batch(people, inputs, present, labels, whole, targets, config.nuisance_groups)
    adjustment, outside = _fit_shared(config, people.status[trains], parts["train"], rows, norms, adjustment)
    _take_out_shared(inputs, adjustment)  # in place, and the parts are views
    shapes = [
        Modality(name, tuple(values.shape[1:]), signs_of(features[name], name)) for name, values in inputs.items()
    ]
    steps = ["norms", *(["adjustment"] if adjustment else []), *(["targets"] if targets else [])]
    fitted_on = dict.fromkeys(steps, people.sample_id[trains].tolist())
    if outside:
        fitted_on["shared directions"] = fitted_on["norms"] + list(outside)
    nuisances = read_covariates(people[trains]).rename(columns={"male": "sex", "tiv_ml": "head size"})
    about = {"rows": rows, "fitted_on": fitted_on, "nuisances": {n: v.tolist() for n, v in nuisances.items()}}
    about |= {"left_out": dict(left_out), "target_signs": target_signs, "outside": outside}
    about |= {"transforms": transforms_of(norms) if adjustment is None else {}}
    splits = AdniSplits(shapes, CLASSES, **parts, **about, norms=norms, adjustment=adjustment)
    return splits if config.source_labels == "none" else replace(splits, source=load_source(config, splits))


class NoSourcePeople(ValueError):
    """A manifest without CN or without AD people.

    >>> issubclass(NoSourcePeople, ValueError)
    True
    """


def load_source(config: AdniConfig, splits: AdniSplits) -> MultimodalBatch:
    """CN people (labeled as stable) and AD people (as converters) of the folder, adjusted and standardized as training
    people were. Nobody of a group in validation or test.

    Raises NoSourcePeople where one of the two is missing: `--classes cn,stable,converter,ad` prepares their labels.
    """
    people = _people_beyond(config, splits.rows)
    if people.status.nunique() < len(BEYOND):
        raise NoSourcePeople(
            f"{config.path}: source_labels is cn_ad, but the manifest has {dict(people.status.value_counts())} people "
            "of these labels; prepare with --classes cn,stable,converter,ad"
        )
    batch = _prepared_batch(config, people, splits.norms, splits.adjustment)
    _warn_of_other_sites(batch.present.numpy(), splits.adjustment, people)
    return replace(batch, labels=torch.tensor([BEYOND.index(status) for status in people.status]))


def _people_beyond(config: AdniConfig, rows: Sequence[SplitRow]) -> pd.DataFrame:
    """CN and AD people of the folder, but those of a group in validation or test."""
    people, _ = read_people(config.path, pool=BEYOND)
    elsewhere = {row.group_id for row in rows if row.split not in ("train", LEFT_OUT)}
    return people[people.status.isin(BEYOND) & ~people.group_id.isin(elsewhere)].reset_index(drop=True)


def _prepared_batch(
    config: AdniConfig, people: pd.DataFrame, norms: pd.DataFrame, adjustment: Adjustment | None
) -> MultimodalBatch:
    """People who did not train, adjusted and standardized as those who did."""
    inputs, present, features = _read_inputs(config, people)
    _adjust(inputs, present, adjustment, people, features)
    standardize(inputs, present, norms, features)
    _take_out_shared(inputs, adjustment)
    return _batch(people, inputs, present, class_index(people), slice(None), nuisance=config.nuisance_groups)


def _split(config: AdniConfig, people: pd.DataFrame, seed: int) -> np.ndarray:
    labels, groups = class_index(people), people.group_id.to_numpy()
    if config.folds:
        return fold_splits(labels, groups, config.folds, seed, len(CLASSES))
    raw = people.kind.eq("raw").to_numpy()
    return draw_splits(labels, groups, np.random.default_rng([seed, 0]), first=raw, classes=len(CLASSES))


def volume_bytes(config: AdniConfig) -> int:
    """What the volumes of everybody whom `load` reads take in memory; 0 for regions, and for what is kept on disk.

    >>> volume_bytes(AdniConfig("prepared", features="regions"))
    0
    """
    if config.features != "voxels" or config.kept_in == "disk":
        return 0
    people, _ = read_people(config.path, pool=config.pool)
    voxels = prod(size + 2 * config.margin_voxels for size in config.crop_shape)
    return len(people) * len(MODALITIES) * voxels * np.dtype(np.float32).itemsize


def fingerprint(config: AdniConfig) -> str:
    """SHA-256 of the manifest, to know whether the people changed.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "manifest.tsv").write_text("participant_id")
    ...     len(fingerprint(AdniConfig(folder)))
    64
    """
    return hashlib.sha256((Path(config.path) / "manifest.tsv").read_bytes()).hexdigest()


def is_simulated(path: str | Path) -> bool:
    """Whether the prepared folder says that its people were simulated, whoever points at it.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "dataset_description.json").write_text('{"Name": "SIMULATED: a cohort"}')
    ...     is_simulated(folder)
    True
    """
    description = json.loads((Path(path) / "dataset_description.json").read_text(encoding="utf-8"))
    return description["Name"].startswith("SIMULATED")


def load_people(
    config: AdniConfig,
    norms: pd.DataFrame,
    path: str | Path,
    adjustment: Adjustment | None = None,
    undiagnosed: bool = False,
    sample_ids: Sequence[str] | None = None,
) -> MultimodalBatch:
    """Everybody in another prepared folder as one batch, adjusted and standardized as the training people were.

    Labels are the true ones of stable and converting people, UNLABELED for people whose outcome is unknown. With
    `margin=0` in the config the volumes have the size of the crop itself, which is all that prediction needs.
    undiagnosed: people without any diagnosis are read, too. sample_ids: nobody but these is read.
    Raises ValueError where the config asks for another adjustment than the one given, or for people who are not there.
    """
    wanted = tuple(getattr(config, name) for name in SETTINGS)
    given = tuple(getattr(adjustment, name) for name in SETTINGS) if adjustment else ("none", "none", None)
    if wanted != given:
        raise ValueError(f"{', '.join(SETTINGS)} are {wanted} in the config, and {given} in the adjustment of the run")
    config = replace(config, path=str(path), kept_in="memory")
    people, _ = read_people(path, undiagnosed)
    if sample_ids is not None:
        unknown = sorted(set(sample_ids) - set(people.sample_id))
        if unknown:
            raise ValueError(f"{unknown[0]} is not among the {len(people)} people of {path} who can be predicted")
        people = people.set_index("sample_id", drop=False).loc[list(sample_ids)].reset_index(drop=True)
    batch = _prepared_batch(config, people, norms, adjustment)
    _warn_of_other_sites(batch.present.numpy(), adjustment, people)
    return batch


def _read_inputs(
    config: AdniConfig, people: pd.DataFrame
) -> tuple[dict[str, torch.Tensor], np.ndarray, dict[str, list[str]]]:
    """modality -> (N, *shape) float32 as measured, zeros where absent; who has which, (N, M) bool; feature names."""
    present = np.stack([people[column].ne("").to_numpy() for column in MODALITIES.values()], axis=1)
    if config.features == "voxels":
        how = config.crop, config.margin_voxels, config.kept_in
        crops = {name: read_crops(config.path, people, name, *how) for name in MODALITIES}
        inputs = {name: torch.from_numpy(values).unsqueeze(1) for name, values in crops.items()}
        return inputs, present, {name: ["voxel"] for name in inputs}
    per_tiv = config.adjust == "none"
    tables = region_features(config.path, people, present, config.regions, per_tiv)
    inputs = {name: torch.tensor(table.to_numpy(), dtype=torch.float32) for name, table in tables.items()}
    return inputs, present, {name: list(table.columns) for name, table in tables.items()}


def _read_targets(
    config: AdniConfig, people: pd.DataFrame, present: np.ndarray, trains: np.ndarray
) -> tuple[dict[str, torch.Tensor], dict[str, tuple[float, ...]]]:
    """modality -> (N, T) regional measurements, standardized by the training people, NaN where there are none; and
    modality -> their signs."""
    targets: dict[str, torch.Tensor] = {}
    signs: dict[str, tuple[float, ...]] = {}
    if config.targets == "none":
        return targets, signs
    for column, (name, table) in enumerate(region_features(config.path, people, present, config.targets).items()):
        table = table.where(np.broadcast_to(present[:, [column]], table.shape))
        norm = table[trains]
        scaled = (table - norm.mean()) / norm.std(ddof=0).replace(0, 1)
        targets[name] = torch.tensor(scaled.to_numpy(), dtype=torch.float32)
        signs[name] = signs_of(list(table.columns), name)
    return targets, signs


def _fit_adjustment(
    config: AdniConfig,
    people: pd.DataFrame,
    inputs: dict[str, torch.Tensor],
    present: np.ndarray,
    split: np.ndarray,
    features: dict[str, list[str]],
) -> Adjustment | None:
    if not config.adjusts:
        return None
    covariates, parts = read_covariates(people), {}
    groups = group_sites(covariates[split == "train"]) if config.harmonize != "none" else {}
    covariates = in_groups(covariates, groups)
    harmonize = config.harmonize
    if harmonize != "none" and len(set(groups.values())) < 2:
        warnings.warn(
            "sites are not taken out: no two of them, nor two field strengths, have enough people", stacklevel=3
        )
        harmonize = "none"
    for column, (name, values) in enumerate(inputs.items()):
        having = present[:, column]
        table = pd.DataFrame(values.numpy()[having], columns=features[name])
        how = harmonize, config.adjust, config.reference_site
        parts[name] = fit_adjustment(name, table, covariates[having], split[having], *how)
        flagged = parts[name].describe()["site"]["flagged"] if parts[name].site else []
        if flagged:
            warnings.warn(
                f"{name} of {', '.join(flagged)} still differs from the reference site after {harmonize}",
                stacklevel=3,
            )
    return Adjustment(config.harmonize, config.adjust, parts, groups, config.shared_limit)


def _fit_shared(
    config: AdniConfig,
    status: pd.Series,
    training: MultimodalBatch,
    rows: Sequence[SplitRow],
    norms: pd.DataFrame,
    adjustment: Adjustment | None,
) -> tuple[Adjustment | None, dict[str, str]]:
    """The adjustment with the directions that MRI and PET share, measured on standardized training people, whose status
    is given, and on CN and AD people, who are returned with their groups."""
    if adjustment is None or config.shared_limit is None:
        return adjustment, {}
    populations, batches = [status.where(status.isin(BEYOND), "mci")], [training]
    others = _people_beyond(config, rows)
    others = others[~others.sample_id.isin(training.sample_ids)].reset_index(drop=True)
    try:
        batches += [_prepared_batch(config, others, norms, adjustment)] if len(others) else []
    except ValueError as error:  # of somebody who trains nothing else
        warnings.warn(f"CN and AD people do not count for what MRI and PET share: {error}", stacklevel=3)
        others = others[:0]
    populations += [others.status]
    complete = np.concatenate([batch.present.all(1).numpy() for batch in batches])
    values = {name: np.concatenate([batch.inputs[name].numpy() for batch in batches])[complete] for name in MODALITIES}
    shared = fit_shared_directions(values, np.concatenate(populations)[complete].tolist(), config.shared_limit)
    if shared is None:
        warnings.warn(
            f"what MRI and PET share is not looked at: {complete.sum()} people have both, {SMALLEST_SAMPLE} are needed",
            stacklevel=3,
        )
    return replace(adjustment, shared=shared), dict(zip(others.sample_id, others.group_id, strict=True))


def _take_out_shared(inputs: dict[str, torch.Tensor], adjustment: Adjustment | None) -> None:
    """In place, of standardized inputs; rows of an absent modality hold zeros, and still do."""
    if adjustment is None or adjustment.shared is None:
        return
    for name, values in inputs.items():
        values.copy_(torch.from_numpy(adjustment.shared.take_out(name, values.numpy().astype(float))))


def _adjust(
    inputs: dict[str, torch.Tensor],
    present: np.ndarray,
    adjustment: Adjustment | None,
    people: pd.DataFrame,
    features: dict[str, list[str]],
) -> None:
    """Take sites and covariates out, in place, of everybody who has the modality."""
    if adjustment is None:
        return
    covariates = adjustment.covariates(people)
    for column, (name, values) in enumerate(inputs.items()):
        part, having = adjustment.modalities[name], present[:, column]
        if list(part.features) != features[name]:
            raise ValueError(f"the adjustment of {name!r} is for {list(part.features)}; the data have {features[name]}")
        adjusted = part.apply(values.numpy()[having].astype(float), covariates[having])
        values[torch.from_numpy(having)] = torch.from_numpy(adjusted.astype(np.float32))


def _warn_of_other_sites(present: np.ndarray, adjustment: Adjustment | None, people: pd.DataFrame) -> None:
    for column, (name, part) in enumerate(adjustment.modalities.items() if adjustment else ()):
        having = present[:, column]
        count = part.count_unharmonized(adjustment.covariates(people[having]))
        if count:
            warnings.warn(
                f"{count} of {having.sum()} people with {name} are of a site that is in no group with {SMALLEST_GROUP} "
                "training people: they are not harmonized",
                stacklevel=3,
            )


def _batch(
    people: pd.DataFrame,
    inputs: dict[str, torch.Tensor],
    present: np.ndarray,
    labels: np.ndarray,
    rows: slice,
    targets: dict[str, torch.Tensor] | None = None,
    nuisance: str = "none",
) -> MultimodalBatch:
    chosen = people.iloc[rows]
    return MultimodalBatch(
        sample_ids=chosen.sample_id.tolist(),
        inputs={name: values[rows] for name, values in inputs.items()},
        present=torch.tensor(present[rows]),
        labels=torch.tensor(labels[rows]),
        groups=chosen.group_id.tolist(),
        nuisance_groups=_nuisance_groups(people, chosen, nuisance),
        targets={name: values[rows] for name, values in (targets or {}).items()},
    )


def _nuisance_groups(people: pd.DataFrame, chosen: pd.DataFrame, nuisance: str) -> list[str]:
    """The population of each person, where there is more than one, and the nuisance group, where one is named."""
    several = people.status.isin(BEYOND).any()
    populations = [POPULATIONS[status in BEYOND] if several else "" for status in chosen.status]
    groups = read_covariates(chosen)[nuisance].tolist() if nuisance != "none" else [""] * len(chosen)
    named = [", ".join(filter(None, pair)) for pair in zip(populations, groups, strict=True)]
    return named if several or nuisance != "none" else []
