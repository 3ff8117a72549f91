"""Label maps of other people's heads (FreeSurfer's numbers), and the T1 images drawn from them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

# T1 intensity (mean, SD between heads), white matter 100, by tissue and FreeSurfer label. Deep structures lie between
# grey and white; numbers from 502 on are what surrounds the brain, in the maps' own extension of the labels.
INTENSITIES: dict[tuple[int, ...], tuple[float, float]] = {
    (2, 41, 7, 46, 85): (100, 3),  # white matter, cerebral and cerebellar; optic chiasm
    (16, 28, 60): (88, 3),  # brainstem, ventral diencephalon
    (3, 42, 8, 47): (64, 3),  # cortex, cerebral and cerebellar
    (17, 53, 18, 54): (68, 3),  # hippocampus, amygdala
    (10, 49): (84, 3),  # thalamus
    (11, 50, 26, 58): (74, 3),  # caudate, accumbens
    (12, 51): (80, 3),  # putamen
    (13, 52): (92, 3),  # pallidum
    (4, 5, 14, 15, 24, 43, 44, 72, 136, 137, 163, 164): (22, 3),  # ventricles and other fluid
    (25, 57, 30, 62): (70, 4),  # lesions, vessels
}
OUTSIDE = (52.0, 18.0)
BRAIN_LABELS = tuple(label for labels in INTENSITIES for label in labels)
FLUID_AROUND_BRAIN = 24
TEXTURE = 3.0


def draw_t1(labels: nib.Nifti1Image, seed: int) -> np.ndarray:
    """A T1 of the label map: a mean per tissue, texture, and the blur of a 1 mm scan."""
    rng = np.random.default_rng([seed, 11])
    numbers = np.asarray(labels.dataobj).astype(int)
    image = np.zeros(numbers.shape, np.float32)
    for names, (mean, sd) in INTENSITIES.items():
        image[np.isin(numbers, names)] = mean + sd * rng.standard_normal()
    for number in np.setdiff1d(np.unique(numbers), [0, *BRAIN_LABELS]):
        image[numbers == number] = max(8.0, OUTSIDE[0] + OUTSIDE[1] * rng.standard_normal())
    image += TEXTURE * rng.standard_normal(numbers.shape) * (numbers > 0)
    return ndimage.gaussian_filter(np.maximum(image, 0), 0.5)


def brain_of(labels: nib.Nifti1Image) -> np.ndarray:
    """Bool mask of the brain: every tissue label and the fluid enclosed by them, without the outer fluid."""
    numbers = np.asarray(labels.dataobj).astype(int)
    solid = np.isin(numbers, [label for label in BRAIN_LABELS if label != FLUID_AROUND_BRAIN])
    return ndimage.binary_closing(np.pad(solid, 4), iterations=3)[4:-4, 4:-4, 4:-4]


def label_map_files(folder: Path) -> list[Path]:
    """Label maps in a folder, by name. Raises FileNotFoundError where there is none."""
    files = sorted(folder.glob("*.nii.gz")) + sorted(folder.glob("*.nii"))
    if not files:
        raise FileNotFoundError(f"{folder}: no label map (*.nii.gz) here")
    return files


def canonical(file: Path) -> nib.Nifti1Image:
    """The label map in RAS+, with the centre of the brain at the origin, as scanners place a head."""
    image = nib.as_closest_canonical(nib.load(file))
    numbers = np.asarray(image.dataobj).astype(np.int16)
    centre = ndimage.center_of_mass(np.isin(numbers, BRAIN_LABELS))
    affine = image.affine.copy()
    affine[:3, 3] -= nib.affines.apply_affine(affine, centre) - np.array([0.0, -18.0, 8.0])
    return nib.Nifti1Image(numbers, affine)
