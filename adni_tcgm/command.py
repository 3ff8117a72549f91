"""How every command ends: one sentence on the terminal, the details in `error.log`, a status that scripts can read.

0    done
1    done, but something was left out or failed, and is listed: scans, runs of a study, reports
2    not done, and yours to put right: options, input files, a full disk, a folder in use
3    not done, and a fault of this program
130  interrupted; what is finished is kept, and the same command continues
"""

from __future__ import annotations

import argparse
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import yaml

from adni_tcgm.files import FolderRefused, write_text

DONE, PARTLY, REFUSED, FAULT, INTERRUPTED = 0, 1, 2, 3, 130
LOG = "error.log"
# What input, options and the machine can bring about; anything else is a fault of ours.
EXPECTED = (ValueError, OSError, FloatingPointError, MemoryError, yaml.YAMLError)
ABSOLUTE_FOLDER = re.compile(r"(?<![\w.~>…])/(?:[^\s/:'\"]+/)+")


def add_debug(parser: argparse.ArgumentParser) -> None:
    """The option that every command has.

    >>> parser = argparse.ArgumentParser()
    >>> add_debug(parser)
    >>> parser.parse_args(["--debug"]).debug
    True
    """
    parser.add_argument("--debug", action="store_true", help="tracebacks instead of one-sentence errors")


def run_command(work: Callable[[argparse.Namespace], int], arguments: argparse.Namespace, folder: Path | None) -> int:
    """The exit status of `work(arguments)`; errors become a sentence, and a traceback in `folder`/error.log.

    folder: where the command writes its results; None: nowhere. Only a fault of ours creates it for the log. With
    `arguments.debug` the traceback is shown instead. An error may bring a `word` that is shown instead of "error".

    >>> run_command(lambda options: DONE, argparse.Namespace(debug=False), None)
    0
    """
    try:
        with nullcontext() if arguments.debug else warnings_in_words():
            status = work(arguments)
    except KeyboardInterrupt:
        print("interrupted: what is finished is kept; the same command continues", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 (the one place that ends a command)
        if arguments.debug:
            traceback.print_exc()
        expected = isinstance(error, EXPECTED)
        print(_sentence(error, expected), file=sys.stderr)
        log = None if isinstance(error, FolderRefused) else write_log(folder, create=not expected)
        if log:
            print(f"details: {log}", file=sys.stderr)
        return REFUSED if expected else FAULT
    # A command within this one may have failed and told why.
    if folder is not None and status in (DONE, PARTLY):
        (folder / LOG).unlink(missing_ok=True)
    return status


@contextmanager
def warnings_in_words() -> Iterator[None]:
    """Meanwhile a warning is one line, without the line of code that gave it, and the same words come once.

    >>> with warnings_in_words():
    ...     warnings.formatwarning(UserWarning("no age"), UserWarning, "a.py", 3)
    'warning: no age\\n'
    """
    said, usual = set(), warnings.formatwarning

    def in_words(message: Warning | str, *place: object, **more: object) -> str:
        text = " ".join(str(message).split())
        if text in said:
            return ""
        said.add(text)
        return f"warning: {text}\n"

    warnings.formatwarning = in_words
    try:
        yield
    finally:
        warnings.formatwarning = usual


def _sentence(error: Exception, expected: bool) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return f"error: memory ran out {text}".rstrip()
    if expected and text:
        return f"{getattr(error, 'word', 'error')}: {text}"
    return f"fault of this program: {type(error).__name__}: {text}; --debug shows where"


def write_log(folder: Path | None, create: bool = True) -> Path | None:
    """The traceback of the error at hand in `folder`; None where there is no folder for it, or no room.

    >>> write_log(None) is None
    True
    """
    if folder is None or not (create or folder.is_dir()):
        return None
    with suppress(OSError):
        write_text(folder / LOG, without_paths(traceback.format_exc()))
        return folder / LOG
    return None


def without_paths(text: str) -> str:
    """`text` without what its paths say of a machine and its user: our code is <code>, Python <python>.

    >>> without_paths("in /home/somebody/project/notes.txt")
    'in …/notes.txt'
    """
    known = {str(Path(__file__).parents[1]): "<code>", sys.prefix: "<python>", sys.base_prefix: "<python>"}
    for path, name in sorted(known.items(), key=lambda item: -len(item[0])):
        text = text.replace(path, name)
    return ABSOLUTE_FOLDER.sub("…/", text)
