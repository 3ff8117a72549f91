"""A tiny prepared folder, written like the preprocessing stage writes it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
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
    path.mkdir(parents=True, exist_ok=True)
    manifest, regions, coarse_maps = draw_people(people, pool, raw, maps, seed, shift)
    (path / "regions.tsv").write_text(regions)
    for file, coarse in coarse_maps.items():
        # Coarse blocks: much faster to compress than noise in every voxel.
        nib.save(nib.Nifti1Image(np.kron(coarse, np.ones((10, 10, 10), np.float32)), AFFINE), path / file)
    folder = PreparedFolder(path, manifest.copy())
    folder.write_manifest()
    return folder


@cache
def draw_people(
    people: int, pool: int, raw: int, maps: bool, seed: int, shift: float
) -> tuple[pd.DataFrame, str, dict[str, np.ndarray]]:
    """The manifest, the text of regions.tsv and the maps at 8 x 8 x 8; many tests start from the same ones."""
    rng = np.random.default_rng(seed)
    labels = [("stable", "converter")[i % 2] for i in range(people)]
    labels += [("censored", "reverter")[i % 2] for i in range(pool)] + ["stable", "not_mci"]
    atlas = region_table()[["region", "side"]]
    atlas = pd.concat([atlas, pd.DataFrame({"region": [META_ROI_REGION, PONS_REGION], "side": "both"})])
    rows, volumes, suvrs, coarse_maps = [], [], [], {}
    for i, label in enumerate(labels):
        person = f"sub-{i:04d}"
        has_pet = i % 5 != 4
        sick = rng.normal(3.0 * (label == "converter"), 1)
        row = {"participant_id": person, "session_id": "ses-M000", "kind": "raw" if i < raw else "prepared"}
        row |= {"t1_path": "", "gm_path": f"{person}_gm.nii.gz", "pet_path": f"{person}_pet.nii.gz" if has_pet else ""}
        row |= {"label": label, "label_reason": "within 36 months", "months_to_conversion": "", "age": 60 + i % 30 // 2}
        row |= {"sex": "MF"[i // 2 % 2], "site": "1", "group_id": person, "tiv_ml": 1500 + i // 2, "qc": "pass"}
        rows.append(row)
        noise = rng.normal(0, 0.1, (len(atlas), 2))
        volumes.append(4 - 0.3 * sick + shift + noise[:, 0])
        suvrs.append(1.4 - 0.1 * sick + shift + noise[:, 1] if has_pet else np.full(len(atlas), np.nan))
        for kind, strength in (("gm", -0.3), ("pet", -0.5)):
            if maps and row[f"{kind}_path"]:
                values = rng.normal(1 + shift + strength * sick, 0.1, (8, 8, 8)).astype(np.float32)
                coarse_maps[row[f"{kind}_path"]] = values
    rows[people + pool]["qc"] = "fail"
    ids = {"participant_id": np.repeat([row["participant_id"] for row in rows], len(atlas)), "session_id": "ses-M000"}
    columns = {name: np.tile(atlas[name], len(rows)) for name in ("region", "side")}
    regions = pd.DataFrame(ids | columns | {"volume_ml": np.concatenate(volumes), "suvr": np.concatenate(suvrs)})
    return pd.DataFrame(rows), regions.to_csv(sep="\t", index=False), coarse_maps


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedFolder:
    """Tables only: enough for regions."""
    return write_prepared(tmp_path / "prepared")


@pytest.fixture(scope="session")
def prepared_maps(tmp_path_factory: pytest.TempPathFactory) -> PreparedFolder:
    """With maps; not to be changed by a test."""
    return write_prepared(tmp_path_factory.mktemp("maps") / "prepared", people=20, pool=2, raw=4, maps=True)
