"""Dataclasses of settings from plain values: each value becomes what its field's type says, or is refused by name."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

# Former names of settings, in files and saved runs that are older.
RENAMED = {
    "rounds": "steps",
    "warm_up_rounds": "supervised_steps",
    "source_rounds": "source_steps",
    "gamma_l": "lr_labeled",
    "gamma_u": "lr_unlabeled",
    "warm_start": "pretraining",
    "warm_starts": "pretrainings",
    "strata": "nuisance_groups",
    "within_strata": "within_nuisance_groups",
}


# Each call would compile every annotation again.
hints_of = functools.cache(typing.get_type_hints)


def build(kind: type, values: Mapping[str, Any], place: str) -> Any:
    """A dataclass from plain values, nested ones included, each converted to its field's type.

    place: what messages begin with. Raises ValueError for the first mistake.

    >>> from adni_tcgm.nets.mlp import MLPConfig
    >>> build(MLPConfig, {"hidden": [64], "dropout": "1e-1"}, "mlp")
    MLPConfig(hidden=(64,), dropout=0.1, bias=True)
    """
    mistakes: list[str] = []
    built = read(kind, values, place, mistakes)
    if mistakes:
        raise ValueError(mistakes[0])
    return built


def read(kind: type, values: Mapping[str, Any], place: str, mistakes: list[str]) -> Any:
    """As `build`, but every mistake goes into `mistakes`, a sentence each; where there are any, the answer is None."""
    if not isinstance(values, Mapping):
        mistakes.append(f"{place} is {values!r}; expected keys and values")
        return None
    before, hints = len(mistakes), hints_of(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    mistakes += [_unknown(place, key, [*fields]) for key in values if key not in fields]
    for name, f in fields.items():
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and name not in values:
            mistakes.append(f"{place}: {name!r} is missing")
    converted = {}
    for key in (key for key in values if key in fields):
        if dataclasses.is_dataclass(hints[key]) and not dataclasses.is_dataclass(values[key]):
            converted[key] = read(hints[key], values[key], f"{place}: {key}", mistakes)
            continue
        try:
            converted[key] = _convert(hints[key], values[key], f"{place}: {key}")
        except ValueError as error:
            mistakes.append(str(error))
    if len(mistakes) > before:
        return None
    try:
        return kind(**converted)
    except ValueError as error:
        mistakes.append(str(error) if str(error).startswith(place) else f"{place}: {error}")
        return None


def _unknown(place: str, key: Any, known: Sequence[str]) -> str:
    if RENAMED.get(key) in known:
        return f"{place}: {key!r} is called {RENAMED[key]!r} now"
    close = difflib.get_close_matches(str(key), known, n=1)
    meant = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
    return f"{place}: unknown key {key!r}{meant}"


def _convert(hint: Any, value: Any, place: str) -> Any:
    if dataclasses.is_dataclass(value) or _is_built(value):
        return value
    if dataclasses.is_dataclass(hint):
        return build(hint, value, place)
    if isinstance(hint, types.UnionType):
        return _convert_union(typing.get_args(hint), value, place)
    if typing.get_origin(hint) is tuple and isinstance(value, list | tuple):
        return tuple(_convert(typing.get_args(hint)[0], item, place) for item in value)
    # PyYAML reads 1e-3 as text and 1 as int; the field knows better.
    if hint in (int, float, str) and not isinstance(value, bool | dict | list):
        try:
            converted = hint(value)
        except (TypeError, ValueError):
            converted = None
        if converted is not None and (hint is not int or float(value) == converted):
            return converted
    elif isinstance(value, hint if isinstance(hint, type) else object):
        return value
    raise ValueError(f"{place} is {value!r}; expected {getattr(hint, '__name__', hint)}")


def _is_built(value: Any) -> bool:
    """A network for each modality, as `Settings.classifier` gives them."""
    return isinstance(value, Mapping) and bool(value) and all(map(dataclasses.is_dataclass, value.values()))


def _convert_union(kinds: Sequence[Any], value: Any, place: str) -> Any:
    """None where that is allowed, or else the first kind that takes the value."""
    if value is None and type(None) in kinds:
        return None
    error = None
    for kind in (kind for kind in kinds if kind is not type(None)):
        try:
            return _convert(kind, value, place)
        except ValueError as problem:
            error = error or problem
    raise error
