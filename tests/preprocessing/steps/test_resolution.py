"""How finely a PET resolves: what series, scanner and filter say, what the image says, and the smoothing after it."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from preprocessing.steps import resolution, template, tissue
from preprocessing.steps.partial_volume import blur
from preprocessing.steps.resolution import Resolution

MMR = {"Manufacturer": "Siemens", "ManufacturersModelName": "Biograph_mMR"}


@pytest.mark.parametrize(
    ("series", "width"),
    [
        ("Coreg, Avg, Std Img and Vox Siz, Uniform Resolution", 8.0),
        ("Coreg_Avg_Std_Img_and_Vox_Siz_Uniform_6mm_Res", 6.0),
        ("sub-1_trc-18FFDG_rec-coregiso_pet", 8.0),
        ("uniform 6 mm", 6.0),
        ("Coreg, Avg, Standardized Image and Voxel Size", None),
        ("Co-registered, Averaged", None),
        ("", None),
    ],
)
def test_a_uniform_series_has_the_resolution_that_its_name_says(series, width):
    assert resolution.uniform_mm(series) == width
    found = resolution.stated(series, MMR)  # without a filter, the scanner alone says too little
    assert (found.widths_mm if found else None) == (width and (width,) * 3)


@pytest.mark.parametrize(
    ("manufacturer", "model", "name"),
    [
        ("CPS", "HR+", None),
        ("SIEMENS", "Biograph128_mCT", "Siemens Biograph mCT"),
        ("Siemens", "Biograph 64 TruePoint", "Siemens Biograph TruePoint"),
        ("SIEMENS", "1094", "Siemens Biograph TruePoint"),
        ("GE MEDICAL SYSTEMS", "Discovery STE", "GE Discovery ST Elite"),
        ("GE MEDICAL SYSTEMS", "SIGNA PET/MR", "GE Signa PET/MR"),
        ("Philips Medical Systems", "GEMINI TF TOF 16", None),
        ("GE MEDICAL SYSTEMS", "Discovery ST", None),
        ("Siemens", "Biograph HiRez and mCT", None),
        ("", "", None),
    ],
)
def test_a_scanner_is_known_by_its_model_and_never_guessed(manufacturer, model, name):
    found = resolution.find_scanner(manufacturer, model)
    assert (found.name if found else None) == name


@pytest.mark.parametrize("scanner", resolution.SCANNERS, ids=lambda scanner: scanner.name)
def test_every_scanner_is_found_by_the_name_that_sidecars_get(scanner):
    assert resolution.find_scanner("", scanner.name) == scanner


@pytest.mark.parametrize(
    ("about", "width"),
    [
        ({"ReconFilterType": "Gaussian", "ReconFilterSize": 5}, 5.0),
        ({"ReconFilterType": ["Gaussian"], "ReconFilterSize": [4.0]}, 4.0),
        ({"ConvolutionKernel": "XYZ Gauss5.00"}, 5.0),
        ({"ReconFilterType": "none"}, 0.0),
        ({"ReconFilterType": "Shepp", "ReconFilterSize": 0.5}, None),
        ({"ReconFilterType": "Gaussian", "ReconFilterSize": "n/a"}, None),
        ({"ReconFilterType": "Gaussian", "ReconFilterSize": 5000}, None),
        ({"ReconFilterType": None}, None),
        ({}, None),
    ],
)
def test_the_filter_is_read_where_it_is_a_gaussian_of_a_known_width(about, width):
    assert resolution.filter_mm(about) == width


def test_scanner_and_filter_add_up_as_widths_of_gaussians():
    found = resolution.stated("", MMR | {"ReconFilterType": "gaussian", "ReconFilterSize": 4})
    assert found.widths_mm == pytest.approx((np.hypot(4.3, 4),) * 3, abs=0.01)
    assert found.source.startswith("Siemens Biograph mMR (Hsu") and found.source.endswith("filter of 4 mm")


def test_a_scanner_measured_as_it_reconstructs_needs_no_filter_but_counts_one_that_is_stated():
    hirez = {"ManufacturersModelName": "Biograph HiRez"}
    assert resolution.stated("", hirez).widths_mm == (7.0, 7.0, 7.0)
    filtered = hirez | {"ReconFilterType": "gaussian", "ReconFilterSize": 5.5}
    assert resolution.stated("", filtered).in_plane_mm == pytest.approx(9, abs=0.2)  # as measured with that filter


def test_the_protocol_of_an_archive_names_the_scanner_where_the_sidecar_does_not():
    protocol = "Manufacturer=GE MEDICAL SYSTEMS;Mfg Model=Discovery 690;Radioisotope=18F"
    assert resolution.stated("Co-registered, Averaged", {}, protocol).in_plane_mm == 5.3
    assert resolution.stated("", {}, "Frames=6.0") is None


def test_a_sidecar_gets_no_word_that_is_not_known_here():
    about = MMR | {"ConvolutionKernel": "XYZ Gauss2.00", "StationName": "room of Dr. X"}
    expected = {"ManufacturersModelName": "Siemens Biograph mMR", "ReconFilterType": "gaussian", "ReconFilterSize": 2.0}
    assert resolution.describe_scanner(about) == expected
    assert resolution.describe_scanner({"ManufacturersModelName": "Dr. X's own", "ReconFilterType": "secret"}) == {}
    assert resolution.describe_scanner(expected) == expected


def test_smoothing_takes_a_point_to_the_common_width_along_each_axis():
    """A blob of 4 mm in the plane and 6 mm along the axis, on voxels of 1 x 2 x 1.5 mm, becomes one of 8 mm."""
    spacing, own = np.array([1.0, 2.0, 1.5]), Resolution(4.0, 6.0, "")
    axes = np.meshgrid(*(np.arange(-30, 30.1, step) for step in spacing), indexing="ij")
    sigmas = np.array(own.widths_mm) / resolution.FWHM_PER_SIGMA
    blob = np.exp(-0.5 * sum((axis / sigma) ** 2 for axis, sigma in zip(axes, sigmas, strict=True)))
    image = nib.Nifti1Image(blob.astype(np.float32), np.diag([*spacing, 1]))
    smoothed = resolution.smooth(image, resolution.kernel_mm(own, 8.0)).get_fdata()
    for axis in axes:
        width = resolution.FWHM_PER_SIGMA * np.sqrt((smoothed * axis**2).sum() / smoothed.sum())
        assert width == pytest.approx(8.0, abs=0.1)
    assert smoothed.sum() == pytest.approx(blob.sum(), rel=1e-3)


def test_a_pet_that_is_as_coarse_already_or_is_to_stay_native_is_left_alone():
    assert resolution.kernel_mm(Resolution(8, 8, ""), 8.0) == (0, 0, 0)
    assert resolution.kernel_mm(Resolution(9, 4, ""), 8.0) == pytest.approx((0, 0, np.sqrt(48)))
    assert resolution.kernel_mm(Resolution(3, 3, ""), 0.0) == (0, 0, 0)


@pytest.fixture(scope="module")
def tissues() -> np.ndarray:
    """The template's own tissues, one in each voxel."""
    priors = tissue.tissue_priors() * template.brain_mask()
    return (priors == priors.max(0)) * template.brain_mask().astype(np.float32)


@pytest.mark.parametrize("width", [5.0, 6.5, 8.0])
def test_the_image_tells_its_resolution_through_noise_and_uneven_uptake(width, tissues):
    rng = np.random.default_rng(0)
    front = np.linspace(0.9, 1.2, template.GRID_SHAPE[1], dtype=np.float32)[None, :, None]
    sharp = 0.1 * tissues[0] + front * tissues[1] + 0.4 * tissues[2]
    noise = blur(rng.standard_normal(sharp.shape), (6.0,) * 3)
    pet = 5000 * blur(sharp, (width,) * 3) * (1 + 0.04 * noise / noise.std())
    # The grid has not been interpolated here, which the estimate takes into account.
    interpolation = resolution.FWHM_PER_SIGMA * template.SPACING_MM / np.sqrt(6)
    found = resolution.estimate(pet, tissues, 1.0)
    assert found.in_plane_mm == pytest.approx(np.sqrt(width**2 - interpolation**2), abs=0.6)
    assert found.source.startswith("estimated")
    larger = resolution.estimate(pet, tissues, 1.1)
    assert larger.in_plane_mm == pytest.approx(1.1 * found.in_plane_mm, rel=0.05)  # a head 10 % larger


@pytest.mark.parametrize("pet", [np.zeros(template.GRID_SHAPE), np.full(template.GRID_SHAPE, 7.0)])
def test_an_image_that_says_nothing_of_its_resolution_gets_the_assumed_one(pet, tissues):
    found = resolution.estimate(pet, np.zeros_like(tissues), 1.0)
    assert found.widths_mm == (resolution.ASSUMED_MM,) * 3
    assert found.source.startswith("assumed")
