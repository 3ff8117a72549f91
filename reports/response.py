"""What came back of known changes that were put into a person's own scans (`predict --self-check`)."""

from __future__ import annotations

from typing import Any

import pandas as pd

from reports.records import Prepared
from reports.tables import signed

FILE = "response_check.tsv"


def describe_response(prepared: Prepared, sample_id: str) -> dict[str, Any] | None:
    """`rows` of measure, put_in and found, each with a sign and in percent; None where nobody asked for the check."""
    file = prepared.home(sample_id) / FILE
    if not file.is_file():
        return None
    table = pd.read_csv(file, sep="\t", dtype={"participant_id": str, "session_id": str})
    table = table[table["participant_id"] + "_" + table["session_id"] == sample_id]
    rows = [
        {"measure": row.measure, "put_in": f"{signed(row.put_in_percent)} %", "found": f"{signed(row.found_percent)} %"}
        for row in table.itertuples()
    ]
    return {"rows": rows} if rows else None
