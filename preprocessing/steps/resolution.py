"""How finely a PET resolves, and the smoothing that brings all PETs to one resolution.

ADNI smooths its uniform series to 8 mm (some to 6 mm), because scanners of many models took them (Joshi et al.,
NeuroImage 2009). A scan that nobody smoothed resolves as its scanner and its reconstruction filter do; where these are
not known, the width of the blur is found by comparing the PET with the tissue of the person's own T1. Widths are full
widths at half maximum (FWHM) in mm.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from scipy import ndimage

from preprocessing.choices import PET_RESOLUTION_MM
from preprocessing.steps import template

FWHM_PER_SIGMA = float(np.sqrt(8 * np.log(2)))
COMMON_MM = PET_RESOLUTION_MM
ASSUMED_MM = 6.0  # where even the image does not say: between a scanner of today and one of 2005
PLAUSIBLE_MM = (2.0, 12.0)
# Widths that are tried where the image is asked; the best one lies on a parabola through the three best of these.
TRIED_MM = (3.0, 5.0, 7.0, 9.0, 11.0)


@dataclass(frozen=True)
class Resolution:
    """FWHM in mm across the scanner's axis and along it, and where it is known from."""

    in_plane_mm: float
    axial_mm: float
    source: str

    @property
    def widths_mm(self) -> tuple[float, float, float]:
        """By the axes of a PET in RAS+."""
        return self.in_plane_mm, self.in_plane_mm, self.axial_mm


@dataclass(frozen=True)
class Scanner:
    """A model, and the words for it. `reconstructed`: measured in a brain phantom as it is reconstructed for FDG, so
    that a filter counts only where one is stated; else that of a point source, which says too little without it."""

    name: str
    words: str
    in_plane_mm: float
    axial_mm: float
    source: str
    reconstructed: bool = False


MODEL = ("Manufacturer", "ManufacturersModelName")
IKARI = "Ikari et al., EJNMMI Physics 2016"
HSU = "Hsu et al., Journal of Nuclear Medicine 2017, table of scanners"  # filtered backprojection, 1 cm from the middle
SCANNERS = (
    Scanner("Siemens Biograph mCT", r"\bmct\b", 4.3, 4.3, HSU),
    Scanner("Siemens Biograph mMR", r"\bmmr\b", 4.3, 4.3, HSU),
    Scanner("Siemens Biograph TruePoint", r"true ?point|\b109[34]\b", 6.0, 6.0, IKARI, reconstructed=True),
    Scanner("Siemens Biograph HiRez", r"hi-?rez|\b1080\b", 7.0, 7.0, IKARI, reconstructed=True),
    Scanner("Siemens ECAT Accel", r"\baccel\b", 7.0, 7.0, IKARI, reconstructed=True),
    Scanner("GE Advance", r"\bge\b.*\badvance\b|^advance$", 7.0, 7.0, IKARI, reconstructed=True),
    Scanner("GE Discovery ST Elite", r"discovery ?ste\b|discovery st ?elite", 5.5, 5.5, IKARI, reconstructed=True),
    Scanner("GE Discovery 600", r"discovery ?600", 5.3, 5.3, IKARI, reconstructed=True),
    Scanner("GE Discovery 690", r"discovery ?(690|710)", 5.3, 5.3, IKARI, reconstructed=True),
    Scanner("GE Discovery MI", r"discovery ?mi\b", 4.1, 4.5, HSU),
    Scanner("GE Signa PET/MR", r"signa pet", 4.3, 5.4, HSU),
)


def uniform_mm(series: str) -> float | None:
    """The resolution to which a series was smoothed, by its description; None where it was not.

    ADNI's series say "Uniform"; Clinica names them rec-coregiso.

    >>> uniform_mm("Coreg, Avg, Std Img and Vox Siz, Uniform Resolution"), uniform_mm("Uniform 6mm Res")
    (8.0, 6.0)
    """
    words = series.lower()
    if not re.search("uniform|coregiso", words):
        return None
    stated = re.search(r"uniform[\W_]*(\d+(?:\.\d+)?)[\W_]*mm", words)
    return float(stated[1]) if stated else COMMON_MM


def find_scanner(*texts: object) -> Scanner | None:
    """The model that free text names ("Siemens", "Biograph128_mCT"), if it is known and the only one."""
    words = re.sub(r"[_,;=/\s]+", " ", " ".join(map(str, texts)).lower()).strip()
    found = [scanner for scanner in SCANNERS if re.search(scanner.words, words)]
    return found[0] if len(found) == 1 else None


def filter_mm(about: Mapping[str, object]) -> float | None:
    """FWHM of the Gaussian after reconstruction: BIDS's ReconFilterType and ReconFilterSize, or DICOM's convolution
    kernel ("XYZ Gauss5.00"); 0 where there was none, None where nobody says, or it was no Gaussian."""
    kind = str(about.get("ReconFilterType") or about.get("ConvolutionKernel") or "").lower()
    if re.fullmatch(r"\W*(none|no filter|all-?pass)\W*", kind):
        return 0.0
    if "gauss" not in kind:
        return None
    sizes = re.findall(r"\d+(?:\.\d+)?", str(about.get("ReconFilterSize", "")) or kind)
    width = max((float(size) for size in sizes), default=-1.0)
    return width if 0 <= width <= PLAUSIBLE_MM[1] else None


def describe_scanner(about: Mapping[str, object]) -> dict[str, object]:
    """What a sidecar may say of scanner and filter without any free text: a model of SCANNERS and a width."""
    scanner, width = find_scanner(*(about.get(name, "") for name in MODEL)), filter_mm(about)
    words: dict[str, object] = {"ManufacturersModelName": scanner.name} if scanner else {}
    if width is not None:
        words |= {"ReconFilterType": "gaussian" if width else "none", "ReconFilterSize": width}
    return words


def stated(series: str, about: Mapping[str, object], protocol: str = "") -> Resolution | None:
    """What a series' description, its sidecar (`about`) and the archive's protocol text say; None where it is not
    enough: a scanner that is not known, or the resolution of its point source without a word about the filter."""
    width = uniform_mm(series)
    if width is not None:
        return Resolution(width, width, f"series of a uniform resolution of {width:g} mm")
    scanner = find_scanner(*(about.get(name, "") for name in MODEL)) or find_scanner(protocol)
    blur_mm = filter_mm(about)
    if scanner is None or (blur_mm is None and not scanner.reconstructed):
        return None
    widths = [round(float(np.hypot(w, blur_mm or 0)), 2) for w in (scanner.in_plane_mm, scanner.axial_mm)]
    filtered = f", filter of {blur_mm:g} mm" if blur_mm else ""
    return Resolution(widths[0], widths[1], f"{scanner.name} ({scanner.source}){filtered}")


def estimate(activity: np.ndarray, tissues: np.ndarray, scale: float) -> Resolution:
    """The blur that makes the person's tissue look most like the PET, by least squares over the cortex.

    activity: the PET on the template grid; tissues: (3, 91, 109, 91), fractions of CSF, grey and white matter there;
    scale: mm of the person per mm of the template. Grey matter's uptake may change smoothly over the brain; what lies
    below the cortex has an uptake of its own and is left out. On drawn heads (`benchmarks.heads`) 6 mm are found as 6.6
    (SD .3) and 8 mm as 8.9 (SD .4): what alignment and segmentation miss looks like blur. Never fails: a width that is
    not plausible is replaced by ASSUMED_MM, and the source says so.
    """
    box = tuple(slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(template.brain_mask()))
    cortex = ndimage.binary_erosion(template.brain_mask(), iterations=2) & ~_deep()
    seen = activity[box][cortex[box]].astype(np.float64)
    errors = [_misfit(seen, tissues[(slice(None), *box)], cortex[box], width / scale) for width in TRIED_MM]
    best = int(np.clip(np.argmin(errors), 1, len(errors) - 2))
    before, here, after = errors[best - 1 : best + 2]
    bend = before - 2 * here + after
    width = TRIED_MM[best] + (TRIED_MM[1] - TRIED_MM[0]) * 0.5 * (before - after) / bend if bend > 0 else np.nan
    # The grid's linear interpolation blurs by itself: a triangle as wide as two voxels, whose variance is 1/6 of one.
    interpolation_mm = FWHM_PER_SIGMA * template.SPACING_MM * scale / np.sqrt(6)
    width = float(np.sqrt(max(width**2 - interpolation_mm**2, 0)))
    if not PLAUSIBLE_MM[0] <= width <= PLAUSIBLE_MM[1]:
        return Resolution(ASSUMED_MM, ASSUMED_MM, "assumed: neither the series nor the scanner nor the image says")
    return Resolution(round(width, 2), round(width, 2), "estimated from the image and the T1's tissue")


def _misfit(seen: np.ndarray, tissues: np.ndarray, where: np.ndarray, fwhm_mm: float) -> float:
    """Mean squared residual of the PET on tissues blurred by `fwhm_mm` (of the template)."""
    sigma = fwhm_mm / FWHM_PER_SIGMA / template.SPACING_MM
    fluid, gray, white = (ndimage.gaussian_filter(values, sigma)[where].astype(np.float64) for values in tissues)
    x, y, z = (2 * axis / size - 1 for axis, size in zip(np.nonzero(where), where.shape, strict=True))
    columns = [gray * term for term in (np.ones_like(x), x, y, z, x * x, y * y, z * z, y * z)]
    design = np.column_stack([*columns, white, fluid])
    coefficients = np.linalg.lstsq(design.T @ design, design.T @ seen, rcond=None)[0]
    return float(np.mean((seen - design @ coefficients) ** 2))


def _deep() -> np.ndarray:
    below = ("thalamus", "caudate", "putamen", "pallidum", "ventral_diencephalon", "hippocampus", "amygdala")
    cerebellum = ("cerebellum_gray_matter", "cerebellum_white_matter", "brainstem")
    vermis = ("vermal_lobules_i_v", "vermal_lobules_vi_vii", "vermal_lobules_viii_x")
    return template.region_mask(*below, *cerebellum, *vermis)


def kernel_mm(own: Resolution, target_mm: float) -> tuple[float, float, float]:
    """FWHM by axis of the Gaussian that takes a PET to `target_mm`; 0 where it is as coarse already.

    >>> [round(width, 1) for width in kernel_mm(Resolution(6, 6, ""), 8)]
    [5.3, 5.3, 5.3]
    """
    return tuple(float(np.sqrt(max(target_mm**2 - width**2, 0))) for width in own.widths_mm)


def smooth(pet: nib.Nifti1Image, fwhm_mm: tuple[float, float, float]) -> nib.Nifti1Image:
    """A PET in RAS+, on its own grid, smoothed by a Gaussian with a width for each axis."""
    spacing = nib.affines.voxel_sizes(pet.affine)
    sigma = np.array(fwhm_mm) / FWHM_PER_SIGMA / spacing
    values = ndimage.gaussian_filter(pet.get_fdata(dtype=np.float32), sigma, mode="nearest")
    return nib.Nifti1Image(values, pet.affine)
