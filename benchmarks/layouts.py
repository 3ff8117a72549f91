"""One cohort as an ADNI download, as a BIDS data set and as DICOM: do the same maps and the same labels come out?

`python -m benchmarks.layouts OUT --subjects 12`: simulated raw people, written in all three layouts and prepared from
each through the whole path. Images are compared by their voxels, tables by all but file names and what a layout leaves
empty. It ends with status 1 where people, labels or ledgers differ; regions of DICOM differ a little, see RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import SimpleITK as sitk

from benchmarks.ground_truth import design_for
from preprocessing.cohort.run import Recipe, preprocess_cohort
from preprocessing.ledger import write_table
from preprocessing.simulated.cohort import write_cohort

DIAGNOSES = {1: "CN", 2: "MCI", 3: "AD"}


def read_people(raw: Path) -> pd.DataFrame:
    """One row a person of the simulated download: participant_id, age, sex, site, history, files t1 and pet, tesla."""
    images = pd.read_csv(next(raw.glob("*_collection.csv")), dtype=str).set_index("Image Data ID")
    visits = pd.read_csv(next(raw.glob("*DXSUM*.csv")), dtype=str)
    files = {path.stem.split("_")[-1]: path for path in sorted((raw / "ADNI").rglob("*.nii"))}
    rows = []
    for ptid, scans in images.groupby("Subject"):
        history = [
            f"{0 if row.VISCODE2 == 'bl' else int(row.VISCODE2[1:])}:{DIAGNOSES[int(row.DIAGNOSIS)]}"
            for row in visits[ptid == visits.PTID].itertuples()
        ]
        found = {modality: files[image_id] for image_id, modality in scans.Modality.items()}
        protocol = scans.set_index("Modality")["Imaging Protocol"]["MRI"]
        tesla = float(protocol.removeprefix("Field Strength="))
        name = f"sub-ADNI{ptid.replace('_', '')}"
        first = scans.iloc[0]
        rows.append([name, first.Age, first.Sex, ptid[:3], " ".join(history), found["MRI"], found["PET"], tesla])
    return pd.DataFrame(rows, columns=["participant_id", "age", "sex", "site", "history", "t1", "pet", "tesla"])


def write_bids(people: pd.DataFrame, folder: Path) -> Path:
    """The same NIfTI files under BIDS names, the T1s with a sidecar; returns the data set."""
    for person in people.itertuples():
        name = f"{person.participant_id}_ses-M000"
        for path, target in ((person.t1, f"anat/{name}_T1w.nii"), (person.pet, f"pet/{name}_trc-FDG_pet.nii")):
            copy = folder / person.participant_id / "ses-M000" / target
            copy.parent.mkdir(parents=True, exist_ok=True)
            if not copy.exists():
                os.link(path, copy)
        sidecar = folder / person.participant_id / "ses-M000" / f"anat/{name}_T1w.json"
        sidecar.write_text(json.dumps({"MagneticFieldStrength": person.tesla}))
    table = people[["participant_id", "age", "sex", "site", "history"]].rename(columns={"history": "diagnosis_history"})
    write_table(table, folder / "participants.tsv")
    return folder


def write_dicom(people: pd.DataFrame, folder: Path) -> Path:
    """Every scan as a DICOM series, a file a slice, and the list that names them; returns the list."""
    rows = []
    for person in people.itertuples():
        for modality, path in (("MR", person.t1), ("PT", person.pet)):
            write_series(path, folder / person.participant_id / modality, modality)
        places = [f"{person.participant_id}/{modality}" for modality in ("MR", "PT")]
        rows.append([person.participant_id, *places, person.age, person.sex, person.site, person.history])
    columns = ["subject", "t1", "pet", "age", "sex", "site", "history"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "list.csv", index=False)
    return folder / "list.csv"


def write_series(path: Path, folder: Path, modality: str) -> None:
    """One DICOM file a slice, by SimpleITK. `path`: int16 NIfTI."""
    folder.mkdir(parents=True, exist_ok=True)
    image = sitk.ReadImage(str(path))
    directions, series = np.array(image.GetDirection()).reshape(3, 3), f"1.2.826.0.1.{abs(hash(folder.name)) % 10**8}"
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(image.GetSize()[2]):
        piece = image[:, :, k]
        numbers = {
            "0008|0016": {"MR": "1.2.840.10008.5.1.4.1.1.4", "PT": "1.2.840.10008.5.1.4.1.1.128"}[modality],
            "0008|0018": f"{series}.{k + 1}",
            "0008|0060": modality,
            "0008|103e": "FDG" if modality == "PT" else "MPRAGE",
            "0018|0050": repr(image.GetSpacing()[2]),
            "0020|000d": f"{series}.0.1",
            "0020|000e": f"{series}.0",
            "0020|0013": str(k + 1),
            "0020|0032": "\\".join(f"{x:.9g}" for x in image.TransformIndexToPhysicalPoint((0, 0, k))),
            "0020|0037": "\\".join(f"{x:.9g}" for x in directions[:, :2].T.ravel()),
            "0028|1052": "0",
            "0028|1053": "1",
        }
        for tag, value in numbers.items():
            piece.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{k:04d}.dcm"))
        writer.Execute(piece)


def images_of(prepared: Path) -> dict[str, np.ndarray]:
    """Voxels of every map under `prepared`, by its name; a scan converted from DICOM is no map."""
    files = [path for path in sorted(prepared.rglob("*.nii.gz")) if "fromDicom" not in path.name]
    return {path.name: np.asanyarray(nib.load(path).dataobj) for path in files}


def compare(reference: Path, other: Path) -> dict:
    """How many maps are the same voxel by voxel, how far the others are apart, and whether the tables agree."""
    ours, theirs = images_of(reference), images_of(other)
    assert ours.keys() == theirs.keys(), sorted(ours.keys() ^ theirs.keys())[:3]
    apart = {name: float(np.abs(ours[name] - theirs[name]).max()) for name in ours}
    different = {name: value for name, value in apart.items() if value > 0}
    tables, unsaid = {}, []
    for name in ("manifest", "regions", "ledger"):
        pair = [pd.read_csv(folder / f"{name}.tsv", sep="\t") for folder in (reference, other)]
        empty = [column for column in pair[1] if pair[1][column].isna().all() and pair[0][column].notna().any()]
        kept = [table.drop(columns=["source", *empty], errors="ignore") for table in pair]
        tables[name], unsaid = kept[0].equals(kept[1]), unsaid + empty
    regions = [pd.read_csv(folder / "regions.tsv", sep="\t")[["volume_ml", "suvr"]] for folder in (reference, other)]
    relative = ((regions[1] - regions[0]) / regions[0]).abs().max()
    return {
        "maps": len(ours),
        "same_voxels": len(ours) - len(different),
        "largest_differences": dict(sorted(different.items(), key=lambda item: -item[1])[:3]),
        "same_tables": tables,
        "columns_that_the_layout_leaves_empty": unsaid,
        "largest_relative_difference_of_a_region": relative.to_dict(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--subjects", type=int, default=12)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--coarse", action="store_true", help="a short registration")
    arguments = parser.parse_args()
    out, recipe = arguments.out, Recipe(syn_iterations=(10, 5, 0)) if arguments.coarse else Recipe()
    write_cohort(out, design_for(arguments.subjects, seed=0), jobs=arguments.jobs)
    people = read_people(out / "raw")
    bids, listed = write_bids(people, out / "bids"), write_dicom(people, out / "dicom")
    for name, (raw, layout) in {
        "adni": (out / "raw", "adni"),
        "bids": (bids, "bids"),
        "dicom": (listed, "list"),
    }.items():
        preprocess_cohort(raw, out / f"from-{name}", jobs=arguments.jobs, layout=layout, recipe=recipe)
    found = {name: compare(out / "from-adni", out / f"from-{name}") for name in ("bids", "dicom")}
    print(json.dumps(found, indent=1))
    return 0 if all(result["same_tables"][name] for result in found.values() for name in ("manifest", "ledger")) else 1


if __name__ == "__main__":
    raise SystemExit(main())
