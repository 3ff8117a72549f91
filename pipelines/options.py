"""Options that several commands share: their arguments, and what they become."""

from __future__ import annotations

import argparse
import os
from argparse import ArgumentTypeError
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from preprocessing import choices

# Where scans come from: flag -> how they lie there.
LAYOUTS = {"data": "adni", "bids": "bids", "list": "list"}


def read_options(kind: type, arguments: argparse.Namespace) -> Any:
    """A dataclass of the arguments that are called as its fields; of a field that is a dataclass, that of its own.

    Raises ValueError where the dataclass refuses them.
    """
    values, hints = vars(arguments), get_type_hints(kind)
    found = {
        f.name: read_options(hints[f.name], arguments) if is_dataclass(hints[f.name]) else _frozen(values[f.name])
        for f in fields(kind)
    }
    return kind(**found)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise ArgumentTypeError(f"{text}; a share between 0 and 1 is needed, e.g. 0.17")
    return value


def at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ArgumentTypeError(f"{text}; it must be at least 1")
    return value


def all_none_or_number(text: str) -> str:
    if text not in ("all", "none") and not text.isdigit():
        raise ArgumentTypeError(f"{text!r}; it must be all, none or a number")
    return text


def names(text: str) -> tuple[str, ...]:
    """ "ce, tcgm,ce" -> ("ce", "tcgm")"""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def add_jobs(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--jobs", type=at_least_one, default=os.cpu_count(), metavar="N", help="processes; default: all cores"
    )


def add_overrides(group: argparse._ActionsContainer, example: str) -> None:
    group.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=f"e.g. {example}; repeatable")
    group.add_argument("--device", default="auto", help="auto, cpu or cuda")


def add_prevalence(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--prevalence",
        type=share,
        metavar="SHARE",
        help="of converters among such people where the report is read, e.g. 0.17",
    )


def add_identifiers(group: argparse._ActionsContainer) -> None:
    group.add_argument("--identifiers", action="store_true", help="call people by their ids, not by pseudonyms")


def add_self_check(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--self-check",
        action="store_true",
        help="also put known changes into the very scans of whoever is reported, and measure them again; takes as long "
        "as two more people each",
    )


def add_acknowledgement(group: argparse._ActionsContainer) -> None:
    group.add_argument("--acknowledgement", default="", metavar="TEXT", help="in reports on data that are not ADNI's")


@dataclass(frozen=True)
class Scans:
    """Where scans come from. At most one of data, bids and list; tables and dates belong to an ADNI download."""

    data: Path | None
    bids: Path | None
    list: Path | None
    tables: Path | None
    dates: str | None

    def __post_init__(self) -> None:
        given = [name for name in LAYOUTS if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"--{given[0]} and --{given[1]}; one source of scans at a time")
        for name in ("tables", "dates"):
            if getattr(self, name) and given != ["data"]:
                there = f"it does not go with --{given[0]}" if given else "--data names it"
                raise ValueError(f"--{name} belongs to an ADNI download; {there}")
        if self.data and self.data.is_file():
            raise ValueError(f"--data {self.data}: a file; a list of scans is given as --list {self.data}")
        if self.data and not (self.data / "manifest.tsv").is_file() and any(self.data.glob("sub-*/")):
            raise ValueError(f"--data {self.data}: holds sub-* folders; a BIDS data set is given as --bids {self.data}")

    @property
    def flag(self) -> str:
        """Which was given; data where none was."""
        return next((name for name in LAYOUTS if getattr(self, name)), "data")

    @property
    def layout(self) -> str:
        return LAYOUTS[self.flag]

    @property
    def path(self) -> Path | None:
        return getattr(self, self.flag)


def add_scans(parser: argparse.ArgumentParser, data: str) -> None:
    """data: what --data may name."""
    group = parser.add_argument_group("where the scans come from")
    group.add_argument("--data", type=Path, metavar="DIR", help=data)
    group.add_argument("--bids", type=Path, metavar="DIR", help="instead: a BIDS data set with T1w and PET")
    group.add_argument("--list", type=Path, metavar="FILE", help="instead: a table of subject, t1, pet")
    group.add_argument("--tables", type=Path, metavar="DIR", help="the ADNI tables; default: found under --data")
    group.add_argument(
        "--dates", choices=choices.DATE_ORDERS, help="what comes first in dates that prove it nowhere in their column"
    )


def add_pair_days(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--pair-days",
        type=int,
        default=choices.PAIR_DAYS,
        metavar="DAYS",
        help="from the T1 to its PET, at most; default: %(default)s",
    )


def add_reversion(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--reversion",
        choices=choices.REVERSIONS,
        default="unlabeled",
        help="what a milder diagnosis does; default: %(default)s",
    )


@dataclass(frozen=True)
class Labels:
    """Who is labeled stable or converter (`preprocessing.intake.labels.LabelRule`), by which visits, and how many days
    may lie between a T1 and its PET."""

    horizon: float
    minimum_follow_up: float
    scan_months: float
    reversion: str
    classes: tuple[str, ...]
    visits: str
    pair_days: int

    def rule(self) -> Any:
        """The `LabelRule`. Raises ValueError for classes that are not known."""
        from preprocessing.intake.labels import LabelRule

        return LabelRule(
            horizon_months=self.horizon,
            minimum_follow_up_months=self.minimum_follow_up,
            reversion=self.reversion,
            classes=self.classes,
            scan_months=self.scan_months,
        )


def add_labels(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("labels and visits")
    group.add_argument(
        "--horizon",
        type=float,
        default=choices.HORIZON_MONTHS,
        metavar="MONTHS",
        help="within which a conversion counts; default: %(default)g",
    )
    group.add_argument(
        "--minimum-follow-up",
        type=float,
        default=0.0,
        metavar="MONTHS",
        help="of people without a conversion; default: %(default)g",
    )
    group.add_argument(
        "--scan-months",
        type=float,
        default=choices.SCAN_MONTHS,
        metavar="MONTHS",
        help="from a scan to the visit whose diagnosis is the scan's, at most; default: %(default)g",
    )
    add_reversion(group)
    group.add_argument("--classes", type=names, default="cn,stable,converter,ad", help="default: %(default)s")
    group.add_argument(
        "--visits",
        choices=choices.VISITS,
        default="one",
        help="of a person; all: every one with a T1 is prepared, one gives the label (data.pool: visits trains on all)",
    )
    add_pair_days(group)


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are not None: what was left out has the default of whatever is built from it."""
    return {name: value for name, value in values.items() if value is not None}


def add_overwrite(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--overwrite", action="store_true", help="replace runs of other settings that lie where new ones would"
    )


def add_allow_code(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--allow-code",
        action="append",
        default=[],
        metavar="MODULE",
        help="whose code may be imported where the run names methods, networks or data of somebody's own",
    )
