"""What became of every expected scan; and tables, JSON and images, each written whole or not at all."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from adni_tcgm.files import write_bytes
from adni_tcgm.privacy import without_days
from adni_tcgm.tables import to_tsv

STATUSES = ("kept", "excluded", "failed")
MODALITIES = ("mri", "pet")


@dataclass(frozen=True)
class LedgerRow:
    """One expected scan: a person's one T1 ("mri") or one FDG ("pet"). `reason` is a sentence, empty where kept.

    automatic: the verdict of the quality checks, where they looked; rater: who set another in its place, if anybody.
    No text tells a day.
    """

    participant_id: str
    session_id: str
    modality: str
    status: str
    step: str
    reason_code: str = ""
    reason: str = ""
    source: str = ""
    automatic: str = ""
    rater: str = ""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"{self.participant_id}: ledger status {self.status!r}; known: {', '.join(STATUSES)}")
        for name in ("reason", "source", "rater"):  # folders and files of a download carry the day of the scan
            object.__setattr__(self, name, without_days(getattr(self, name)))


LEDGER_COLUMNS = tuple(field.name for field in fields(LedgerRow))


def ledger_table(rows: Iterable[LedgerRow]) -> pd.DataFrame:
    """The ledger, sorted. Raises ValueError where one visit of a person has two rows for a modality."""
    table = pd.DataFrame([asdict(row) for row in rows], columns=list(LEDGER_COLUMNS))
    keys = ["participant_id", "session_id", "modality"]
    table = table.sort_values(keys, ignore_index=True)
    twice = table[table.duplicated(keys)]
    if len(twice):
        first = twice.iloc[0]
        visit = f"{first.participant_id} {first.session_id}".strip()
        raise ValueError(f"{visit} has two ledger rows for {first.modality!r}; each scan has one")
    return table


def describe_ledger(rows: Iterable[LedgerRow]) -> str:
    """Counts for people, one line a modality: kept, then every status and reason code with its number."""
    rows = list(rows)
    lines = []
    for modality in MODALITIES:
        counts = Counter((row.status, row.reason_code) for row in rows if row.modality == modality)
        kept = sum(number for (status, _), number in counts.items() if status == "kept")
        others = [f"{status} ({code}) {n}" for (status, code), n in sorted(counts.items()) if status != "kept"]
        lines.append(f"{modality:9} " + ", ".join([f"kept {kept}", *others]))
    return "\n".join(lines)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Tab-separated with header; missing values are empty, and no cell is a formula."""
    write_bytes(path, to_tsv(table).encode())


def write_json(content: object, path: Path) -> None:
    write_bytes(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def write_image(image: nib.Nifti1Image, path: Path, sidecar: dict[str, object]) -> None:
    """Save as .nii.gz in mm, the same bytes for the same values (no time stamp), with a JSON sidecar beside it."""
    image.header.set_xyzt_units("mm")
    # Noise hardly shrinks: level 5 took 1.7 times as long as level 1 for 2 % less.
    write_bytes(path, gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))
    write_json(sidecar, path.with_name(path.name.removesuffix(".nii.gz") + ".json"))


def compact(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """The image as scaled int16: a third of the size, at worst 1/65,000 of the range off."""
    values = np.asarray(image.dataobj, dtype=np.float32)
    small = nib.Nifti1Image(values, image.affine, image.header)
    small.set_data_dtype(np.int16)
    return small
