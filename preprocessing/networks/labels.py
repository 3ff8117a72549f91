"""What the networks tell apart, in FreeSurfer's numbers, and label maps as the drawing needs them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

# Kinds of tissue that look alike in a T1. Every other number above 0 lies around the brain.
KINDS: dict[str, tuple[int, ...]] = {
    "white": (2, 41, 7, 46, 85),
    "stem": (16, 28, 60),
    "cortex": (3, 42, 8, 47),
    "limbic": (17, 53, 18, 54),
    "thalamus": (10, 49),
    "striatum": (11, 50, 26, 58, 12, 51),
    "pallidum": (13, 52),
    "fluid": (4, 5, 14, 15, 24, 43, 44, 72),
    "plexus": (31, 63, 136, 137, 163, 164),  # choroid; from 136 on in the maps' own extension of the labels
    "lesion": (25, 57, 77),
    "vessel": (30, 62),
}
FLUID_AROUND_BRAIN = 24
LEFT_HIPPOCAMPUS, RIGHT_HIPPOCAMPUS = 17, 53
INSIDE_SKULL = tuple(sorted({number for numbers in KINDS.values() for number in numbers}))

# The outputs of the two networks, with the labels that make them; what is in none is background.
HEAD_CLASSES: dict[str, tuple[int, ...]] = {
    "background": (),
    "outer_csf": (FLUID_AROUND_BRAIN, 30, 62),
    "cortex": (3, 42),
    "white_matter": (2, 41, 85, 25, 57, 77),
    "lateral_ventricle": (4, 43, 5, 44, *KINDS["plexus"]),
    "inner_ventricle": (14, 15, 72),
    "deep_grey_matter": (10, 49, 11, 50, 26, 58, 12, 51, 13, 52),
    "brainstem": (16, 28, 60),
    "cerebellar_cortex": (8, 47),
    "cerebellar_white_matter": (7, 46),
    "hippocampus_amygdala": (17, 53, 18, 54),
}
# The box holds one side, the right one mirrored, so that these are the left's numbers.
HIPPOCAMPUS_CLASSES: dict[str, tuple[int, ...]] = {
    "background": (),
    "hippocampus": (17,),
    "amygdala": (18,),
    "inferior_lateral_ventricle": (5, 137),
}
LEFT_OF = {
    **{41: 2, 42: 3, 43: 4, 44: 5, 46: 7, 47: 8, 49: 10, 50: 11, 51: 12, 52: 13, 53: 17, 54: 18, 57: 25, 58: 26},
    **{60: 28, 62: 30, 63: 31, 163: 136, 164: 137},
}


@dataclass(frozen=True)
class LabelMap:
    """A head's labels on voxels of 1 mm in RAS+: (i, j, k) int16."""

    name: str
    numbers: np.ndarray

    def centroid(self, labels: tuple[int, ...]) -> np.ndarray:
        """Mean voxel of the labels, (3,)."""
        return np.argwhere(np.isin(self.numbers, labels)).mean(0)


def read_label_map(path: Path) -> LabelMap:
    """A label map in FreeSurfer's numbers, turned to RAS+, and to 1 mm where it is not.

    Raises ValueError where a side's hippocampus is missing.
    """
    image = nib.as_closest_canonical(nib.load(path))
    numbers = np.asarray(image.dataobj).astype(np.int16)
    voxel_mm = np.array(image.header.get_zooms()[:3], float)
    if np.abs(voxel_mm - 1).max() > 0.02:
        numbers = ndimage.zoom(numbers, voxel_mm, order=0, grid_mode=True, mode="nearest")
    for number in (LEFT_HIPPOCAMPUS, RIGHT_HIPPOCAMPUS):
        if not (numbers == number).any():
            raise ValueError(f"{path}: no voxel has label {number} (hippocampus); FreeSurfer's numbers are expected")
    return LabelMap(path.name.split(".")[0], numbers)


def read_label_maps(folder: Path) -> list[LabelMap]:
    """All label maps of a folder, by name. Raises FileNotFoundError where there is none."""
    files = sorted([*folder.glob("*.nii.gz"), *folder.glob("*.nii")])
    if not files:
        raise FileNotFoundError(f"{folder}: no label map (*.nii.gz) here")
    return [read_label_map(file) for file in files]
