"""Other people's heads brought onto the template: drawn from label maps, with structures and tissues of their own.

A label map has no cortical parcels; registration to the template brings CerebrA's onto its cortex. What that
registration finds is kept in `OUT/truth/anatomies`, so it runs once per head.

A head lends its shape, not its size and volumes: those are drawn for everybody (`preprocessing.simulated.healthy`).
Twenty heads of all ages and degrees of atrophy vary by 32 % in the hippocampus, the people of a cohort by 12 %; left
in, a person's volumes would be those of a head that has nothing to do with the person's diagnosis.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage
from tqdm import tqdm

from adni_tcgm.files import write_text
from adni_tcgm.processes import process_pool
from adni_tcgm.tables import to_tsv
from preprocessing.networks import fold_of_label_map, weights_path
from preprocessing.simulated import deformation, healthy, tissue_model
from preprocessing.simulated.anatomy import Anatomy, sample, write_cache
from preprocessing.simulated.label_maps import brain_of, canonical, draw_t1, label_map_files
from preprocessing.simulated.tissue_model import Tissues
from preprocessing.steps import lazy_ants as ants
from preprocessing.steps import register, template
from preprocessing.steps.interpolation import trilinear

GRID_MARGIN_MM = 20.0
# No log volume is changed by more: the deformations that set it come near to folding.
MOST_EXCESS = 0.7
BRAIN, EXCESS = ("size", "brain", ""), "excess.tsv"
# FreeSurfer's numbers (left, right) of structures that CerebrA has, too; those of the midline have one number.
STRUCTURES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "hippocampus": ((17,), (53,)),
    "amygdala": ((18,), (54,)),
    "lateral_ventricle": ((4,), (43,)),
    "inferior_lateral_ventricle": ((5,), (44,)),
    "thalamus": ((10,), (49,)),
    "caudate": ((11,), (50,)),
    "putamen": ((12,), (51,)),
    "pallidum": ((13,), (52,)),
    "accumbens_area": ((26,), (58,)),
    "ventral_diencephalon": ((28,), (60,)),
    "cerebellum_gray_matter": ((8,), (47,)),
    "cerebellum_white_matter": ((7,), (46,)),
}
MIDLINE = {"third_ventricle": 14, "fourth_ventricle": 15, "brainstem": 16}
CORTEX = ((3,), (42,))
DEEP = tuple(number for name in list(STRUCTURES)[:-1] for side in STRUCTURES[name] for number in side)
GRAY = (*CORTEX[0], *CORTEX[1], *(n for n in DEEP if n not in (4, 5, 43, 44)))
WHITE = (2, 41, 7, 46, 16, 85)
FLUID = (4, 5, 14, 15, 24, 43, 44)


@dataclass(frozen=True)
class PointMap:
    """Displacements (3, i, j, k) in mm on a grid with `affine`; linear between, constant outside."""

    displacement: np.ndarray
    affine: np.ndarray

    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        inverse = np.linalg.inv(self.affine).astype(points_mm.dtype)
        index = np.tensordot(inverse[:3, :3], points_mm, axes=1)
        index += inverse[:3, 3].reshape(3, *[1] * (points_mm.ndim - 1))
        return points_mm + trilinear(self.displacement, index).astype(points_mm.dtype)


class LabelMapAnatomy(Anatomy):
    """A head drawn from the label map in `file`.

    forward: template mm -> head mm; backward: head mm -> template mm.
    """

    kind = "heads"
    mean_scale = 1.0

    def __init__(self, file: Path, forward: PointMap, backward: PointMap, seed: int, cache: Path | None = None) -> None:
        super().__init__(cache)
        self.file, self.forward, self.backward, self.seed = file, forward, backward, seed

    def log_values(self) -> pd.Series:
        """Log mL and log SUVR of the head as it is, by modality, region and side of what the simulation sets."""
        seen = tissue_model.blur(self.uptake)
        table = self.regions(self.still, seen / seen[template.pons_mask()].mean()).set_index(["region", "side"])
        values = {"mri": table.volume_ml[list(deformation.CONTROLLED)], "pet": table.suvr[list(healthy.log_suvr_sd())]}
        return np.log(pd.concat(values, names=["modality"]))

    def log_brain(self) -> float:
        """Log mL of the brain of the head as it is."""
        return float(np.log(self.still[template.brain_mask()].sum() * template.VOXEL_ML))

    def take_off(self, excess: pd.Series) -> None:
        """From everybody who has this head: its column of `excess_values`."""
        self.mean_scale = float(np.exp(-excess[BRAIN] / 3))
        self.excess = {modality: excess[modality].to_dict() for modality in ("mri", "pet")}

    def from_template(self, points_mm: np.ndarray) -> np.ndarray:
        return self.forward(points_mm)

    def to_template(self, points_mm: np.ndarray) -> np.ndarray:
        return self.backward(points_mm)

    @cached_property
    def _map(self) -> nib.Nifti1Image:
        return canonical(self.file)

    @cached_property
    def _log_jacobian(self) -> np.ndarray:
        spacing = template.SPACING_MM
        derivative = np.stack([np.stack(np.gradient(d, spacing, axis=(0, 1, 2))) for d in self.forward.displacement])
        derivative += np.eye(3).reshape(3, 3, 1, 1, 1)
        determinant = np.linalg.det(np.moveaxis(derivative, (0, 1), (-2, -1)))
        return deformation.coarsen(np.log(np.clip(determinant, 0.05, None)))

    def jacobian(self, displacement: np.ndarray) -> np.ndarray:
        return np.exp(deformation.sampled(self._log_jacobian[None], displacement)[0])

    @cached_property
    def _numbers(self) -> np.ndarray:
        """FreeSurfer's number at each voxel of the 2 mm template grid."""
        return sample(np.asarray(self._map.dataobj), self._map.affine, self.forward(_grid_points()), order=0)

    @cached_property
    def labels(self) -> np.ndarray:
        return self._kept("labels", lambda: cerebra_labels(self._numbers))

    def make_tissues(self) -> Tissues:
        points, numbers = self.forward(_grid_points()), np.asarray(self._map.dataobj)
        shares = [
            sample(np.isin(numbers, names).astype(np.float32), self._map.affine, points)
            for names in (GRAY, WHITE, FLUID)
        ]
        return Tissues(*shares, self._numbers > 0)

    @cached_property
    def label_ml(self) -> np.ndarray:
        voxel_ml = abs(np.linalg.det(self._map.affine[:3, :3])) / 1000
        counts = np.bincount(np.asarray(self._map.dataobj).ravel(), minlength=100) * voxel_ml
        table = template.region_table()
        volumes = np.zeros(table.label.max() + 1)
        for label, region, side in table[["label", "region", "side"]].itertuples(index=False):
            if region in STRUCTURES:
                volumes[label] = counts[list(STRUCTURES[region][side == "right"])].sum()
        return volumes

    def t1(self, points_mm: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        return sample(self._drawn, self._map.affine, points_mm, shape=shape)

    @cached_property
    def _drawn(self) -> np.ndarray:
        return draw_t1(self._map, self.seed)

    def segment(self, blurred: bool) -> np.ndarray:
        """As a scan of the head is, on its own grid, by a network that never saw it."""
        affine, weights = self._map.affine, weights_path("head", fold_of_label_map(self.file))
        found = tissue_model.segment(nib.Nifti1Image(self._drawn, affine), blurred, weights)
        fine = template.t1_1mm()
        grid = np.indices(fine.shape, dtype=np.float32) + fine.affine[:3, 3].reshape(3, 1, 1, 1).astype(np.float32)
        return np.stack([sample(share, affine, self.forward(grid)) for share in found])


@lru_cache
def _grid_points() -> np.ndarray:
    index = np.indices(template.GRID_SHAPE, dtype=np.float32)
    return index * np.float32(template.SPACING_MM) + template.GRID_AFFINE[:3, 3].reshape(3, 1, 1, 1).astype(np.float32)


def cerebra_labels(numbers: np.ndarray) -> np.ndarray:
    """CerebrA's numbers on the 2 mm template grid for a head whose FreeSurfer numbers there are given.

    Structures are the head's own; its cortex takes the nearest of CerebrA's parcels of that side.
    """
    atlas, table = template.labels(), template.region_table()
    name_of = table.set_index(["region", "side"]).label
    not_cortex = {*STRUCTURES, *MIDLINE, "optic_chiasm", "basal_forebrain"}
    vermis = [region for region in set(table.region) if region.startswith("vermal")]
    labels = np.zeros(atlas.shape, atlas.dtype)
    right = np.arange(atlas.shape[0]) > atlas.shape[0] // 2
    for is_right, side in enumerate(("left", "right")):
        for region, sides in STRUCTURES.items():
            labels[np.isin(numbers, sides[is_right])] = name_of[region, side]
        for region, number in MIDLINE.items():
            labels[(numbers == number) & (right == is_right)[:, None, None]] = name_of[region, side]
        parcels = table[(table.side == side) & ~table.region.isin([*not_cortex, *vermis])].label
        nearest = ndimage.distance_transform_edt(~np.isin(atlas, parcels), return_distances=False, return_indices=True)
        own = np.isin(numbers, CORTEX[is_right])
        labels[own] = atlas[tuple(nearest)][own]
    cerebellar = np.isin(numbers, [n for side in STRUCTURES["cerebellum_gray_matter"] for n in side])
    keep = cerebellar & np.isin(atlas, table[table.region.isin(vermis)].label)
    labels[keep] = atlas[keep]
    return labels


def prepare_anatomies(folder: Path, cache: Path, blurred: bool, jobs: int, progress: bool = True) -> None:
    """Register every label map of `folder` to the template, once; what is found goes to `cache`, and so does what each
    head has more or less of than the others.

    blurred: with what scans of soft scanners show of each head.
    """
    files = label_map_files(folder)
    missing = [(i, f, cache, blurred) for i, f in enumerate(files) if not _cached(cache, f).is_file()]
    if missing:
        cache.mkdir(parents=True, exist_ok=True)
        with process_pool(jobs, register.make_repeatable) as pool:
            results = pool.map(_register, missing)
            list(tqdm(results, total=len(missing), desc="anatomies", unit="head", disable=not progress))
    if missing or [*_read_excess(cache).columns] != [*map(_name, files)]:
        excess = excess_values({_name(file): _registered(file, cache, i) for i, file in enumerate(files)})
        write_text(cache / EXCESS, to_tsv(excess.reset_index()))


def excess_values(heads: Mapping[str, LabelMapAnatomy]) -> pd.DataFrame:
    """Rows (modality, region, side), a column a head: by how much log volume, as a share of the brain's, and log SUVR
    are larger than in the mean of these heads, up to MOST_EXCESS; and at BRAIN the same of the brain's log volume.

    Natural logarithms. The rows of each modality sum to 0 over heads where none is cut off.
    """
    logs = pd.DataFrame({name: head.log_values() for name, head in heads.items()}).sort_index()
    sizes = np.array([head.log_brain() for head in heads.values()])
    shares = logs - np.outer(logs.index.get_level_values("modality") == "mri", sizes)
    excess = shares.sub(shares.mean(axis=1), axis=0).clip(-MOST_EXCESS, MOST_EXCESS)
    size = pd.DataFrame([sizes - sizes.mean()], pd.MultiIndex.from_tuples([BRAIN], names=logs.index.names), heads)
    return pd.concat([excess, size])


def _read_excess(cache: Path) -> pd.DataFrame:
    """As `excess_values` found it; no columns where that is not known."""
    if not (cache / EXCESS).is_file():
        return pd.DataFrame()
    return pd.read_csv(cache / EXCESS, sep="\t", index_col=["modality", "region", "side"], keep_default_na=False)


def load_anatomy(folder: Path, cache: Path, number: int) -> LabelMapAnatomy:
    """One head of `folder`, prepared before by `prepare_anatomies`; its people have the usual volumes of all heads."""
    file = label_map_files(folder)[number]
    head = _registered(file, cache, number)
    head.take_off(_read_excess(cache)[_name(file)])
    return head


def _registered(file: Path, cache: Path, number: int) -> LabelMapAnatomy:
    maps = np.load(_cached(cache, file), allow_pickle=False)
    forward = PointMap(maps["forward"].astype(np.float32), template.GRID_AFFINE)
    backward = PointMap(maps["backward"].astype(np.float32), maps["affine"])
    return LabelMapAnatomy(file, forward, backward, number, _cached(cache, file))


def _cached(cache: Path, file: Path) -> Path:
    return cache / f"{_name(file)}.npz"


def _name(file: Path) -> str:
    return file.name.split(".")[0]


def _register(task: tuple[int, Path, Path, bool]) -> None:
    number, file, cache, blurred = task
    labels = canonical(file)
    t1, inside = draw_t1(labels, number), brain_of(labels)
    brain = nib.Nifti1Image(t1 * inside, labels.affine)
    fixed = template.grid_image(template.t1() * template.brain_mask())
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        found = register.register_to_template(brain, fixed, Path(scratch) / "a_")
        forward = _displacement(template.GRID_SHAPE, template.GRID_AFFINE, [found.warp, found.affine], [False, False])
        shape, affine = _native_grid(labels)
        backward = _displacement(shape, affine, [found.affine, found.inverse_warp], [True, False])
    maps = (PointMap(forward, template.GRID_AFFINE), PointMap(backward, affine))
    head = LabelMapAnatomy(file, *maps, number)
    more = {"labels": head.labels, "forward": forward, "backward": backward, "affine": affine}
    write_cache(head, _cached(cache, file), blurred, **more)


def _native_grid(labels: nib.Nifti1Image) -> tuple[tuple[int, ...], np.ndarray]:
    """A 2 mm grid over the head."""
    corners = np.array([[0, 0, 0], labels.shape])
    low, high = nib.affines.apply_affine(labels.affine, corners)
    shape = tuple(int(n) for n in np.ceil((high - low + 2 * GRID_MARGIN_MM) / template.SPACING_MM))
    affine = np.diag([template.SPACING_MM] * 3 + [1.0])
    affine[:3, 3] = low - GRID_MARGIN_MM
    return shape, affine


def _displacement(shape: tuple[int, ...], affine: np.ndarray, chain: list[Path], inverted: list[bool]) -> np.ndarray:
    """Where the points of a grid go, less where they are: (3, *shape) float16 mm."""
    points = nib.affines.apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1).reshape(-1, 3))
    itk = points * [-1, -1, 1]  # ITK counts millimetres towards left and back
    table = pd.DataFrame(itk, columns=["x", "y", "z"])
    with register.plain_names(*chain) as names:
        moved = ants.apply_transforms_to_points(3, table, names, whichtoinvert=inverted)
    difference = (moved[["x", "y", "z"]].to_numpy() - itk) * [-1, -1, 1]
    return np.moveaxis(difference.reshape(*shape, 3), -1, 0).astype(np.float16)
