"""A tiny prepared folder, written like the preprocessing stage writes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from preprocessing.steps.crop import PREPARED_ORIGIN_MM
from preprocessing.steps.regions import META_ROI_REGION, PONS_REGION
from preprocessing.steps.template import region_table

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
AFFINE[:3, 3] = PREPARED_ORIGIN_MM


@dataclass
class PreparedFolder:
    path: Path
    manifest: pd.DataFrame

    def write_manifest(self) -> None:
        self.manifest.to_csv(self.path / "manifest.tsv", sep="\t", index=False)


def write_prepared(
    path: Path, *, people: int = 40, pool: int = 6, raw: int = 8, maps: bool = False, seed: int = 0, shift: float = 0.0
) -> PreparedFolder:
    """`people` stable and converting ones in turn, `pool` unlabeled ones, one failed and one without MCI.

    The first `raw` are raw; every fifth has no PET. Converters have smaller hippocampi and lower SUVR (d about 3).
    """
    rng = np.random.default_rng(seed)
    path.mkdir(parents=True, exist_ok=True)
    labels = [("stable", "converter")[i % 2] for i in range(people)] + [
        ("censored", "reverter")[i % 2] for i in range(pool)
    ]
    labels += ["stable", "not_mci"]
    rows, regions = [], []
    for i, label in enumerate(labels):
        person = f"sub-{i:04d}"
        has_pet = i % 5 != 4
        sick = rng.normal(3.0 * (label == "converter"), 1)
        row = {"participant_id": person, "session_id": "ses-M000", "kind": "raw" if i < raw else "prepared"}
        row |= {"t1_path": "", "gm_path": f"{person}_gm.nii.gz", "pet_path": f"{person}_pet.nii.gz" if has_pet else ""}
        row |= {"label": label, "label_reason": "within 36 months", "months_to_conversion": "", "age": 60 + i % 30 // 2}
        row |= {"sex": "MF"[i // 2 % 2], "site": "1", "group_id": person, "tiv_ml": 1500 + i // 2, "qc": "pass"}
        rows.append(row)
        atlas = region_table()[["region", "side"]]
        table = pd.concat([atlas, pd.DataFrame({"region": [META_ROI_REGION, PONS_REGION], "side": "both"})])
        noise = rng.normal(0, 0.1, (len(table), 2))
        values = {"volume_ml": 4 - 0.3 * sick + shift + noise[:, 0], "suvr": 1.4 - 0.1 * sick + shift + noise[:, 1]}
        frame = pd.DataFrame({"participant_id": person, "session_id": "ses-M000", **table, **values})
        regions.append(frame if has_pet else frame.assign(suvr=np.nan))
        if maps:
            for kind, strength in (("gm", -0.3), ("pet", -0.5)):
                if kind == "gm" or has_pet:
                    # Coarse blocks: much faster to compress than noise in every voxel.
                    coarse = rng.normal(1 + shift + strength * sick, 0.1, (8, 8, 8)).astype(np.float32)
                    volume = np.kron(coarse, np.ones((10, 10, 10), np.float32))
                    nib.save(nib.Nifti1Image(volume, AFFINE), path / f"{person}_{kind}.nii.gz")
    rows[people + pool]["qc"] = "fail"
    pd.concat(regions).to_csv(path / "regions.tsv", sep="\t", index=False)
    folder = PreparedFolder(path, pd.DataFrame(rows))
    folder.write_manifest()
    return folder


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedFolder:
    """Tables only: enough for regions."""
    return write_prepared(tmp_path / "prepared")


@pytest.fixture(scope="session")
def prepared_maps(tmp_path_factory: pytest.TempPathFactory) -> PreparedFolder:
    """With maps; not to be changed by a test."""
    return write_prepared(tmp_path_factory.mktemp("maps") / "prepared", people=20, pool=2, raw=4, maps=True)
