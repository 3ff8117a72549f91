"""`python -m pipelines.privacy_check DIR`: finds names, dates, serials, hosts, paths and ids in a folder's files.

It reads every format that this software writes, headers and metadata included, and lists what looks like it could name
a person, a day, a device or a machine. DICOM objects are always listed, whatever they hold. Exit status 0: nothing
found; 1: something; 2: not looked, as there is no such folder or file of words (see `adni_tcgm.command`).

It knows a name by where it stands (PatientName, DOE^JANE); give other words to look for, such as the people's names,
with --words. Nothing that it finds is written anywhere but to the terminal.
"""

from __future__ import annotations

import csv
import getpass
import io
import re
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from adni_tcgm.command import DONE, PARTLY
from pipelines import command_line
from pipelines.commands.privacy_check import INPUTS, Options
from pipelines.readable_text import read_texts
from preprocessing.intake.formats import is_dicom

MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
KEYS = (
    r"patient_?'?s?_?(?:name|id|birth_?date|address|comments|telephone\w*)|(?:date_?of_?)?birth_?(?:date|time|day)"
    r"|date_?of_?birth|dob|other_?patient_?ids?|(?:referring|performing)_?physician\w*|operators?_?name"
    r"|institution_?(?:name|address)|station_?name|(?:device_?|scanner_?)?serial_?(?:number|no|num)|serial"
    r"|accession_?number|(?:acquisition|study|series|content|scan|exam|visit)_?(?:date|date_?time|time)|exam_?date"
    r"|host_?name|host|user_?name|user|machine_?name|login|full_?name|first_?name|last_?name|surname"
)
RULES = {
    "person's name": re.compile(r"\b[A-Z][A-Za-z'’-]{2,}\^[A-Z][A-Za-z'’-]{1,}"),
    "named field": re.compile(
        rf"(?i)(?<![\w-])(?:{KEYS})[\"']?\s*[:=]\s*[\"']?(?!null\b|none\b|\"|'|\s)[^\s\"',;}}\]]+"
    ),
    "full date": re.compile(
        r"(?<![0-9A-Za-z.])(?:19|20)\d\d([-/_])(?:0?[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])(?!\d)"
        r"|(?<![0-9A-Za-z.])(?:0?[1-9]|[12]\d|3[01])([-/._])(?:0?[1-9]|[12]\d|3[01])\2(?:19|20)\d\d(?![0-9A-Za-z])"
        r"|(?<![0-9A-Za-z.])(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:\d{4,9})?(?![0-9A-Za-z])"
        rf"|(?i:\b\d{{1,2}}(?:st|nd|rd|th)?[ -](?:{MONTHS})[a-z]*\.?,?[ -](?:19|20)\d\d\b)"
        rf"|(?i:\b(?:{MONTHS})[a-z]*\.? \d{{1,2}}(?:st|nd|rd|th)?,? (?:19|20)\d\d\b)"
    ),
    "age": re.compile(
        r"(?i)\bage[sd]?\b[^0-9\n]{0,14}(?:90\.\d*[1-9]\d*|9[1-9](?:\.\d+)?|1[0-2]\d(?:\.\d+)?)(?!\.?\d)"
    ),
    "absolute path": re.compile(
        r"(?<![\w.:/<-])/(?:home|Users|root|tmp|mnt|media|data\d*|scratch|work|export|var|opt|srv|Volumes|private|nfs|gpfs)"
        r"/[^\s\"'<>|,;)]+|\b[A-Za-z]:\\[^\s\"'<>|]+|(?a:\\\\[\w.-]{2,}\\[\w$.-]{2,})|\bfile://\S+"
    ),
    "mail address": re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[a-z]{2,}\b"),
}
PARTICIPANT = re.compile(r"(?<!\d)\d{3}_S_\d{4,5}(?!\d)|ADNI_?\d{3}_?S_?\d{4,5}")
# What any machine may be called.
NOBODY = {"root", "user", "admin", "localhost", "ubuntu", "runner", "worker", "none"}
# A PDF needs a date; this one is no day of anybody's. And the names of XML's own vocabularies hold years.
NOBODYS = re.compile(r"1970(?:-?01-?01)(?:000000)?|http://(?:www\.w3\.org|ns\.adobe\.com|purl\.org)/[\w./#-]*")


@dataclass(frozen=True)
class Finding:
    """`place`: where in the file. `found`: what stands there."""

    file: str
    place: str
    rule: str
    found: str

    def __str__(self) -> str:
        return f"{self.file}\t{self.place}\t{self.rule}\t{self.found}"


def check_folder(
    root: Path, words: Sequence[str] = (), pseudonymous: Sequence[str] = ("reports",), skip: Sequence[str] = INPUTS
) -> list[Finding]:
    """Everything found below `root`, in the order of the files.

    words: looked for besides what the rules know. pseudonymous: folders in which ids of participants are findings, too
    ("." for all). skip: folders that are not looked at: inputs, as they came.
    """
    found = []
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        name = path.relative_to(root)
        if set(name.parts[:-1]) & set(skip):
            continue
        ids = "." in pseudonymous or bool({*name.parts[:-1], root.name} & set(pseudonymous))
        found += check_file(path, name.as_posix(), [*words, *machine_words()], ids)
    return found


def check_file(path: Path, name: str, words: Sequence[str] = (), ids: bool = False) -> list[Finding]:
    """What one file holds; `ids`: ids of participants count."""
    found: dict[Finding, None] = {}
    if is_dicom(path):
        found[Finding(name, "file", "DICOM object", "its headers carry identifiers of patient and study")] = None
    texts = [("name", name), *read_texts(path)]
    if path.suffix in (".tsv", ".csv"):
        separator = "\t" if path.suffix == ".tsv" else ","
        texts += [("column", line) for line in _named_cells(dict(texts)["text"], separator)]
    for place, text in texts:
        for rule, what in find(text, words, ids):
            found[Finding(name, place, rule, " ".join(what.split())[:80])] = None
    return list(found)


def find(text: str, words: Sequence[str] = (), ids: bool = False) -> Iterator[tuple[str, str]]:
    """(rule, what was found) in a text."""
    text = NOBODYS.sub("", text)
    for rule, pattern in RULES.items():
        for match in pattern.finditer(text):
            yield rule, match[0]
    for word in words:
        for match in re.finditer(rf"(?i)(?<![^\W_]){re.escape(word)}(?![^\W_])", text):
            yield "word", match[0]
    if ids:
        for match in PARTICIPANT.finditer(text):
            yield "participant id", match[0]


def _named_cells(table: str, separator: str) -> Iterator[str]:
    """ "column: cell" for every cell of a table whose column names a person, a date or a device, and for ages."""
    rows = csv.DictReader(io.StringIO(table), delimiter=separator)
    named = [name for name in rows.fieldnames or () if name and re.fullmatch(rf"(?i){KEYS}|age", name.strip("_ "))]
    for row in rows if named else ():
        yield from (f"{name}: {row[name]}" for name in named if row[name])


def machine_words() -> list[str]:
    """The names of this machine and its user, unless any machine may bear them."""
    try:
        names = {socket.gethostname(), getpass.getuser()}
    except (OSError, KeyError):
        names = {socket.gethostname()}
    return sorted(name for name in names if len(name) > 3 and name.lower() not in NOBODY)


def run(options: Options) -> int:
    if not options.folder.is_dir():
        raise NotADirectoryError(f"{options.folder}: no such folder")
    words = options.words.read_text(encoding="utf-8").split("\n") if options.words else []
    words = [word.strip() for word in words if word.strip()]
    found = check_folder(options.folder, words, options.pseudonymous, options.skip)
    for finding in found:
        print(finding)
    files = len({finding.file for finding in found})
    print(f"{len(found)} findings in {files} files" if found else "nothing found", file=sys.stderr)
    return PARTLY if found else DONE


def main(argv: list[str] | None = None) -> int:
    return command_line.main(["privacy-check", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    raise SystemExit(main())
