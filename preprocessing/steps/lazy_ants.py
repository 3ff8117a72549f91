"""ANTs at its first use: it takes seconds to load, for which no page of help and no look at a folder should wait."""

from importlib import import_module


def __getattr__(name: str) -> object:
    return getattr(import_module("ants"), name)
