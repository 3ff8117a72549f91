"""What else a run might have begun with: a table of the package, copied into run folders and shown by reports."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from pipelines.alternatives import COLUMNS, read_alternatives, write_alternatives
from pipelines.config import NO_WARM_START, load_settings
from reports.cohort import list_alternatives


def test_the_table_knows_every_warm_start_of_the_configurations_but_murauer_and_both_methods() -> None:
    table = read_alternatives()
    assert tuple(table.columns) == COLUMNS and not table.isna().any(axis=None)
    for features, name in (("voxels", "adni_voxels_cpu"), ("regions", "adni_regions")):
        offered = {NO_WARM_START, *load_settings(name, {}).warm_starts}
        mine = table[table.features == features]
        assert set(zip(mine.warm_start, mine.method, strict=True)) == {
            (warm_start, method) for warm_start in offered for method in ("ce", "tcgm")
        }
    assert table[["mri", "pet", "all"]].stack().between(0.5, 1).all()


@pytest.mark.parametrize("warm_start", ["both", "none"])
def test_the_row_that_is_the_run_s_own_is_marked(tmp_path: Path, warm_start: str) -> None:
    settings = load_settings("adni_voxels_cpu", {"warm_start": warm_start})
    found = pd.read_csv(write_alternatives(tmp_path, settings, "tcgm"), sep="\t", keep_default_na=False)
    used = found[found.used]
    assert len(found) == len(read_alternatives())
    assert used[["features", "warm_start", "method"]].to_numpy().tolist() == [["voxels", warm_start, "tcgm"]]


def test_a_table_that_is_there_already_is_left_as_it_is(tmp_path: Path) -> None:
    settings = load_settings("adni_regions", {})
    before = write_alternatives(tmp_path, settings, "ce").stat().st_mtime_ns
    assert write_alternatives(tmp_path, settings, "ce").stat().st_mtime_ns == before


def test_the_default_is_the_best_of_what_was_measured() -> None:
    best = read_alternatives().sort_values("all").iloc[-1]
    settings = load_settings("adni_voxels_cpu", {})
    assert (best.features, best.warm_start, best.method) == (settings.data.features, settings.warm_start, "tcgm")


def test_reports_list_them_and_nothing_where_a_run_has_no_table(tmp_path: Path) -> None:
    run = SimpleNamespace(folder=tmp_path)
    assert list_alternatives(run) == []
    write_alternatives(tmp_path, load_settings("adni_regions", {}), "ce")
    rows = list_alternatives(run)
    assert [row["name"] for row in rows if row["used"]] == ["CE, regions, warm start: none"]
    assert all(len(row["all"]) == 5 and row["labels"] == "18" for row in rows)
