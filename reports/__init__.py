"""Run folders in, PDFs out; never trains, never preprocesses."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["Reports", "plan_subjects", "write_reports"]


def __getattr__(name: str) -> Any:
    """Loaded when first asked for: `python -m reports --help` draws nothing."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("reports.writing"), name)
