"""Numbers per region: volume in the person's own mL, and mean SUVR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import pandas as pd

from preprocessing.steps import template, tissue

COLUMNS = ("participant_id", "session_id", "region", "side", "volume_ml", "suvr", "method")
META_ROI_REGION = "meta_roi_proxy"
PONS_REGION = "pons"

# How a volume was found.
SEGMENTATION = "segmentation"  # on the person's own T1, by a network
JACOBIAN = "jacobian"  # of the registration, summed over the atlas mask: where there are no tissues
TISSUE_METHODS = {"gm": "grey_matter", "csf": "csf"}  # that tissue, times the Jacobian, summed over the atlas mask
PARENCHYMA = "parenchyma"  # the same of all that is not fluid
# The Jacobian alone sees neither a cortex that thins nor a ventricle narrower than the atlas's. In these regions, where
# grey and white matter mix or the contrast of a T1 says little, what is not fluid comes closest to heads' own labels:
# benchmarks/RESULTS.md.
WHITE_OR_MIXED = (
    *("brainstem", "cerebellum_white_matter", "optic_chiasm", "ventral_diencephalon"),
    *("thalamus", "caudate", "putamen", "pallidum", "accumbens_area"),
)
# Rows of a PET in which all voxels count alike; in all others they count by their grey matter.
PLAIN_SUVR = (*tissue.WHITE_REGIONS, *tissue.CSF_REGIONS, "optic_chiasm", PONS_REGION)


@dataclass(frozen=True)
class GreyUptake:
    """By what the voxels of a PET count in regions of grey matter; maps of (91, 109, 91).

    share: of grey matter in a voxel; suvr: where a correction for partial volume gave grey matter one of its own;
    segmented: by region, the probability of structures that were segmented on the T1, both sides, which take the place
    of the atlas masks.
    """

    share: np.ndarray
    suvr: np.ndarray | None = None
    segmented: Mapping[str, np.ndarray] = field(default_factory=dict)


def measure_regions(
    jacobian: np.ndarray,
    tissues: Mapping[str, np.ndarray] | None = None,
    suvr: np.ndarray | None = None,
    covered: np.ndarray | None = None,
    segmented_ml: Mapping[tuple[str, str], float] | None = None,
    gray: GreyUptake | None = None,
) -> pd.DataFrame:
    """One row per CerebrA region and side, plus `meta_roi_proxy` and `pons` (side "both").

    volume_ml by `method`: as segmented on the T1 where `segmented_ml` (by region and side) has it; else the sum over
    the atlas mask of the Jacobian, where `tissues` ("gm", "csf": fractions) has these times grey matter in cortex,
    fluid in ventricles and what is not fluid elsewhere. suvr: the mean over the `covered` part of the mask, in grey
    regions as `gray` has it, NaN without PET or where less than half is covered. Maps: (91, 109, 91).
    Columns: region, side, volume_ml, suvr, method.
    """
    parts = _atlas()
    volumes = [_volumes(jacobian, tissues or {}, part) for part in parts]
    methods = [method for found in volumes for _, method in found]
    table = pd.DataFrame(
        {
            "region": [region for part in parts for region in part.regions],
            "side": [side for part in parts for side in part.sides],
            "volume_ml": [ml for found in volumes for ml, _ in found],
            "suvr": np.concatenate([_mean_suvr(suvr, covered, gray, part) for part in parts]),
            "method": methods,
        }
    )
    segmented = [(segmented_ml or {}).get(key) for key in zip(table.region, table.side, strict=True)]
    there = np.array([value is not None for value in segmented])
    table["volume_ml"] = np.where(there, np.array(segmented, float), table.volume_ml)
    table["method"] = np.where(there, SEGMENTATION, methods)
    return table


@dataclass(frozen=True)
class Labeled:
    """Voxels that have a label: their places in a flattened grid, and the labels; and what the labels stand for, a row
    each: number, region, side, and how its volume is found where there are tissues."""

    places: np.ndarray
    labels: np.ndarray
    numbers: np.ndarray
    regions: list[str]
    sides: list[str]

    @classmethod
    def of(cls, atlas: np.ndarray, table: pd.DataFrame) -> Labeled:
        """atlas: numbers or a mask on the template grid; table: `label region side`."""
        places = np.flatnonzero(atlas)  # a third of the grid, or a few voxels
        labels = atlas.ravel()[places].astype(np.intp)
        return cls(places, labels, table.label.to_numpy(), table.region.tolist(), table.side.tolist())

    def take(self, values: np.ndarray) -> np.ndarray:
        return values.ravel()[self.places]

    def sums(self, taken: np.ndarray | None = None) -> np.ndarray:
        """Sum over the voxels of each row; without values, how many there are."""
        return np.bincount(self.labels, weights=taken)[self.numbers]


@lru_cache
def _atlas() -> tuple[Labeled, ...]:
    """CerebrA, the meta-ROI and the pons."""
    extra = ((META_ROI_REGION, template.meta_roi_mask()), (PONS_REGION, template.pons_mask()))
    alone = [Labeled.of(mask, pd.DataFrame({"label": [1], "region": [name], "side": ["both"]})) for name, mask in extra]
    return Labeled.of(template.labels(), template.region_table()), *alone


def _volumes(jacobian: np.ndarray, tissues: Mapping[str, np.ndarray], part: Labeled) -> list[tuple[float, str]]:
    """Volume (mL) and method of each row of a part of the atlas."""
    jacobian = part.take(jacobian)
    volumes = {JACOBIAN: part.sums(jacobian)}
    volumes |= {TISSUE_METHODS[name]: part.sums(jacobian * part.take(v)) for name, v in tissues.items()}
    if "csf" in tissues:
        volumes[PARENCHYMA] = volumes[JACOBIAN] - volumes[TISSUE_METHODS["csf"]]
    methods = [method if (method := _method(region)) in volumes else JACOBIAN for region in part.regions]
    return [(float(volumes[method][row]) * template.VOXEL_ML, method) for row, method in enumerate(methods)]


def _method(region: str) -> str:
    if region in tissue.CSF_REGIONS:
        return TISSUE_METHODS["csf"]
    return PARENCHYMA if region in (*WHITE_OR_MIXED, PONS_REGION) else TISSUE_METHODS["gm"]


def _mean_suvr(
    suvr: np.ndarray | None, covered: np.ndarray | None, gray: GreyUptake | None, part: Labeled
) -> np.ndarray:
    """SUVR of each row of a part of the atlas."""
    if suvr is None:
        return np.full(len(part.numbers), np.nan)
    covered = np.ones(suvr.shape, bool) if covered is None else covered
    there = part.take(covered)
    size, inside, plain = (part.sums(values) for values in (None, there, part.take(suvr) * there))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = plain / inside
        if gray is not None:
            share = part.take(gray.share) * there
            own = suvr if gray.suvr is None else gray.suvr
            total, weight = (part.sums(values) for values in (share * part.take(own), share))
            mean = np.where(np.isin(part.regions, PLAIN_SUVR) | (weight <= 0), mean, total / weight)
            for row, (region, side) in enumerate(zip(part.regions, part.sides, strict=True)):
                if region in gray.segmented:
                    mean[row] = _weighted(own, gray.segmented[region] * covered, side, otherwise=mean[row])
        return np.where(inside >= 0.5 * size, mean, np.nan)


def sides_ml(share: np.ndarray, jacobian: np.ndarray) -> dict[str, float]:
    """mL of a structure left and right of the template's midline; share: of it in each voxel, (91, 109, 91)."""
    modulated = share * jacobian
    return {side: float(modulated[_half(side)].sum() * template.VOXEL_ML) for side in ("left", "right")}


def _half(side: str) -> slice:
    middle = template.GRID_SHAPE[0] // 2  # the first axis grows to the right
    return slice(None, middle) if side == "left" else slice(middle + 1, None)


def _weighted(values: np.ndarray, weights: np.ndarray, side: str, otherwise: float) -> float:
    """Mean of one side, or `otherwise` where there is nothing of it."""
    half = _half(side)
    total = float(weights[half].sum())
    return float((values * weights)[half].sum() / total) if total > 0 else otherwise
