"""`python -m pipelines.build_demo_model RUN_DIR`: the model that `predict --demo-model` uses, from a run on a simulated
cohort.

Keeps of the run and of its prepared folder only what a prediction and its report read: no maps (their norm is fitted
once and kept as numbers), no predictions of other people, no paths. Simulated people and sites get names that no real
one has. The same run gives the same bytes.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import pandas as pd
import yaml

from adni_tcgm.command import add_debug, run_command
from adni_tcgm.datasets.adni_regions import SIGNATURE
from adni_tcgm.evaluation.calibration import CROSS_FITTED
from adni_tcgm.files import sha256, write_checksums, write_text
from adni_tcgm.storage import ADJUSTMENT, COMPLETE, WEIGHTS, Run, load_run, write_json, write_table
from pipelines.commands.predict import DEMO_MODEL
from pipelines.restoring import RECIPE, Refused
from reports.deficits import save_voxel_norms
from reports.gathering import gather_cohort
from reports.norms import MEASURES, META_ROI_PARTS
from reports.records import load_prepared
from reports.records import load_run as load_report_run

PREPARED = "prepared"
AS_THEY_ARE = (WEIGHTS, ADJUSTMENT, "calibration.json", "norms.tsv", RECIPE, "history.tsv", "environment.json")
# The rest of a manifest is about scans that do not ship.
MANIFEST = (
    *("participant_id", "session_id", "kind", "t1_path", "gm_path", "pet_path", "label", "label_reason"),
    *("months_to_conversion", "age", "sex", "site", "group_id", "tiv_ml", "qc", "field_strength_t", "months"),
    "diagnosis",
)
REGIONS = {*(name for names in SIGNATURE.values() for name in names), *META_ROI_PARTS, *(m.region for m in MEASURES)}
# Where the manifest named a map: whether somebody has the modality counts, the map does not ship.
NO_MAP = "left-out"


def build_demo_model(run_dir: Path, destination: Path) -> Path:
    """Write the demo model and return its folder, which is replaced.

    Raises Refused for a run on real people, on voxels, or without its prepared folder.
    """
    trained = load_run(run_dir)
    check_suitable(trained)
    shutil.rmtree(destination, ignore_errors=True)
    (destination / PREPARED).mkdir(parents=True)
    for name in AS_THEY_ARE:
        if (trained.path / name).is_file():
            shutil.copyfile(trained.path / name, destination / name)
    names = write_people(trained.prepared_path, destination / PREPARED)
    write_run(trained, destination, names)
    cohort = gather_cohort([load_report_run(trained.path)], load_prepared(trained.prepared_path))
    save_voxel_norms(cohort.voxel_norms, destination)
    write_text(destination / "README.md", describe(trained))
    write_checksums(destination)
    return destination


def check_suitable(run: Run) -> None:
    """Raises Refused for a run that must not, or cannot, become the demo model."""
    if not run.metrics["simulated"]:
        raise Refused(f"{run.path}: trained on real people; only a simulated cohort may ship")
    if run.metrics["features"] != "regions":
        raise Refused(f"{run.path}: trained on {run.metrics['features']}; the demo model ships without maps")
    if run.prepared_path is None:
        raise Refused(f"{run.path}: its prepared folder is gone or has changed")


def write_people(prepared: Path, destination: Path) -> dict[str, str]:
    """Tables of the simulated people under new names. Returns old name -> new name, in the old order.

    The order of names and rows decides who is in which split, so it stays.
    """
    manifest = _read(prepared / "manifest.tsv").reindex(columns=list(MANIFEST)).fillna("")
    known = sorted({*manifest.participant_id, *manifest.group_id})
    names = {name: f"sub-SIMULATED{number:04d}" for number, name in enumerate(known)}
    for column in ("participant_id", "group_id"):
        manifest[column] = manifest[column].map(names)
    manifest["site"] = manifest.site.map(rename_site)
    manifest["t1_path"] = ""
    for column in ("gm_path", "pet_path"):
        manifest[column] = manifest[column].where(manifest[column] == "", NO_MAP)
    write_table(destination / "manifest.tsv", manifest)
    regions = _read(prepared / "regions.tsv")
    regions = regions[regions.region.isin(REGIONS)].drop(columns="method", errors="ignore")
    write_table(destination / "regions.tsv", regions.assign(participant_id=regions.participant_id.map(names)))
    shutil.copyfile(prepared / "dataset_description.json", destination / "dataset_description.json")
    return names


def rename_site(site: str) -> str:
    """A name that no site of a real study has: nobody's scans may be harmonized as those of a simulated site."""
    return f"simulated {site}" if site else ""


def write_run(run: Run, destination: Path, names: dict[str, str]) -> None:
    """Settings, splits and records of the run, about the renamed people."""
    splits = run.splits.assign(group_id=run.splits.group_id.map(names))
    write_table(destination / "splits.tsv", splits.assign(sample_id=_rename(splits.sample_id, names)))
    # The report draws its intervals from people with a visible label, predicted by models that had not seen them.
    kept = run.predictions[run.predictions.split == CROSS_FITTED]
    write_table(destination / "predictions.tsv", kept.assign(sample_id=_rename(kept.sample_id, names)))
    if run.adjustment is not None:
        groups = {rename_site(site): group for site, group in run.adjustment["groups"].items()}
        write_json(destination / "adjustment.json", run.adjustment | {"groups": groups})
    write_json(destination / COMPLETE, run.metrics)
    manifest = sha256(destination / PREPARED / "manifest.tsv")
    write_json(destination / "prepared.json", {"path": PREPARED, "manifest_sha256": manifest})
    config = run.config | {"data_fingerprint": manifest}
    write_text(destination / "config.yaml", yaml.safe_dump(config, sort_keys=False))


def _rename(sample_ids: pd.Series, names: dict[str, str]) -> list[str]:
    return [names[participant] + f"_{session}" for participant, _, session in (i.partition("_") for i in sample_ids)]


def _read(file: Path) -> pd.DataFrame:
    return pd.read_csv(file, sep="\t", dtype=str, keep_default_na=False)


CARD = """# Model card: the SIMULATED MODEL of `predict --demo-model`

A classifier that shows what a report looks like before there is a trained model of one's own. **It has never seen a
real person. What it says about anybody means nothing. Not for diagnosis, not for research results.**

- **Input**: regional grey-matter and ventricular volumes of a T1 and, where there is one, regional SUVR of an FDG-PET.
- **Output**: probability of conversion from MCI to Alzheimer's dementia within {horizon:g} months.
- **Method**: {method} on {features}, label rate {label_rate:g}: {visible} visible labels among {train} training people.
- **Trained on** a SIMULATED cohort: a program drew every person, scan, label and site, with effects of published size.
- **On {test} simulated test people**: AUC {auc[all]:.2f} (MRI {auc[mri]:.2f}, FDG-PET {auc[pet]:.2f}), balanced
  accuracy {balanced:.2f}. {test} people leave an AUC about .06 uncertain; simulated figures say nothing about patients.
- **Norms** (z, percentiles, deficit maps) come from simulated cognitively normal people as well.
- **Left out**: all maps and the predictions of other people. The tables below `prepared/` describe nobody who lives.
- **Sites**: a new person's scanner is unknown to it; measurements are used as they are, and the report says so.
- **Made by** `python -m pipelines.build_demo_model RUN_DIR` from a run of `python -m pipelines.run_adni`; the same run
  gives the same bytes. Licence: Apache-2.0, as the code.
"""


def describe(run: Run) -> str:
    """The model card, with figures of the run itself."""
    test, labels = run.metrics["test"], run.metrics["labels"]
    return CARD.format(
        horizon=run.recipe["HorizonMonths"],
        method=run.metrics["method"].upper(),
        features=run.metrics["features"],
        label_rate=run.metrics["label_rate"],
        visible=labels["train_visible"],
        train=run.metrics["n"]["train"],
        test=run.metrics["n"]["test"],
        auc={name: values["auc"] for name, values in test.items()},
        balanced=test["all"]["balanced_accuracy"],
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.build_demo_model",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="a finished run on regions of a simulated cohort")
    parser.add_argument("--out", type=Path, default=DEMO_MODEL, help="folder that is replaced; default: the package's")
    add_debug(parser)
    return run_command(run, parser.parse_args(argv), None)


def run(arguments: argparse.Namespace) -> int:
    print(build_demo_model(arguments.run_dir, arguments.out))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
