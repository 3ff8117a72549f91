"""Find names, dates, serials, hosts, paths and ids in a folder's files.

It reads every format that this software writes, headers and metadata included, and lists what looks like it could name
a person, a day, a device or a machine. Exit status 0: nothing found; 1: something; 2: not looked, as there is no such
folder or file of words.

It knows a name by where it stands (PatientName, DOE^JANE); give other words to look for, such as the people's names,
with --words. Nothing that it finds is written anywhere but to the terminal.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

EXAMPLES = """\
  adni-tcgm privacy-check out/adni
  adni-tcgm privacy-check out/adni --words names.txt --pseudonymous reports runs"""

INPUTS = ("raw", "truth")  # people's own files, and what the simulation knows of its people


@dataclass(frozen=True)
class Options:
    folder: Path
    words: Path | None
    pseudonymous: tuple[str, ...]
    skip: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--words", type=Path, metavar="FILE", help="other words to look for, one a line")
    parser.add_argument("--pseudonymous", nargs="*", default=["reports"], metavar="FOLDER", help="no ids in it; .: all")
    parser.add_argument("--skip", nargs="*", default=INPUTS, metavar="FOLDER", help="inputs; default: raw, truth")


def run(options: Options) -> int:
    from pipelines import privacy_check

    return privacy_check.run(options)
