"""`python -m pipelines.rerun RUN_DIR`: train a finished run once more, from its own records, and compare every byte.

Settings, seed and threads are those of the run. Where code, packages, machine or data are no longer what they were, it
says so and stops; --allow-changes goes on. Exit status 0: the same bytes; 1: not.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import torch

from adni_tcgm.files import CHECKSUMS
from adni_tcgm.storage import Run, environment, load_run
from pipelines import command_line
from pipelines.building import build
from pipelines.commands.reproduce import Options
from pipelines.config import DATASETS, Settings
from pipelines.identity import configuration
from pipelines.own_code import register_own
from pipelines.restoring import RECORDED, Refused
from pipelines.training import train_run
from pipelines.truth import Truth

# What a second training need not share with the first: versions are compared beforehand, and seconds never repeat.
NOT_COMPARED = ("environment.json", "prepared.json", CHECKSUMS)
SECONDS = "seconds"


def settings_again(run: Run, data: Path | None, allow_code: Collection[str] = ()) -> Settings:
    """The settings of a run of any data set. Raises Refused where they are of another version of this code."""
    values = {key: value for key, value in run.config.items() if key not in RECORDED}
    register_own(run.config, DATASETS, allow_code)
    kind = DATASETS[values["dataset"]][1]
    path = data or _recorded_place(run)
    takes_path = "path" in {field.name for field in dataclasses.fields(kind)}
    own = values["data"] | ({"path": str(path)} if takes_path and path else {})
    try:
        return build(Settings, values | {"data": build(kind, own, "data")}, f"{run.path}: config.yaml")
    except ValueError as error:
        hint = "" if path or not takes_path else " (its data are not beside it: --data says where they are)"
        raise Refused(f"{error}{hint}") from error


def _recorded_place(run: Run) -> Path | None:
    return (run.path / run.prepared["path"]).resolve() if run.prepared else None


def list_changes(run: Run, settings: Settings) -> Iterator[str]:
    """What is no longer as it was when the run was trained, a sentence each."""
    then, now = run.environment, environment()
    for name in ("python", "system", "machine", "gpu"):
        if then.get(name) != now[name]:
            yield f"{name} was {then.get(name)} and is {now[name]}"
    for name, version in then["packages"].items():
        if version != now["packages"].get(name):
            yield f"{name} was {version} and is {now['packages'].get(name)}"
    if then.get("code_sha256") != now["code_sha256"]:
        commits = ", ".join(str(each.get("git_commit"))[:10] for each in (then, now))
        state = "" if now["git_clean"] else ", with uncommitted changes now"
        yield f"the code has changed (commits then and now: {commits}{state})"
    again = json.loads(json.dumps(configuration(settings, run.config["method"], run.config["seed"])))
    if again["data_fingerprint"] != run.config["data_fingerprint"]:
        yield "the data have changed"
    keys = sorted(key for key in again.keys() | run.config.keys() if again.get(key) != run.config.get(key))
    if keys not in ([], ["data_fingerprint"]):
        yield f"this version of the code reads other settings: {', '.join(keys)}"
    if "external" in run.metrics:
        yield "the run has an external test set: --external says where it is"


def train_again(run: Run, settings: Settings, runs: Path, external: Path | None) -> Path:
    """Train into `runs` with as many threads as the first time."""
    before = torch.get_num_threads()
    torch.set_num_threads(run.environment.get("threads") or before)
    place = Path(settings.data.path).parent / "truth" if run.metrics["bayes"] else None
    try:
        truth = Truth.read(place) if place and place.is_dir() else None
        return train_run(runs, settings, run.config["method"], run.config["seed"], truth=truth, external=external)
    finally:
        torch.set_num_threads(before)


def compare_files(first: Path, second: Path) -> dict[str, bool]:
    """File -> whether both runs have it with the same bytes; of the history, all but the seconds."""
    names = {path.name for folder in (first, second) for path in folder.iterdir() if path.is_file()}
    return {name: _content(first / name) == _content(second / name) for name in sorted(names - {*NOT_COMPARED})}


def _content(file: Path) -> bytes | str | None:
    if not file.is_file():
        return None
    if file.name == "history.tsv":
        return pd.read_csv(file, sep="\t", dtype=str).drop(columns=SECONDS).to_csv()
    return file.read_bytes()


def run(options: Options) -> int:
    first = load_run(options.run_dir)
    settings = settings_again(first, options.data, options.allow_code)
    changes = [change for change in list_changes(first, settings) if not (options.external and "--external" in change)]
    if changes and not options.allow_changes:
        raise Refused(f"{first.path.name} cannot be repeated: {'; '.join(changes)} (--allow-changes goes on)")
    for change in changes:
        print(f"changed   {change}")
    with nullcontext(options.out) if options.out else tempfile.TemporaryDirectory() as out:
        second = train_again(first, settings, Path(out) / "runs", options.external)
        same = compare_files(first.path, second)
    for name, alike in same.items():
        print(f"{'same' if alike else 'DIFFERS':9} {name}")
    print(f"{sum(same.values())} of {len(same)} files have the same bytes")
    return 0 if all(same.values()) else 1


def main(argv: list[str] | None = None) -> int:
    return command_line.main(["reproduce", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    raise SystemExit(main())
