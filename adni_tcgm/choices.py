"""Settings that take one of a few names: said where the field is declared, so that checks and schema know the same."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import field, fields
from typing import Any


def choice(default: str | tuple[str, ...], allowed: Iterable[str]) -> Any:
    """A field of a dataclass of settings that takes one of `allowed`, or, where `default` is a tuple, any of them.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Net:
    ...     size: str = choice("slim", ("slim", "paper"))
    ...     def __post_init__(self):
    ...         check_choices(self)
    >>> Net("papre")
    Traceback (most recent call last):
    ValueError: size is 'papre'; choose one of slim, paper; did you mean 'paper'?
    """
    return field(default=default, metadata={"allowed": tuple(allowed)})


def check_choices(settings: Any) -> None:
    """Raises ValueError for the first field whose value is not among those that its `choice` allows."""
    for f in fields(settings):
        if "allowed" in f.metadata:
            value = getattr(settings, f.name)
            for one in value if isinstance(value, tuple) else (value,):
                check_choice(f.name, one, f.metadata["allowed"])


def check_choice(name: str, value: str, allowed: Iterable[str]) -> None:
    """Raises ValueError that names the value, what is allowed, and the nearest of that."""
    known = [*allowed]
    if value not in known:
        close = difflib.get_close_matches(str(value), known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(known)}{hint}")
