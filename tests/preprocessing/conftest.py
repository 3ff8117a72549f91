"""A tiny ADNI download and a tiny BIDS data set: folders and tables, with images that hold no brain."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from preprocessing.intake import bids
from preprocessing.steps import template, tissue
from preprocessing.subject.plan import Recipe, SubjectTask
from preprocessing.subject.run import preprocess_subject


@dataclass
class Download:
    """Collects rows, and writes them as an ADNI download folder."""

    folder: Path
    images: list[dict[str, str]] = field(default_factory=list)
    diagnoses: list[dict[str, str]] = field(default_factory=list)

    def add_image(
        self,
        ptid: str,
        description: str,
        visit: str = "bl",
        date: str = "2006-03-01",
        modality: str = "MRI",
        file: bool = True,
    ) -> Path:
        """One row of the collection CSV and, if asked, its file (4x4x4 ramp)."""
        number = str(100000 + len(self.images))
        row = {"Image Data ID": f"I{number}", "Subject": ptid, "Group": "MCI", "Sex": "F", "Age": "74", "Visit": visit}
        row |= {"Modality": modality, "Description": description, "Type": "Processed", "Acq Date": date}
        self.images.append(row | {"Format": "NiFTI", "Downloaded": "1/01/2020"})
        series = description.replace(" ", "_").replace(";", "_")
        folder = self.folder / "ADNI" / ptid / series / f"{date}_10_00_00.0" / f"I{number}"
        kind = "MR" if modality == "MRI" else "PT"
        path = folder / f"ADNI_{ptid}_{kind}_{series}_Br_20070101_S1_I{number}.nii"
        if file:
            folder.mkdir(parents=True)
            nib.save(nib.Nifti1Image(np.arange(64, dtype=np.float32).reshape(4, 4, 4), np.eye(4)), path)
        return path

    def add_diagnoses(self, ptid: str, **codes: int) -> None:
        """One row of DXSUM per visit: add_diagnoses(ptid, bl=2, m12=3)."""
        rid = str(int(ptid.split("_")[2]))
        rows = [{"PTID": ptid, "RID": rid, "VISCODE2": v, "DIAGNOSIS": str(c)} for v, c in codes.items()]
        self.diagnoses += rows

    def write(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(self.images).to_csv(self.folder / "MCI_collection_1_01_2020.csv", index=False)
        pd.DataFrame(self.diagnoses).to_csv(self.folder / "DXSUM_01Jan2020.csv", index=False)
        return self.folder


@pytest.fixture
def download(tmp_path: Path) -> Download:
    return Download(tmp_path / "raw")


@pytest.fixture
def save_scan(tmp_path: Path) -> Callable[..., Path]:
    """Write values as a NIfTI file and return its path."""

    def save(values: np.ndarray, affine: np.ndarray | None = None, name: str = "scan.nii.gz") -> Path:
        path = tmp_path / name
        nib.save(nib.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
        return path

    return save


class DataSet:
    """Files of a BIDS data set, written as they are named."""

    ramp = nib.Nifti1Image(np.arange(64, dtype=np.float32).reshape(4, 4, 4), np.eye(4))

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()

    def _place(self, name: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def add(self, *names: str) -> DataSet:
        for name in names:
            path = self._place(name)
            nib.save(self.ramp, path) if name.endswith((".nii", ".nii.gz")) else path.write_bytes(b"MATRIX72v")
        return self

    def table(self, name: str, *lines: str) -> DataSet:
        return self.text(name, "".join("\t".join(line.split()) + "\n" for line in lines))

    def text(self, name: str, content: str | bytes) -> DataSet:
        self._place(name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return self

    def sidecar(self, name: str, **content: object) -> DataSet:
        return self.text(name, json.dumps(content))

    def read(self, **options):
        return bids.read_dataset(self.root, **options)


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    return DataSet(tmp_path / "bids")


def template_scans(folder: Path) -> tuple[Path, Path]:
    """The template's T1 at 2 mm as a scan, and an FDG of its tissues on a grid of its own, 6 mm and 5 degrees off."""
    t1 = nib.Nifti1Image((100 * template.t1()).astype(np.float32), template.GRID_AFFINE)
    csf, gray, white = tissue.tissue_priors() * template.brain_mask()
    uptake = ndimage.gaussian_filter(1000 * (0.1 * csf + gray + 0.4 * white), 1.5)
    tilt = np.deg2rad(5)
    shift = np.array(
        [[1, 0, 0, 6.0], [0, np.cos(tilt), -np.sin(tilt), -4], [0, np.sin(tilt), np.cos(tilt), 3], [0, 0, 0, 1]]
    )
    pet = nib.Nifti1Image(uptake.astype(np.float32), shift @ template.GRID_AFFINE)
    nib.save(t1, folder / "t1.nii.gz")
    nib.save(pet, folder / "pet.nii.gz")
    return folder / "t1.nii.gz", folder / "pet.nii.gz"


@pytest.fixture(scope="session")
def template_subject(made_once, tmp_path_factory) -> tuple[SubjectTask, Path]:
    """The template as a person with a PET, through all real steps at a coarse setting."""
    coarse = Recipe(syn_iterations=(6, 2, 0))

    def task_in(folder: Path) -> SubjectTask:
        scans = (folder / "t1.nii.gz", folder / "pet.nii.gz")
        return SubjectTask("sub-ADNI000S0000", "ses-M000", *scans, recipe=coarse)

    def prepare(folder: Path) -> None:
        folder.mkdir()
        template_scans(folder)
        preprocess_subject(task_in(folder), folder / "prepared")

    folder = shutil.copytree(made_once("template", prepare), tmp_path_factory.mktemp("template") / "subject")
    return task_in(folder), folder / "prepared"
