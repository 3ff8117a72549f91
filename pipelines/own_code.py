"""Methods, networks and data sets of one's own, named by import path in a file of settings ("my_module:MyMethod").

A file that the user names on the command line may name code. A saved run may not: its modules are imported only where
the user allows them by name (`--allow-code my_module`), since a run folder can come from anywhere.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from adni_tcgm.blueprint import CodeNotAllowed, import_named
from adni_tcgm.methods.registry import METHODS
from adni_tcgm.nets.registry import NET_SETTINGS, NETS


def register_own(
    values: Mapping[str, Any], datasets: dict[str, tuple[Any, Any]], allowed: Collection[str] | None = None
) -> None:
    """Import what these settings name as module:Name, and enter it beside what is built in.

    A data set is the class of its settings (with `path` and `label_rate`) in a module with `load(settings, seed)` and
    `fingerprint(settings)`. allowed: modules; None: all of them. Raises CodeNotAllowed for another module, ValueError
    where there is nothing to import.
    """
    for kind, name in _named(values):
        known = {"method": METHODS, "net": NETS, "dataset": datasets}[kind]
        module = name.partition(":")[0]
        if name in known:
            continue
        if allowed is not None and module not in allowed:
            raise CodeNotAllowed(f"{kind} {name} is code of somebody's own; to run it: --allow-code {module}")
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())  # an installed command does not look there, python -m does
        found = import_named(name)
        if kind == "net":
            NET_SETTINGS[name] = found  # what a saved model calls it
        known[name] = (importlib.import_module(module), found) if kind == "dataset" else found


def _named(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(kind, name) of everything that is named by import path."""
    own = values.get("pretrainings") or {}
    nets = [values.get("net"), *(part.get("net") for part in own.values() if isinstance(part, Mapping))]
    names = [("method", name) for name in (values.get("method"), *(values.get("methods") or {}))]
    names += [("net", name) for name in nets] + [("dataset", values.get("dataset"))]
    for kind, name in names:
        if isinstance(name, str) and ":" in name:
            yield kind, name
