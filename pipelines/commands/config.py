"""Look at the settings of a run before it starts.

show      all values of a built-in configuration or a YAML file, defaults included, as YAML that can be read again
validate  every mistake in a YAML file, a sentence each; exit status 2 where there is one
schema    the settings' JSON schema: with it an editor completes and checks a YAML file whose first line is
          # yaml-language-server: $schema=settings.schema.json
"""

from __future__ import annotations

import argparse
import sys

EXAMPLES = """\
  adni-tcgm config show adni_regions
  adni-tcgm config show adni_regions --set train.steps=300 > mine.yaml
  adni-tcgm config validate mine.yaml
  adni-tcgm config schema > settings.schema.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser("show", help="all values, defaults included")
    show.add_argument("config", metavar="CONFIG", help="built-in name, or a .yaml file")
    show.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="on top of it; repeatable")
    validate = actions.add_parser("validate", help="every mistake, a sentence each")
    validate.add_argument("config", metavar="FILE", help="a .yaml file, or a built-in name")
    actions.add_parser("schema", help="JSON schema, for editors")


def run(arguments: argparse.Namespace) -> int:
    return {"show": show, "validate": validate, "schema": schema}[arguments.action](arguments)


def show(arguments: argparse.Namespace) -> int:
    from pipelines import settings_file
    from pipelines.config import parse_override

    print(settings_file.show(arguments.config, dict(parse_override(text) for text in arguments.set)), end="")
    return 0


def validate(arguments: argparse.Namespace) -> int:
    from adni_tcgm.command import REFUSED
    from pipelines.settings_file import find_mistakes

    mistakes = find_mistakes(arguments.config)
    for mistake in mistakes:
        print(f"{arguments.config}: {mistake}", file=sys.stderr)
    if mistakes:
        return REFUSED
    print(f"{arguments.config}: no mistake")
    return 0


def schema(_: argparse.Namespace) -> int:
    from pipelines.schema import FILE

    print(FILE.read_text(encoding="utf-8"), end="")
    return 0
