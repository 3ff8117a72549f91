"""Verdicts of people: `qc_overrides.tsv`, which a researcher fills in and every run obeys.

A person's verdict takes the place of that of the automatic checks, which stays in the ledger beside it. No image is
computed anew, and without the line the automatic verdict holds again.
"""

from __future__ import annotations

import csv
import io
import warnings
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from adni_tcgm.files import write_text
from adni_tcgm.limits import MAX_TEXT_BYTES, require_size
from adni_tcgm.tables import decode_table
from preprocessing.ledger import MODALITIES, LedgerRow
from preprocessing.quality.limits import VERDICTS

FILE = "qc_overrides.tsv"
COLUMNS = ("participant_id", "session_id", "modality", "verdict", "reason", "rater")
NEEDED = ("participant_id", "session_id", "verdict", "reason", "rater")
STEP = "override"
# What people write where they mean nothing, and where they mean both modalities.
EMPTY = ("", "n/a", "na", "-")
BOTH = (*EMPTY, "both")

Visit = tuple[str, str]
Scan = tuple[str, str, str]  # participant_id, session_id, modality


@dataclass(frozen=True)
class Override:
    """One line of the file. `modality`: mri, pet, or empty for both."""

    participant_id: str
    session_id: str
    modality: str
    verdict: str
    reason: str
    rater: str
    line: int

    @property
    def scans(self) -> list[Scan]:
        modalities = (self.modality,) if self.modality else MODALITIES
        return [(self.participant_id, self.session_id, modality) for modality in modalities]


@dataclass(frozen=True)
class Problem:
    """A line that is not obeyed, and why; with its own words where it could not be read."""

    line: int
    text: str
    sentence: str
    read: bool = False  # whether the line itself could be read

    def __str__(self) -> str:
        return f"line {self.line}: {self.sentence}"


@dataclass(frozen=True)
class Overrides:
    """What a file says: the verdict on each scan, and the lines that are not obeyed."""

    by_scan: dict[Scan, Override]
    problems: tuple[Problem, ...] = ()

    def __str__(self) -> str:
        """One line for people; empty where the file says nothing."""
        lines = {override.line: override for override in self.by_scan.values()}.values()
        counts = Counter(override.verdict for override in lines)
        raters = ", ".join(sorted({override.rater for override in lines}))
        said = [f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict]]
        parts = [f"{', '.join(said)} (by {raters})"] if said else []
        parts += [f"not obeyed: {len(self.problems)}"] if self.problems else []
        return f"overrides {'; '.join(parts)}" if parts else ""


def write_template(prepared: Path) -> None:
    """A file with a header and no line, where there is none yet."""
    if not (prepared / FILE).exists():
        write_text(prepared / FILE, "\t".join(COLUMNS) + "\n")


def read_overrides(path: Path, visits: Collection[Visit]) -> Overrides:
    """The verdicts in a table of tabs, semicolons or commas. visits: (participant_id, session_id) of the cohort.

    A line that breaks a rule is a warning and costs no other line. Lines that contradict each other are not obeyed,
    none of them. Raises FileNotFoundError without a file, ValueError where the header lacks a column.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; a table with the columns {', '.join(COLUMNS)} is expected")
    require_size(path, MAX_TEXT_BYTES)
    text = decode_table(path).replace("\r\n", "\n").replace("\r", "\n")
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip("\t;, \"'")]
    if not lines:
        return Overrides({})
    separator = max("\t;,", key=lines[0][1].count)
    columns = _columns(path, _split(lines[0][1], separator))
    overrides, problems = [], []
    for number, line in lines[1:]:
        cells = _split(line, separator)
        try:
            overrides.append(_read_line(number, cells, columns, visits))
        except ValueError as error:
            problems.append(Problem(number, line, str(error)))
    found = _without_contradictions(overrides, problems)
    for problem in sorted(found.problems, key=lambda problem: problem.line):
        warnings.warn(f"{path}: {problem}; the line is not obeyed", stacklevel=2)
    return found


def obey(overrides: Overrides, ledger: Iterable[LedgerRow]) -> tuple[list[LedgerRow], Overrides]:
    """The ledger with people's verdicts in place of those of the checks; and the overrides, those that came to nothing
    among their problems.
    """
    rows = [_judge(row, overrides.by_scan.get((row.participant_id, row.session_id, row.modality))) for row in ledger]
    without_maps = {(row.participant_id, row.session_id, row.modality): row for row in rows if not has_maps(row)}
    obeyed = {scan: override for scan, override in overrides.by_scan.items() if scan not in without_maps}
    lines = {override.line for override in obeyed.values()}
    problems = list(overrides.problems)
    for scan, override in overrides.by_scan.items():
        row = without_maps.get(scan)
        if row and override.line not in lines and override.verdict != "fail":
            why = f"the {row.modality} scan is {row.status} ({row.reason_code}), so that there is nothing to keep"
            sentence = f"verdict {override.verdict!r} for {row.participant_id} {row.session_id}: {why}"
            problems.append(Problem(override.line, "", sentence, read=True))
            lines.add(override.line)
    return rows, Overrides(obeyed, tuple(problems))


def verdict_of(row: LedgerRow) -> str:
    """The verdict on a scan that went through, by whoever set it; empty for any other."""
    if not has_maps(row):
        return ""
    kind, _, verdict = row.reason_code.partition("_")
    return verdict if kind in ("qc", "override") else "pass"


def has_maps(row: LedgerRow) -> bool:
    """Whether the scan went through, so that a verdict on it can make a difference."""
    return row.status == "kept" or row.reason_code in ("qc_fail", "override_fail")


def _judge(row: LedgerRow, override: Override | None) -> LedgerRow:
    automatic = "" if row.step == "given" else verdict_of(row)
    if override is None or not has_maps(row):
        return replace(row, automatic=automatic)
    checks = f"the automatic checks said {automatic}" if automatic else "no check had looked at it"
    checks += f": {row.reason}" if row.reason else ""
    return replace(
        row,
        status="excluded" if override.verdict == "fail" else "kept",
        step=STEP,
        reason_code=f"override_{override.verdict}",
        reason=f"{override.reason} (by {override.rater}; {checks})",
        automatic=automatic,
        rater=override.rater,
    )


def _split(line: str, separator: str) -> list[str]:
    """Cells of one line. A quote that is not closed is a quote; it must not swallow the lines after it."""
    try:
        cells = next(csv.reader(io.StringIO(line), delimiter=separator, strict=True))
    except csv.Error:
        cells = line.split(separator)
    return [" ".join(cell.split()) for cell in cells]


def _columns(path: Path, header: list[str]) -> dict[str, int]:
    """Column -> its place. Others are ignored, with a warning."""
    names = [name.lower().replace(" ", "_") for name in header]
    missing = [name for name in NEEDED if name not in names]
    if missing:
        raise ValueError(f"{path}: no column {missing[0]!r} in line 1; expected {', '.join(COLUMNS)}")
    twice = [name for name in COLUMNS if names.count(name) > 1]
    if twice:
        raise ValueError(f"{path}: column {twice[0]!r} stands twice in line 1")
    others = [name for name in header if name and name.lower().replace(" ", "_") not in COLUMNS]
    if others:
        warnings.warn(f"{path}: columns that are not read: {', '.join(others)}", stacklevel=3)
    return {name: names.index(name) for name in COLUMNS if name in names} | {"": len(names)}


def _read_line(number: int, cells: list[str], columns: dict[str, int], visits: Collection[Visit]) -> Override:
    """One line by the rules. Raises ValueError with the rule that it breaks, and the value."""
    width = columns[""]
    if any(cells[width:]):
        raise ValueError(f"{len(cells)} cells where the header has {width}")
    cells = cells + [""] * (width - len(cells))
    found = {name: cells[place] for name, place in columns.items() if name}
    for name in NEEDED:
        if found[name].lower() in EMPTY:
            raise ValueError(f"no {name}; every verdict needs {', '.join(NEEDED)}")
    modality = found.get("modality", "").lower()
    modality = "" if modality in BOTH else modality
    if modality not in ("", *MODALITIES):
        raise ValueError(f"modality {modality!r}; known: {', '.join(MODALITIES)}, or empty for both")
    verdict = found["verdict"].lower()
    if verdict not in VERDICTS:
        raise ValueError(f"verdict {found['verdict']!r}; known: {', '.join(VERDICTS)}")
    participant, session = _prefixed(found["participant_id"], "sub-"), _prefixed(found["session_id"], "ses-")
    sessions = sorted(known_session for name, known_session in visits if name == participant)
    if not sessions:
        raise ValueError(f"participant_id {found['participant_id']!r} is nobody of this cohort")
    if session not in sessions:
        known = ", ".join(sessions)
        raise ValueError(f"session_id {found['session_id']!r} is no visit of {participant}; known: {known}")
    return Override(participant, session, modality, verdict, found["reason"], found["rater"], number)


def _prefixed(text: str, prefix: str) -> str:
    return text if text.startswith(prefix) else prefix + text


def _without_contradictions(overrides: list[Override], problems: list[Problem]) -> Overrides:
    """The first of lines that say the same of a scan; none of those that contradict each other."""
    by_scan: dict[Scan, list[Override]] = {}
    for override in overrides:
        for scan in override.scans:
            by_scan.setdefault(scan, []).append(override)
    said: dict[int, str] = {}
    for scan, found in by_scan.items():
        lines = " and ".join(str(override.line) for override in found)
        if len({override.verdict for override in found}) > 1:
            verdicts = " and ".join(override.verdict for override in found)
            sentence = f"lines {lines} say {verdicts} of the {scan[2]} scan of {scan[0]} {scan[1]}; one verdict a scan"
            said |= {override.line: sentence for override in found}
            found.clear()
        for override in found[1:]:
            said.setdefault(override.line, f"said before in line {found[0].line}: {scan[0]} {scan[1]}, {scan[2]}")
    repeated = [Problem(line, "", sentence, read=True) for line, sentence in said.items()]
    kept = {scan: found[0] for scan, found in by_scan.items() if found}
    return Overrides(kept, tuple(sorted([*problems, *repeated], key=lambda problem: problem.line)))
