"""What else a run might have begun with, and what that scored when it was measured beforehand: `alternatives.tsv`.

The table is part of the package and says nothing about the data at hand. A run folder gets a copy, so that its report
can show it; `python -m pipelines.study … --warm-starts` measures the same on data of one's own.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pipelines.config import BUILT_IN, Settings
from preprocessing.ledger import write_bytes

FILE = "alternatives.tsv"
COLUMNS = ("features", "warm_start", "method", "labels", "seeds", "mri", "pet", "all", "all_sd")


def read_alternatives() -> pd.DataFrame:
    """COLUMNS: AUC of each modality and of both (mean, and SD over seeds) on people who never trained."""
    # "none" is a name here, and no missing value.
    return pd.read_csv(BUILT_IN / FILE, sep="\t", keep_default_na=False)


def write_alternatives(run_dir: Path, settings: Settings, method: str) -> Path:
    """`alternatives.tsv` in the run folder, with a column `used`: whether the row is what this run did."""
    table = read_alternatives()
    mine = {"features": settings.data.features, "warm_start": settings.warm_start, "method": method}
    table["used"] = (table[list(mine)] == pd.Series(mine)).all(axis=1)
    file, text = run_dir / FILE, table.to_csv(sep="\t", index=False, lineterminator="\n")
    # A finished run whose table is the same is left as it is, dates included.
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        write_bytes(file, text.encode())
    return file
