"""What scanners make of a brain: a T1 and an FDG-PET, each on a grid, with a pose and with flaws of its own."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from scipy import ndimage
from scipy.spatial.transform import Rotation

from preprocessing.simulated import tissue_model
from preprocessing.simulated.anatomy import sample
from preprocessing.simulated.brain import Brain
from preprocessing.simulated.people import Person
from preprocessing.steps.interpolation import stretched
from preprocessing.steps.template import GRID_AFFINE

T1_STAGE, PET_STAGE, POSE_STAGE = 6, 7, 8


@dataclass(frozen=True)
class Scanner:
    """Settings of a site. Sizes in mm; noise and bias relative to white matter."""

    field_tesla: float
    t1_shape: tuple[int, int, int]
    t1_voxel_mm: tuple[float, float, float]
    orientation: str
    noise: float
    bias: float


SCANNERS = (
    Scanner(1.5, (160, 192, 192), (1.2, 1.25, 1.25), "LPS", 0.035, 0.18),
    Scanner(3.0, (176, 240, 256), (1.0, 1.0, 1.0), "RAS", 0.025, 0.25),
    Scanner(1.5, (166, 256, 256), (1.2, 0.94, 0.94), "RPS", 0.040, 0.15),
    Scanner(3.0, (170, 256, 256), (1.2, 1.0, 1.0), "LAS", 0.025, 0.25),
)
PET_SHAPE, PET_VOXEL_MM = (160, 160, 96), (1.5, 1.5, 1.5)
PET_NOISE, PET_NOISE_FWHM_MM = 0.04, 6.0


def scanner_of_site(site: int) -> Scanner:
    return SCANNERS[site % len(SCANNERS)]


def _pose(rng: np.random.Generator, degrees: float, shift_mm: float) -> np.ndarray:
    """A rigid 4x4 matrix: how a head lies in the scanner."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", degrees * rng.standard_normal(3), degrees=True).as_matrix()
    pose[:3, 3] = shift_mm * rng.standard_normal(3)
    return pose


def _grid(shape: tuple, voxel_mm: tuple, centre_mm: np.ndarray) -> np.ndarray:
    """RAS+ affine of a grid around a centre."""
    affine = np.diag([*voxel_mm, 1.0])
    affine[:3, 3] = centre_mm - np.array(voxel_mm) * (np.array(shape) - 1) / 2
    return affine


def _lattice(shape: tuple, affine: np.ndarray) -> np.ndarray:
    """Places that span a grid from corner to corner, some two voxels apart: (3, ...) float32 mm. Where a brain takes
    them is stretched over the grid; deformations are smoother than that."""
    index = np.meshgrid(*[np.linspace(0, n - 1, n // 2 + 1, dtype=np.float32) for n in shape], indexing="ij")
    return _apply(affine, np.stack(index))


def _stored(values: np.ndarray, affine: np.ndarray, orientation: str) -> nib.Nifti1Image:
    """Turn a RAS+ array into the axis order of a scanner; the header keeps track. int16, as scanners write."""
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(orientation))
    turned = nib.orientations.apply_orientation(np.rint(values).astype(np.int16), turn)
    image = nib.Nifti1Image(turned, affine @ inv_ornt_aff(turn, values.shape))
    image.header.set_xyzt_units("mm")
    return image


def t1_pose(person: Person) -> np.ndarray:
    """From the person's head to the scanner of the T1, 4x4."""
    return _pose(person.scan_rng(POSE_STAGE), 4.0, 4.0)


def scan_t1(brain: Brain) -> nib.Nifti1Image:
    """A T1-weighted head with bias field and Rician noise."""
    person, scanner = brain.person, scanner_of_site(brain.person.site)
    rng, pose = person.scan_rng(T1_STAGE), t1_pose(person)
    shape = scanner.t1_shape
    affine = _grid(shape, scanner.t1_voxel_mm, pose[:3, 3] + [0, -15, 0])
    in_head = _apply(np.linalg.inv(pose), _lattice(shape, affine)) / np.float32(brain.effect.scale)
    _, on_anatomy = brain.from_person(in_head)
    signal = brain.anatomy.t1(on_anatomy, shape)
    signal *= np.float32(rng.uniform(4, 8))
    signal = tissue_model.soften(signal, brain.effect.soft, scanner.t1_voxel_mm)
    some = signal[::2, ::2, ::2]
    noise = np.float32(scanner.noise * np.percentile(some[some > 0], 90))  # relative to white matter
    coarse = ndimage.zoom(ndimage.gaussian_filter(rng.standard_normal((8, 8, 8)), 1.5), 4)
    bias = stretched(scanner.bias * coarse / np.abs(coarse).max(), shape)
    signal *= np.exp(bias, out=bias)
    signal += noise * rng.standard_normal(shape, np.float32)
    quadrature = noise * rng.standard_normal(shape, np.float32)
    return _stored(np.hypot(signal, quadrature, out=signal), affine, scanner.orientation)


def scan_pet(brain: Brain) -> nib.Nifti1Image:
    """An FDG-PET of uniform 8 mm resolution, in a pose and a scale of its own, with correlated noise."""
    rng = brain.person.scan_rng(PET_STAGE)
    pose = _pose(rng, 4.0, 5.0)
    affine = _grid(PET_SHAPE, PET_VOXEL_MM, pose[:3, 3] + [0, -15, 8])
    in_head = _apply(np.linalg.inv(pose), _lattice(PET_SHAPE, affine))
    on_template, _ = brain.from_person(in_head)
    activity = sample(brain.uptake, GRID_AFFINE, on_template, shape=PET_SHAPE)
    seen = brain.effect.on_pet(tissue_model.blur(activity, spacing_mm=PET_VOXEL_MM))
    noise = tissue_model.blur(rng.standard_normal(PET_SHAPE, np.float32), PET_NOISE_FWHM_MM, PET_VOXEL_MM)
    seen *= 1 + PET_NOISE * noise / noise.std()
    return _stored(np.clip(seen, 0, None) * float(rng.uniform(3000, 9000)), affine, "LPS")


def _apply(matrix: np.ndarray, points_mm: np.ndarray) -> np.ndarray:
    moved = np.tensordot(matrix[:3, :3].astype(np.float32), points_mm, axes=1)
    return moved + matrix[:3, 3].astype(np.float32).reshape(3, 1, 1, 1)
