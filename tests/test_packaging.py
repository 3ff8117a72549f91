"""What is installed is declared once: pyproject.toml, constraints.txt and environment.yml agree."""

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
