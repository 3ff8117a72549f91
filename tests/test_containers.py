"""Dockerfile and apptainer.def: their common steps, run in a clean Debian root: no engine is needed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RECIPES = ("Dockerfile", "apptainer.def")
# Where this machine's pip finds packages, if that is a setting of its own: files and folders, taken along.
PIP_PLACES = ("PIP_CERT", "PIP_FIND_LINKS")


def sources() -> list[str]:
    """What is copied into an image: what .dockerignore lets through."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line.removeprefix("!") for line in lines if line.startswith("!")]


def test_what_is_copied_is_all_that_is_installed() -> None:
    definition = (ROOT / "apptainer.def").read_text()
    copied = re.findall(r"^    (\S+) /source/(\S+)$", definition, re.MULTILINE)
    assert [name for name, place in copied if name == place] == sources()
    assert all((ROOT / name).exists() for name in sources())


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0 or not shutil.which("mmdebstrap"), reason="no mmdebstrap")
def test_the_steps_of_the_images_install_a_working_program_in_a_clean_debian(tmp_path: Path) -> None:
    """Needs a network, 5 GB and some minutes."""
    system = tmp_path / "root"
    subprocess.run(["mmdebstrap", "--variant=minbase", "bookworm", system], check=True)
    source = system / "source"
    for name in sources():
        place = ROOT / name
        ignored = shutil.ignore_patterns("__pycache__", "folds")
        source.mkdir(exist_ok=True)
        shutil.copytree(place, source / name, ignore=ignored) if place.is_dir() else shutil.copy(place, source)
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
    for name in PIP_PLACES:
        given = Path(os.environ.get(name, ""))
        if name in os.environ and given.exists():
            # A place of its own: installing ca-certificates writes the usual one anew.
            environment[name] = f"/host/{name}"
            (system / "host").mkdir(exist_ok=True)
            take = shutil.copytree if given.is_dir() else shutil.copy
            take(given, system / "host" / name)
    shutil.copy("/etc/resolv.conf", system / "etc" / "resolv.conf")

    def inside(*command: str, user: str = "root") -> str:
        arguments = ["chroot", f"--userspec={user}", system, *command]
        return subprocess.run(arguments, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout

    inside("sh", "/source/containers/install.sh", "/source")
    shutil.rmtree(source)
    python = "/opt/adni-tcgm/bin/python"
    assert inside(python, "-m", "pipelines.bids_app", "--version", user="adni").startswith("adni-tcgm ")
    # The libraries load, and the package data are there.
    whole = (
        "from adni_tcgm.storage import load_run; from pipelines.commands.predict import DEMO_MODEL as d; load_run(d)"
    )
    inside(python, "-c", f"import ants, torch, typst, SimpleITK; {whole}", user="adni")
    if (system / "usr/local/bin/adni-tcgm").is_symlink():
        assert inside("adni-tcgm", "--version", user="adni").startswith("adni-tcgm ")
