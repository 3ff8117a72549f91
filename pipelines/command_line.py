"""`adni-tcgm COMMAND …`: one command in front of everything that can be done.

What a command takes lies in a module of its own, with `add_arguments(parser)` and `run(options) -> int | None`, and
where it has them:
`Options`              a frozen dataclass that the arguments become; without it `run` is given the argparse Namespace
`EXAMPLES`             lines below its --help
`output_folder(options)`   where an error.log would lie
Its docstring is what --help says. These modules import no library that takes long: what does the work is imported by
`run`, so that every --help answers at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from adni_tcgm import __version__
from adni_tcgm.command import add_debug, run_command
from pipelines.options import read_options

PROGRAM = "adni-tcgm"
# Name -> the module of its options, and what it does.
COMMANDS = {
    "adni": ("pipelines.commands.adni", "prepare scans, train, and write the reports"),
    "intake": ("pipelines.commands.intake", "say in seconds who would be in, with which label, and what is missing"),
    "predict": ("pipelines.commands.predict", "a new person's scans, with a trained run"),
    "validate": ("pipelines.commands.validate", "apply a trained run to the people of another cohort"),
    "report": ("reports.__main__", "write the reports of finished runs again, without training"),
    "saliency": ("pipelines.commands.saliency", "show what a trained network's answers depend on"),
    "train": ("pipelines.commands.train", "train one method on one data set, built-in or your own"),
    "study": ("pipelines.commands.study", "compare methods over label rates and seeds"),
    "simulate": ("pipelines.commands.simulate", "write a simulated cohort"),
    "reproduce": ("pipelines.commands.reproduce", "train a finished run again and compare every byte"),
    "privacy-check": ("pipelines.commands.privacy_check", "look for names, dates, paths and ids in a folder's files"),
    "bids": ("pipelines.bids_app", "a BIDS data set, by the conventions of BIDS-Apps"),
    "config": ("pipelines.commands.config", "show, check and describe settings"),
    "completion": ("pipelines.commands.completion", "print the completion script of a shell"),
}


def build_parser(*filled: str) -> argparse.ArgumentParser:
    """The whole command line. Only commands in `filled` get their options: the others' modules are not imported."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="From MRI and FDG-PET to a report: will mild cognitive impairment become Alzheimer's dementia?",
        epilog=f"options and examples of a command: {PROGRAM} COMMAND --help",
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", required=True)
    for name, (module, sentence) in COMMANDS.items():
        if name not in filled:
            commands.add_parser(name, help=sentence)
            continue
        found = import_module(module)
        examples = getattr(found, "EXAMPLES", "")
        command = commands.add_parser(
            name,
            help=sentence,
            description=found.__doc__,
            epilog=f"examples:\n{examples}" if examples else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        found.add_arguments(command)
        add_debug(command)
        command.usage = f"{PROGRAM} {name} [options] {_places(command)}".rstrip()
        # Beside the options: which parser complains about them.
        command.set_defaults(parser=command)
    return parser


def _places(command: argparse.ArgumentParser) -> str:
    """What stands without a flag, for a usage of one line: thirty options are listed below it."""
    places = [action for action in command._actions if not action.option_strings]
    words = [str(action.metavar or "|".join(action.choices or [action.dest])) for action in places]
    return " ".join(f"{word} …" if action.nargs == "+" else word for word, action in zip(words, places, strict=True))


def parse(name: str, argv: Sequence[str]) -> Any:
    """The options of command `name`: what its `run` takes. Exits with 2 for what it does not understand."""
    return _options_of(import_module(COMMANDS[name][0]), _parse([name, *argv]))


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(sys.argv[1:] if argv is None else argv)
    module = import_module(COMMANDS[arguments.command][0])
    options = _options_of(module, arguments)
    folder: Callable[[Any], Path | None] = getattr(module, "output_folder", lambda _: None)
    return run_command(lambda _: module.run(options) or 0, arguments, folder(options))


def _parse(argv: Collection[str]) -> argparse.Namespace:
    named = next((name for name in argv if name in COMMANDS), "")
    return build_parser(named).parse_args([*argv])


def _options_of(module: ModuleType, arguments: argparse.Namespace) -> Any:
    kind = getattr(module, "Options", None)
    if kind is None:
        return arguments
    try:
        return read_options(kind, arguments)
    except ValueError as error:  # options that contradict each other
        arguments.parser.error(str(error))
