"""Code in the documentation: Python runs, settings are checked, and commands are parsed by their own parser."""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adni_tcgm.methods.registry import METHODS
from pipelines.config import load_settings

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOLDERS = ("docs", "benchmarks", "preprocessing")
MARKDOWN = [*sorted(ROOT.glob("*.md")), *(page for folder in FOLDERS for page in sorted((ROOT / folder).rglob("*.md")))]
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TITLE = re.compile(r'title="([^"]+)"')
SHELLS = ("", "bash", "console")
# What stands in a block of Python -> why it is not run.
NOT_RUN = {
    "from dask_jobqueue import SLURMCluster": "needs SLURM, and dask-jobqueue, which is no requirement",
    "from bids import BIDSLayout": "needs pybids, which is no requirement, and a prepared folder",
    'at.load("out/digits/runs/': "needs a run whose training takes minutes",
}
# Words that begin a line of a shell and are no command of ours.
OTHER_COMMANDS = {"git", "source", "pip", "conda", "dask", "clinica", "sbatch", "pytest", "ruff"}


@dataclass(frozen=True)
class Block:
    """A fenced block: the words behind the fence, and what is in it."""

    page: Path
    info: str
    text: str

    @property
    def language(self) -> str:
        return self.info.split(" ")[0]

    @property
    def first_line(self) -> str:
        return self.text.split("\n", 1)[0]


def blocks(page: Path) -> Iterator[Block]:
    for info, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        yield Block(page, info.strip(), text)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


WITH_PYTHON = [page for page in PAGES if any(block.language == "python" for block in blocks(page))]
SETTINGS = [block for page in PAGES for block in blocks(page) if block.language == "yaml"]
COMMANDS = [
    (name_of(page), line)
    for page in PAGES
    for block in blocks(page)
    if block.language in SHELLS
    for line in block.text.replace("\\\n", " ").splitlines()
    if line.strip() and not line.startswith("#")
]
IN_TEXT = [
    (name_of(page), command)
    for page in PAGES
    for command in re.findall(
        r"`((?:adni-tcgm [a-z-]+|python -m [\\w.]+|torchrun) [^`]+)`", page.read_text(encoding="utf-8")
    )
    if "…" not in command and "..." not in command and "COMMAND" not in command and "*" not in command
]


@pytest.fixture
def own_modules(tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder in which a page's modules lie and its code runs; what it imports from there is forgotten after it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "agg")
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_python_of_a_page_runs_from_top_to_bottom(page, own_modules):
    whole = ""
    for block in blocks(page):
        if block.language != "python" or any(part in block.text for part in NOT_RUN):
            continue
        title = TITLE.search(block.info)
        if title:
            (own_modules / title[1]).write_text(block.text, encoding="utf-8")
        else:
            whole += block.text + "\n"
    (own_modules / "page.py").write_text(whole, encoding="utf-8")
    known = dict(METHODS)
    try:
        runpy.run_path(str(own_modules / "page.py"))
    finally:  # a page may register a method of its own
        METHODS.clear()
        METHODS.update(known)


@pytest.mark.parametrize("block", SETTINGS, ids=lambda block: f"{name_of(block.page)}: {block.first_line}")
def test_settings_are_those_that_the_settings_checker_knows(block, own_modules):
    for other in blocks(block.page):
        title = TITLE.search(other.info)
        if title:
            (own_modules / title[1]).write_text(other.text, encoding="utf-8")
    (own_modules / "page.yaml").write_text(block.text, encoding="utf-8")
    load_settings(str(own_modules / "page.yaml"), {})


class Parsed(BaseException):
    """A command line was understood; nothing shall run."""


@pytest.mark.parametrize(("page", "line"), [*COMMANDS, *IN_TEXT], ids=lambda text: text)
def test_every_command_is_understood_by_its_own_parser(page, line, monkeypatch):
    words = shlex.split(re.sub(r"[][]| > .*", "", line), comments=True)
    if words[0] in OTHER_COMMANDS:
        return
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert {word for word in words[1:] if "=" not in word} <= set(targets)
        return
    parse_alone(monkeypatch)
    module, arguments = command_of(words)
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    with pytest.raises((Parsed, SystemExit)) as ended:
        module.main()
    assert not getattr(ended.value, "code", 0)  # --help and --version end with 0


def parse_alone(monkeypatch) -> None:
    """From now on every parser stops the program once it has understood its arguments."""
    understand = argparse.ArgumentParser.parse_args

    def parse_args(self, args=None, namespace=None):
        understand(self, args, namespace)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The module whose `main` a command line calls, and the arguments that it gets."""
    if words[0] == "adni-tcgm":
        return pytest.importorskip("pipelines.command_line"), words[1:]
    assert words[0] in ("python", "torchrun"), f"{words[0]!r} is no command of ours, nor one of {OTHER_COMMANDS}"
    at = words.index("-m")
    name = words[at + 1]
    package = importlib.util.find_spec(name).submodule_search_locations
    return importlib.import_module(f"{name}.__main__" if package else name), words[at + 2 :]


def test_every_block_that_is_not_run_is_still_there():
    there = "".join(block.text for page in PAGES for block in blocks(page))
    assert not [part for part in NOT_RUN if part not in there]


@pytest.mark.parametrize("page", MARKDOWN, ids=name_of)
def test_lines_of_markdown_are_at_most_120_characters_long_but_for_tables_and_links(page):
    long = [
        line
        for line in page.read_text(encoding="utf-8").splitlines()
        if len(line) > 120 and not line.lstrip().startswith("|") and "](" not in line and "http" not in line
    ]
    assert not long


def test_the_readme_has_at_most_600_words():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 600


@pytest.mark.parametrize("page", MARKDOWN, ids=name_of)
def test_links_lead_to_files_that_are_there(page):
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", text):
        assert (page.parent / target).exists(), target


def test_the_site_is_built_without_a_warning_and_asks_no_other_host_for_anything(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    asks = re.compile(
        r"<(?:script|img|iframe|source)[^>]*\ssrc=\"?(?:https?:)?//|<link[^>]*rel=\"?(?:stylesheet|preconnect)[^>]*//"
    )
    pages = list(tmp_path.rglob("*.html"))
    assert pages and not [page for page in pages if asks.search(page.read_text(encoding="utf-8"))]


def test_three_of_five_public_functions_and_classes_of_the_learner_have_an_example():
    documented = [
        ">>> " in (ast.get_docstring(node) or "")
        for path in sorted((ROOT / "adni_tcgm").rglob("*.py"))
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    assert sum(documented) >= 0.6 * len(documented), f"{sum(documented)} of {len(documented)}"
