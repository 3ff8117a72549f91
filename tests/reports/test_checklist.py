"""The table of TRIPOD+AI and CLAIM: every item has one answer, and points to what the report really has."""

from __future__ import annotations

import re
from pathlib import Path

import reports
from reports.checklist import ITEMS, checklist_rows

TEMPLATE = (Path(reports.__file__).parent / "templates" / "cohort.typ").read_text(encoding="utf-8")
# Sections of page one are given to a function, the others are headings.
TITLES = set(re.findall(r"#question\(\[(.+?)\]", TEMPLATE)) | {
    t.strip() for t in re.findall(r"== (.+?)[\]\n]", TEMPLATE)
}
NAMED = (
    *("Who is in it", "How well", "Against what", "Split and label budget", "For whom", "Is it worth acting on"),
    *("Can the probability be believed?", "Does it hang on the label rule?", "Limits", "All numbers", "What limits it"),
    "Sources",
)


def test_every_item_says_where_or_why_not_and_never_both():
    assert all(bool(item.where) != bool(item.why_not) for item in ITEMS)
    assert {row["answered"] for row in checklist_rows()} == {"yes", "no"}
    assert all(row["answer"].startswith("No: ") == (row["answered"] == "no") for row in checklist_rows())


def test_every_item_is_asked_for_by_one_of_the_two_and_topics_differ():
    assert all(row["asked_by"] for row in checklist_rows())
    assert len({item.topic for item in ITEMS}) == len(ITEMS)


def test_numbers_of_claim_are_those_of_the_sources_alone():
    numbers = [int(n) for item in ITEMS for n in (item.claim or "").replace(",", " ").split()]
    assert sorted(set(numbers)) == [*range(1, 21), 33, 34, 41, 42]


def test_sections_that_are_named_are_sections_of_the_report():
    missing = [name for name in NAMED if not any(title.startswith(name) for title in TITLES)]
    assert missing == []
    answers = " ".join(item.where for item in ITEMS)
    assert all(name.rstrip("?") in answers for name in NAMED)
