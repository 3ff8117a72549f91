"""JSON schema of the settings, from their own types: with it an editor completes and checks a YAML file.

`configs/settings.schema.json` holds it; `adni-tcgm config schema` prints it.
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from adni_tcgm.nets.sequence import EncoderConfig
from adni_tcgm.pretraining.murauer import Murauer
from adni_tcgm.pretraining.pretext import Pretraining
from adni_tcgm.pretraining.shared_private import SharedPrivate
from adni_tcgm.tcgm.trainer import TrainConfig
from pipelines.config import BUILT_IN, DATASETS, ENCODERS, METHODS, NETS, Settings

FILE = BUILT_IN / "settings.schema.json"
PLAIN = {str: "string", bool: "boolean", int: "integer", float: "number", dict: "object"}
OWN_NAME = {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$"}  # module:Name


def schema() -> dict[str, Any]:
    """The schema as JSON values. Whatever `load_settings` takes as it stands, it allows."""
    of_settings = of_dataclass(Settings)
    properties = of_settings["properties"]
    train = of_dataclass(TrainConfig)
    properties["dataset"] = _named(DATASETS) | {"default": "adni"}
    properties["net"] = _named((*NETS, ENCODERS)) | {"default": Settings.net}
    properties["data"] = {"type": "object"}
    properties["encoders"] = {"type": "object", "additionalProperties": of_dataclass(EncoderConfig)}
    properties["methods"] = {
        "type": "object",
        "properties": {name: _method(kind) for name, kind in _built_in(METHODS).items()},
        "patternProperties": {OWN_NAME["pattern"]: {"type": "object"}},
        "additionalProperties": False,
    }
    both = {"net": _named((*NETS, ENCODERS)), "train": {"$ref": "#/$defs/train"}}
    kinds = [_with(of_dataclass(kind), both) for kind in (Pretraining, Murauer, SharedPrivate)]
    properties["pretrainings"] = {"type": "object", "additionalProperties": {"anyOf": kinds}}
    properties["train"] = {"$ref": "#/$defs/train"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of adni-tcgm",
        **of_settings,
        "allOf": [_data_of(name) for name in _built_in(DATASETS)],
        "$defs": {"train": train, **{name: of_dataclass(kind) for name, (_, kind) in _built_in(DATASETS).items()}},
    }


def _data_of(name: str) -> dict[str, Any]:
    """If `dataset` is that one, `data` has its settings; a file that names none is of brains."""
    here = {"properties": {"dataset": {"const": name}}} | ({} if name == "adni" else {"required": ["dataset"]})
    return {"if": here, "then": {"properties": {"data": {"$ref": f"#/$defs/{name}"}}}}


def _method(kind: type) -> dict[str, Any]:
    found = _with(of_dataclass(kind), {"train": {"$ref": "#/$defs/train"}})
    found["properties"].pop("classifier", None)  # the settings' own net
    return found


def _with(one: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    return one | {"properties": one["properties"] | dict(more)}


def _built_in(known: Mapping[str, Any]) -> dict[str, Any]:
    """Without what files of settings have entered since by import path."""
    return {name: kind for name, kind in known.items() if ":" not in name}


def _named(known: Mapping[str, Any] | Sequence[str]) -> dict[str, Any]:
    """One of these names, or one's own by import path."""
    return {"anyOf": [{"enum": [name for name in known if ":" not in name]}, OWN_NAME]}


def of_dataclass(kind: type) -> dict[str, Any]:
    """An object of its fields and no others. None is required: the command line may give what a file leaves out."""
    hints, texts = typing.get_type_hints(kind), field_texts(kind)
    properties = {}
    for f in dataclasses.fields(kind):
        about = of_type(hints[f.name], f.metadata.get("allowed"))
        if f.default is not dataclasses.MISSING and _is_plain(f.default):
            about = about | {"default": json.loads(json.dumps(f.default))}
        if f.name in texts:
            about = about | {"description": texts[f.name]}
        properties[f.name] = about
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | tuple)


def of_type(hint: Any, allowed: Sequence[str] | None = None) -> dict[str, Any]:
    """Of a field's type; allowed: the names that a `choice` takes."""
    if hint is str and allowed:
        return {"enum": [*allowed]}
    if hint in PLAIN:
        return {"type": PLAIN[hint]}
    if hint is type(None):
        return {"type": "null"}
    if dataclasses.is_dataclass(hint):
        return of_dataclass(hint)
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [of_type(part, allowed) for part in parts]}
    if origin is tuple or (isinstance(origin, type) and issubclass(origin, Sequence)):
        return {"type": "array", "items": of_type(parts[0], allowed)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": of_type(parts[1])}
    return {}


def field_texts(kind: type) -> dict[str, str]:
    """Field -> what the docstring says behind "field:" or "field, other field:"."""
    known = "|".join(f.name for f in dataclasses.fields(kind))
    marker = re.compile(rf"(?:(?<=\s)|^)((?:{known})(?:, (?:{known}))*): ")
    parts = marker.split(" ".join((kind.__doc__ or "").split()))
    texts = zip(parts[1::2], parts[2::2], strict=True)
    return {name: text.strip() for names, text in texts for name in names.split(", ")}
