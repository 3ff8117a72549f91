"""Print the completion script of a shell, to be read by it."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  adni-tcgm completion bash > ~/.local/share/bash-completion/completions/adni-tcgm
  adni-tcgm completion zsh > ~/.zfunc/_adni-tcgm"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh"))


def run(arguments: argparse.Namespace) -> None:
    import shtab

    from pipelines.command_line import COMMANDS, build_parser

    parser = build_parser(*COMMANDS)
    (commands,) = (action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    for action in (action for command in commands.values() for action in command._actions):
        if action.type is Path:
            action.complete = shtab.FILE
    print(shtab.complete(parser, arguments.shell))
