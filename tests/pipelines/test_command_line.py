"""The one installed command: every command answers at once, and its examples are true."""

from __future__ import annotations

import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from pipelines.command_line import COMMANDS, build_parser, main, parse

ROOT = Path(__file__).parents[2]
# What takes seconds to import.
SLOW = ("torch", "ants", "monai", "nilearn", "nibabel", "SimpleITK", "pandas", "scipy", "sklearn", "matplotlib")


def test_no_help_imports_a_library_that_takes_long():
    code = (
        "import sys\n"
        "from pipelines.command_line import COMMANDS, build_parser\n"
        "build_parser(*COMMANDS).format_help()\n"
        f"print([name for name in {SLOW} if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_a_command_is_looked_up_without_importing_the_others():
    code = (
        "import sys\n"
        "from pipelines.command_line import parse\n"
        "parse('saliency', ['run'])\n"
        "print([name for name in sys.modules if name.startswith('pipelines.commands.')])"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "['pipelines.commands.saliency']"


def examples() -> list[str]:
    """Every line below a command's --help, without what is said beside it."""
    texts = [getattr(import_module(module), "EXAMPLES", "") for module, _ in COMMANDS.values()]
    lines = [line.strip().split("    ")[0].split(" > ")[0] for text in texts for line in text.splitlines()]
    return [line for line in lines if line.startswith("adni-tcgm")]


@pytest.mark.parametrize("line", examples())
def test_the_examples_of_a_command_are_understood_by_it(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "DOWNLOAD").mkdir()
    (tmp_path / "DATASET").mkdir()
    (tmp_path / "out" / "other" / "prepared").mkdir(parents=True)
    command, *argv = shlex.split(line)[1:]
    parse(command, argv)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_sentence_and_an_example(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0 and f"examples:\n  adni-tcgm {name} " in text
    assert f"    {name}" in build_parser().format_help()


def test_the_version_is_that_of_the_package(capsys):
    from adni_tcgm import __version__

    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"adni-tcgm {__version__}\n"


def test_an_unknown_command_is_refused_with_those_that_there_are(capsys):
    with pytest.raises(SystemExit) as end:
        main(["pridect"])
    assert end.value.code == 2 and "predict" in capsys.readouterr().err


def test_a_shell_completes_commands_and_their_options(capsys):
    pytest.importorskip("shtab", reason="shtab is not installed")
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert all(word in script for word in (*COMMANDS, "--label-rate"))
    assert "_shtab_adni_tcgm_predict___t1_COMPGEN=_shtab_compgen_files" in script
