"""How a scan was taken, as far as tables, sidecars and headers say: the magnet's field strength, the PET's tracer.

Nothing of this changes what is computed; reports show it and look at subgroups by it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from preprocessing.intake.catalog import FIELD_STRENGTHS, IMAGE_IDS, Tables, read_tables
from preprocessing.intake.columns import find_column, read_ids
from preprocessing.intake.people import Person
from preprocessing.sidecars import read_sidecars

# The letters of a name: FDG (FDGal is galactose), or a fluorinated deoxyglucose in any order and spelling.
FDG = re.compile(r"fdg(?!al)|(?=.*(fluor|flud|f18|18f))(?=.*des?oxy)(?=.*glu[ck]os(?!amin))")
TRACER = "18F-FDG"
GAUSS_A_TESLA = 1e4
# Whole-body magnets; a number beyond them is something else.
TESLA = (0.1, 12.0)


def read_field_strength(text: object) -> float | None:
    """Tesla from "1.5", "3 Tesla MRI", "Field Strength=3.0;Weighting=T1" or "15000" (gauss); None without a number."""
    words = re.search(r"field.?strength\s*=\s*([\d.]+)", str(text), re.IGNORECASE)
    number = words or re.match(r"\s*(\d+(?:\.\d+)?)\s*(?:t|tesla.*)?\s*$", str(text), re.IGNORECASE)
    try:
        value = float(number[1]) if number else float("nan")
    except ValueError:
        return None
    value = value / GAUSS_A_TESLA if value > 1000 else value
    return value if TESLA[0] <= value <= TESLA[1] else None


def read_tracer(text: object) -> str:
    """18F-FDG where the words say so, else empty: free text of a header goes no further.

    >>> read_tracer("2-deoxy-2-[18F]fluoro-D-glucose"), read_tracer("F18")
    ('18F-FDG', '')
    """
    return TRACER if FDG.search(re.sub(r"[^a-z0-9]", "", str(text).lower())) else ""


@dataclass(frozen=True)
class FieldStrengths:
    """Tesla by image id, from the Mayo quality table, and by PTID, from ADNIMERGE."""

    by_image: Mapping[str, float] = field(default_factory=dict)
    by_person: Mapping[str, float] = field(default_factory=dict)

    def find(self, protocol: str, image_id: str, ptid: str) -> float | None:
        """What the collection's own protocol column says, else the tables."""
        known = read_field_strength(protocol) or self.by_image.get(image_id)
        return known or self.by_person.get(ptid)


def read_field_strengths(where: Path | Tables) -> FieldStrengths:
    """All tables under a folder that have a column of it; none is needed. A person with two magnets has none here."""
    tables = read_tables(where)
    by_image: dict[str, float] = {}
    by_person: dict[str, set[float]] = {}
    for path, table in tables.of("image strengths"):
        ids = read_ids(table[find_column(table, path, IMAGE_IDS)])
        by_image |= {name: tesla for name, tesla in zip(ids, _tesla(table, path), strict=True) if tesla is not None}
    # A person's other scans may come from another magnet: only where no table of images says.
    for path, table in tables.of("person strengths"):
        for name, tesla in zip(table[find_column(table, path, ("PTID",))], _tesla(table, path), strict=True):
            if tesla is not None:
                by_person.setdefault(name.strip(), set()).add(tesla)
    return FieldStrengths(by_image, {name: min(found) for name, found in by_person.items() if len(found) == 1})


def _tesla(table: pd.DataFrame, path: Path) -> list[float | None]:
    return [read_field_strength(text) for text in table[find_column(table, path, FIELD_STRENGTHS)]]


def from_sidecars(person: Person) -> Person:
    """The person with what the sidecars beside the scans say, where nothing else did."""
    strength, tracer = person.field_strength_t, person.tracer
    if strength is None:
        strength = read_field_strength(read_sidecars(person.t1.path)[0].get("MagneticFieldStrength", ""))
    if person.pet is not None and not tracer:
        tracer = read_tracer(read_sidecars(person.pet.path)[0].get("TracerName", ""))
    return replace(person, field_strength_t=strength, tracer=tracer if person.pet is not None else "")


def interval_days(person: Person) -> float | None:
    """Days between T1 and PET; None without a PET, or where nobody says."""
    days = person.pet.days_from_t1 if person.pet is not None else None
    return None if days is None or pd.isna(days) else float(abs(days))
