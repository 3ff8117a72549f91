"""What came back of known changes that were put into a person's own scans (`--self-check`)."""

from __future__ import annotations

from typing import Any

import pandas as pd

from reports.records import Prepared
from reports.tables import signed


def describe_response(prepared: Prepared, sample_id: str) -> dict[str, Any] | None:
    """`rows` of measure, put_in and found, each with a sign and in percent; None where nobody asked for the check."""
    visit, root = prepared.visits.loc[sample_id], prepared.home(sample_id).resolve()
    file = (root / visit["participant_id"] / visit["session_id"] / f"{sample_id}_response.tsv").resolve()
    if not (file.is_relative_to(root) and file.is_file()):
        return None
    rows = [
        {"measure": row.measure, "put_in": f"{signed(row.put_in_percent)} %", "found": f"{signed(row.found_percent)} %"}
        for row in pd.read_csv(file, sep="\t").itertuples()
    ]
    return {"rows": rows} if rows else None
