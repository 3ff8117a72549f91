"""What makes a prepared folder a BIDS derivative: the fields of each image, and the files that describe the whole.

BIDS 1.10, chapter on derivatives. It has no names for transforms, quality checks and cohort tables: `.bidsignore` lists
these, and no image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adni_tcgm.command import LOG
from adni_tcgm.files import write_bytes
from preprocessing.ledger import write_json
from preprocessing.steps import template

CROP = "Crop80"
# Start of the ending of a file name -> Description, SkullStripped (outside the brain all is zero), Units where not
# arbitrary. The first that fits counts.
IMAGES: dict[str, tuple[str, bool, str]] = {
    "desc-preproc_T1w": ("T1, bias field corrected, whole head", False, "arbitrary"),
    "space-T1w_res-3_desc-brain_T1w": ("T1 of the brain, bias field corrected; the PET is aligned to it", True, ""),
    "desc-brain_mask": ("What lies inside the skull, of the T1", True, ""),
    "space-T1w_res-1_desc-view_T1w": ("T1 as scanned, bias field corrected, to look at", False, "arbitrary"),
    "space-T1w_res-1_label-hippocampus": ("Probability of the hippocampus, as segmented", True, "fraction"),
    "space-T1w_res-2_desc-suvr": ("FDG-PET on the T1 as scanned, relative to the reference region", False, "SUVR"),
    "label-GM_desc-modulated": (
        "Grey matter, multiplied by the Jacobian of the registration",
        True,
        "person's mL of grey matter per mL of template",
    ),
    "label-GM_": ("Fraction of grey matter", True, "fraction"),
    "label-WM_": ("Fraction of white matter", True, "fraction"),
    "label-CSF_": ("Fraction of cerebrospinal fluid inside the skull", True, "fraction"),
    "label-hippocampus_": ("Probability of the hippocampus, as segmented on the T1", True, "fraction"),
    "label-amygdala_": ("Probability of the amygdala, as segmented on the T1", True, "fraction"),
    "desc-suvr": ("FDG-PET relative to its mean in the reference region", False, "SUVR"),
}
RESOLUTIONS = {
    1: "1 mm isotropic, the template's own grid (193 x 229 x 193)",
    2: f"2 mm isotropic ({' x '.join(map(str, template.GRID_SHAPE))})",
    3: "3 mm isotropic, axes of the T1",
}

DESCRIPTION = "dataset_description.json"
BIDSIGNORE = (
    *(
        f"/{name}.tsv"
        for name in ("manifest", "ledger", "regions", "people", "clinical", "chosen_scans", "label_rules")
    ),
    *("/given.tsv", "/given_regions.tsv", "/qc.html", "/qc_overrides.tsv", "/recipe.json"),
    *(f"/sub-*/ses-*/sub-*_{name}" for name in ("regions.tsv", "response.tsv", "qc.json", "done.json", "stamps.json")),
    f"/sub-*/ses-*/{LOG}",
    "/sub-*/ses-*/figures",
    *(f"/sub-*/ses-*/anat/sub-*_xfm.{extension}" for extension in ("mat", "h5", "json")),
    "/sub-*/ses-*/pet/sub-*_xfm.mat",
)
README = """# T1 and FDG-PET in template space

{simulated}BIDS derivatives in MNI152NLin2009cSym, one folder per person and visit. `manifest.tsv` lists who is in,
`ledger.tsv` what became of every scan, `regions.tsv` volumes and SUVRs, `qc.html` the quality control.

Transforms (`*_xfm.*`) are ITK's. From T1w to the template: `desc-syn` first, then `desc-affine`, on points.
"""


def image_fields(ending: str, resolution_mm: int = 2) -> dict[str, object]:
    """What the sidecar of an image says by its kind. `ending`: of its name, after `res-`; for the coarse brain,
    which is not on the template, from `space-` on.

    Raises KeyError for an ending that is not in IMAGES.
    """
    known = next((start for start in IMAGES if ending.startswith(start)), ending)
    description, skull_stripped, units = IMAGES[known]
    resolution, cropped = RESOLUTIONS[resolution_mm], CROP in ending
    if cropped:
        description += "; the part that networks read"
        resolution = "2 mm isotropic, a box of 80 x 80 x 80 voxels of the template's grid"
    fields: dict[str, object] = {"Description": description}
    fields |= {"SpatialReference": f"{template.SPACE} (ICBM 152 2009c symmetric), {resolution_mm} mm"}
    fields |= {"Resolution": resolution, "SkullStripped": skull_stripped or cropped}
    if ending.endswith("_mask"):
        fields["Type"] = "Brain"
    return fields | ({"Units": units} if units else {})


def frame_fields(about_frames: dict[str, Any]) -> dict[str, Any]:
    """What `frames.read_pet` says of averaged frames, with BIDS's times of their average in seconds after injection."""
    if "FramesMinutes" not in about_frames:
        return {}
    first_min, last_min = about_frames["FramesMinutes"]
    duration_s = round(60 * (last_min - first_min), 1)
    times = {"InjectionStart": 0, "FrameTimesStart": [round(60 * first_min, 1)], "FrameDuration": [duration_s]}
    return about_frames | times


def write_dataset_files(prepared: Path, simulated: bool, version: str) -> None:
    """Write `dataset_description.json`, `README.md` and `.bidsignore`. version: of the recipe."""
    name = "T1 and FDG-PET in template space"
    description = {
        "Name": f"SIMULATED: {name}" if simulated else name,
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "preprocessing", "Version": version}],
        "SpatialReference": f"{template.SPACE}, 2 mm, {' x '.join(map(str, template.GRID_SHAPE))}",
    }
    note = "SIMULATED: no scan in this folder was taken of a person. " if simulated else ""
    write_bytes(prepared / "README.md", README.format(simulated=note).encode())
    write_bytes(prepared / ".bidsignore", ("\n".join(BIDSIGNORE) + "\n").encode())
    write_json(description, prepared / DESCRIPTION)
