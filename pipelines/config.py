"""Settings of a run: dataclasses, then a YAML file, then the command line. Unknown keys are refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from adni_tcgm.choices import check_choice, check_choices, choice
from adni_tcgm.datasets import adni, arrays, emotion, gaussian, newsgroup
from adni_tcgm.limits import load_yaml, read_text
from adni_tcgm.methods.method import ClassifierConfig, Method
from adni_tcgm.methods.registry import METHODS
from adni_tcgm.nets.augment3d import Augment3D
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.nets.registry import NETS
from adni_tcgm.nets.sequence import EncoderConfig
from adni_tcgm.pretraining.murauer import Murauer
from adni_tcgm.pretraining.pretext import Pretraining
from adni_tcgm.pretraining.shared_private import SharedPrivate
from adni_tcgm.tcgm.batch import UNLABELED, MultimodalBatch, Splits, join
from adni_tcgm.tcgm.trainer import TrainConfig
from pipelines.building import build
from pipelines.own_code import register_own

BUILT_IN = Path(__file__).parent / "configs"
# What `dataset` names: the module that loads it, and the settings that it takes.
DATASETS = {
    "adni": (adni, adni.AdniConfig),
    "arrays": (arrays, arrays.ArraysConfig),
    "newsgroup": (newsgroup, newsgroup.NewsgroupConfig),
    "gaussian": (gaussian, gaussian.GaussianConfig),
    "emotion": (emotion, emotion.EmotionConfig),
}
NESTED = ("encoders", "methods", "pretrainings")  # name -> settings of its own
ENCODERS = "encoders"  # a network for each modality
NO_PRETRAINING = "none"
AUSTERE, PAPER = "austere", "paper"  # which labels a run may look at
DataConfig = (
    adni.AdniConfig | arrays.ArraysConfig | newsgroup.NewsgroupConfig | gaussian.GaussianConfig | emotion.EmotionConfig
)


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run, apart from the method's name.

    dataset: one of DATASETS; `data` are its settings. name: what results are filed under. dataset, net and the methods
        may be one's own, named by import path (`own_code`).
    net: "paper" or "slim" (3D DenseNet), "grid" (volumes that lie in one space), "linear" or "mlp" (vectors; `mlp` has
        its settings), or "encoders" (vectors and sequences; `encoders` has the settings of each modality).
    augment: "default", "paper" or "none"; of volumes only.
    protocol: "austere", no label but the visible ones: the last step counts, and the visible labels are cross-fitted
        for calibration; or "paper", labeled validation samples choose the step and calibrate.
    methods: method -> its own settings, and under `train` what it trains with differently.
    panels: what a study's plot shows, modalities or "all", in this order; none: everything.
    pretraining: which of `pretrainings` comes first, or "none". On top of it, a method trains linear classifiers of
        what its encoders say.
    pretrainings: name -> settings of a `Pretraining`, with a `source` of `Murauer`, with a `private` width of
        `SharedPrivate`; under `net` another network than the run's, under `train` what methods train with differently
        after it. "none" has no more than these two.
    """

    data: DataConfig
    dataset: str = "adni"
    name: str = "adni"
    train: TrainConfig = field(default_factory=TrainConfig)
    net: str = "slim"
    mlp: MLPConfig = field(default_factory=MLPConfig)
    encoders: dict = field(default_factory=dict)
    augment: str = choice("default", ("default", "paper", "none"))
    protocol: str = choice(AUSTERE, (AUSTERE, PAPER))
    methods: dict = field(default_factory=dict)
    panels: tuple[str, ...] = ()
    pretraining: str = NO_PRETRAINING
    pretrainings: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (self.name, *self.pretrainings):
            # Folders are called by them.
            if Path(name).name != name or name in ("", ".."):
                raise ValueError(f"name {name!r}; a name without / that could be a folder is needed")
        check_choices(self)
        check_choice("dataset", self.dataset, DATASETS)
        check_choice("net", self.net, (*NETS, ENCODERS))
        check_choice("pretraining", self.pretraining, (NO_PRETRAINING, *self.pretrainings))
        if self.net == ENCODERS and not self.encoders:
            raise ValueError("net is 'encoders', but encoders names no modality and its network")
        for name in self.methods:
            # Built once, so that a wrong key is refused before anything runs.
            self.method(name), self.train_for(name)
        for name in self.pretrainings:
            other = (
                self
                if name == self.pretraining
                else replace(self, pretraining=name, pretrainings={name: self.pretrainings[name]})
            )
            other.chosen_pretraining(), other.encoder(), other.train_for("ce")

    @property
    def volumes(self) -> bool:
        return self.dataset == "adni" and self.data.features == "voxels"

    @property
    def variant(self) -> str:
        """How run folders start: brains by their features, everything else by its name."""
        return self.data.features if self.dataset == "adni" else self.name

    def load(self, seed: int) -> Splits:
        return DATASETS[self.dataset][0].load(self.data, seed)

    def fingerprint(self) -> str:
        """Changes when the data do."""
        return DATASETS[self.dataset][0].fingerprint(self.data)

    @property
    def simulated(self) -> bool:
        """Whether no real data are behind a result."""
        if self.dataset == "adni":
            return adni.is_simulated(self.data.path)
        return self.dataset == "gaussian" or (self.dataset == "emotion" and not self.data.path)

    @property
    def network(self) -> str:
        """The name of the networks that see the inputs: encoders, or the classifiers themselves."""
        return self._own.get("net", self.net)

    @property
    def _own(self) -> dict:
        """The settings of the chosen pretraining; those of "none" are for training from scratch."""
        return self.pretrainings.get(self.pretraining, {})

    def encoder(self) -> ClassifierConfig | dict[str, ClassifierConfig]:
        """The networks that see the inputs; of "encoders", one for each modality."""
        check_choice(f"pretrainings.{self.pretraining}: net", self.network, (*NETS, ENCODERS))
        if self.network == ENCODERS:
            return {name: build(EncoderConfig, values, f"encoders.{name}") for name, values in self.encoders.items()}
        return self.mlp if self.network == "mlp" else NETS[self.network]()

    def classifier(self) -> ClassifierConfig | dict[str, ClassifierConfig]:
        """The networks that a method trains: on pretrained encoders, linear ones."""
        return self.encoder() if self.pretraining == NO_PRETRAINING else MLPConfig()

    def chosen_pretraining(self) -> Pretraining | Murauer | SharedPrivate | None:
        """What encoders learn before the classifiers. None: there are none."""
        values = {key: value for key, value in self._own.items() if key not in ("net", "train")}
        place = f"pretrainings.{self.pretraining}"
        if self.pretraining != NO_PRETRAINING:
            marked = {"source": Murauer, "private": SharedPrivate}
            kind = next((kind for key, kind in marked.items() if key in values), Pretraining)
            return build(kind, values, place)
        if values:
            raise ValueError(f"{place} has {', '.join(values)}; without pretraining there are only net and train")
        return None

    def describe_pretraining(self) -> dict:
        """The pretraining as metrics and reports name it."""
        chosen = self.chosen_pretraining()
        named = {Murauer: ("murauer",), SharedPrivate: ("shared",)}
        tasks = named.get(type(chosen)) or chosen.tasks
        return {"name": self.pretraining, "net": self.network, "tasks": list(tasks)}

    def load_source(self, paths: Sequence[str]) -> MultimodalBatch:
        """Everybody in other data sets of this kind, with all labels; each is standardized by itself."""
        parts = []
        for path in paths:
            splits = override(self, path=path, label_rate=1.0).load(0)
            labeled = [
                batch.select(batch.labels != UNLABELED) for batch in (splits.train, splits.validation, splits.test)
            ]
            parts += labeled
        return join(parts)

    def method(self, name: str) -> Method:
        check_choice("method", name, METHODS)
        values = {key: value for key, value in self.methods.get(name, {}).items() if key != "train"}
        return build(METHODS[name], {"classifier": self.classifier(), **values}, f"methods.{name}")

    def train_for(self, name: str) -> TrainConfig:
        """The settings of the run, with those of the pretraining on top, and those of the method on top of them."""
        common = dataclasses.asdict(self.train) | self._own.get("train", {})
        build(TrainConfig, common, f"pretrainings.{self.pretraining}.train")
        own = self.methods.get(name, {}).get("train", {})
        return build(TrainConfig, {**common, **own}, f"methods.{name}.train")

    def augmentation(self) -> Augment3D | None:
        if self.augment == "none" or not self.volumes:
            return None
        make = Augment3D.paper if self.augment == "paper" else Augment3D
        return make(self.data.crop_shape, self.data.margin_voxels)


def load_settings(source: str, overrides: Mapping[str, Any]) -> Settings:
    """A built-in name (`pipelines/configs`) or a YAML file, with `overrides` ("data.label_rate" -> value) on top.

    Raises ValueError naming the file or flag, the key and what it may have meant.
    """
    path, values = read_configuration(source)
    for key, value in overrides.items():
        _put(values, key.split("."), value)
    for mistake in list_misshapen(values):
        raise ValueError(f"{path.name}: {mistake}")
    try:
        register_own(values, DATASETS)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error
    dataset = values.get("dataset", "adni")
    check_choice(f"{path.name}: dataset", dataset, DATASETS)
    data = build(DATASETS[dataset][1], values.pop("data", {}), f"{path.name}: data")
    return build(Settings, {**values, "data": data}, path.name)


def read_configuration(source: str) -> tuple[Path, dict[str, Any]]:
    """The file of a built-in name, or that YAML file, and its keys and values.

    Raises ValueError where there is no such file, or it holds something else.
    """
    path = Path(source) if source.endswith((".yaml", ".yml")) else BUILT_IN / f"{source}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in BUILT_IN.glob("*.yaml"))
        raise ValueError(f"no configuration {source!r}; built-in: {', '.join(known)}; or give a .yaml file")
    try:
        values = load_yaml(read_text(path)) or {}
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path.name}: expected keys and values, found {type(values).__name__}")
    values.setdefault("name", path.stem)
    return path, values


def list_misshapen(values: Mapping[str, Any]) -> Iterator[str]:
    """Which parts hold no keys and values where these are expected, a sentence each."""
    parts = {name: values[name] for name in ("data", "train", "mlp", *NESTED) if name in values}
    nested = {name: part for name, part in parts.items() if name in NESTED and isinstance(part, Mapping)}
    parts |= {f"{name}.{key}": value for name, part in nested.items() for key, value in part.items()}
    for place, value in parts.items():
        if not isinstance(value, Mapping):
            yield f"{place} is {value!r}; expected keys and values"


def override(settings: Settings, **data: Any) -> Settings:
    """The same settings with other values in `data`."""
    return replace(settings, data=replace(settings.data, **data))


def parse_override(text: str) -> tuple[str, Any]:
    """ "train.lr_unlabeled=1e-3" -> ("train.lr_unlabeled", "1e-3"); the dataclass field decides the type later."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"--set {text!r}: expected key=value, for example train.lr_unlabeled=1e-3")
    return key, load_yaml(value)


def _put(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        values = values.setdefault(name, {})
    values[path[-1]] = value
