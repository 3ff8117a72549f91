"""What is installed is declared once: pyproject.toml, constraints.txt and environment.yml agree; data files ship."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pins(lines: list[str]) -> dict[str, str]:
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {_normalized(name.strip()): version.strip() for name, version in pairs}


def _declared(*extras: str) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {_normalized(name) for extra in extras for name in project["optional-dependencies"][extra]} | {
        _normalized(name) for name in project["dependencies"]
    }


def test_every_declared_package_is_pinned() -> None:
    assert _declared("test", "docs") <= _pins((ROOT / "constraints.txt").read_text().splitlines()).keys()


def test_conda_environment_holds_the_declared_packages_at_the_pinned_versions() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    pins = _pins((ROOT / "constraints.txt").read_text().splitlines())
    assert _pins(pip) == {name: pins[name] for name in _declared("test")}


def test_make_installs_the_pinned_torch_first() -> None:
    pins = _pins((ROOT / "constraints.txt").read_text().splitlines())
    makefile = (ROOT / "Makefile").read_text()
    assert f"torch=={pins['torch']}" in makefile
    assert makefile.index("torch==") < makefile.index("--constraint constraints.txt")


def test_every_file_beside_the_code_ships_in_the_wheel_but_the_folds_of_the_networks() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    ships = {
        file
        for package, patterns in declared.items()
        for pattern in patterns
        for file in (ROOT / package).glob(pattern)
    }
    packages = ("adni_tcgm", "preprocessing", "pipelines", "reports")
    beside = {
        file
        for package in packages
        for file in (ROOT / package).rglob("*")
        if file.is_file() and file.suffix not in (".py", ".pyc") and file.parent.name != "folds"
    }
    assert beside == {file for file in ships if file.is_file()}
