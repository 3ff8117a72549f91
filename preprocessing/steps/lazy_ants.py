"""ANTs at its first use: it takes seconds to load, for which no page of help and no look at a folder should wait."""

import sys
from importlib import import_module
from types import ModuleType

_seeds: list[int] = []


def draw_from(seed: int) -> None:
    """ANTs' random numbers begin with `seed` (1 or more) now, or as soon as it is loaded."""
    _seeds[:] = [seed]
    if "ants" in sys.modules:
        _load()


def _load() -> ModuleType:
    ants = import_module("ants")
    if _seeds:
        import_module("ants.config").set_ants_deterministic(True, _seeds.pop())
    return ants


def __getattr__(name: str) -> object:
    return getattr(_load(), name)
