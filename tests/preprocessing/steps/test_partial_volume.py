"""The correction of Müller-Gärtner on a phantom whose uptake is known."""

from __future__ import annotations

import numpy as np
import pytest

from preprocessing.steps import partial_volume, template, tissue
from preprocessing.steps.orient import ScanError
from preprocessing.subject.plan import Recipe

GREY, WHITE, WIDTHS = 1.6, 0.6, (8.0, 8.0, 6.0)


@pytest.fixture(scope="module")
def tissues() -> np.ndarray:
    """The template's own tissues, one in each voxel: (3, 91, 109, 91)."""
    priors = tissue.tissue_priors() * template.brain_mask()
    return (priors == priors.max(0)) * template.brain_mask().astype(np.float32)


def seen(tissues: np.ndarray) -> np.ndarray:
    return partial_volume.blur(GREY * tissues[1] + WHITE * tissues[2], WIDTHS)


def test_the_uptake_of_grey_matter_is_found_behind_the_blur(tissues):
    _, gray, white = tissues
    pet = seen(tissues)
    corrected = partial_volume.correct(pet, gray, white, WIDTHS)
    assert pet[gray > 0].mean() < 0.85 * GREY
    assert corrected[gray > 0].mean() == pytest.approx(GREY, rel=0.01)
    # Where little grey matter lies within the blur, the correction stays behind rather than divide by it.
    assert np.quantile(corrected[gray > 0], [0.05, 0.95]) == pytest.approx(GREY, rel=0.05)
    assert not corrected[gray == 0].any()


def test_a_lesion_of_grey_matter_keeps_its_share_of_uptake(tissues):
    """A fifth less in the left precuneus: half of it is seen, two thirds are after the correction."""
    _, gray, white = tissues
    lesion = template.region_mask("precuneus", side="left")
    pet = seen(tissues) - partial_volume.blur(0.2 * GREY * gray * lesion, WIDTHS)
    here = lesion & (gray > 0)
    missing = 0.2 * GREY
    assert seen(tissues)[here].mean() - pet[here].mean() < 0.58 * missing
    assert GREY - partial_volume.correct(pet, gray, white, WIDTHS)[here].mean() > 0.65 * missing


def test_without_pure_white_matter_there_is_no_correction(tissues):
    with pytest.raises(ScanError, match="0 voxels hold more than 95%") as caught:
        partial_volume.correct(seen(tissues), tissues[1], 0.5 * tissues[2], WIDTHS)
    assert caught.value.reason_code == "white_matter"


def test_a_recipe_names_its_correction_and_its_resolution():
    assert Recipe().hash != Recipe(partial_volume="muller-gartner").hash != Recipe(pet_resolution_mm=0.0).hash
    with pytest.raises(ValueError, match="partial_volume is 'gtm'; known: none, muller-gartner"):
        Recipe(partial_volume="gtm")
    with pytest.raises(ValueError, match="pet_resolution_mm is -1; mm from 0"):
        Recipe(pet_resolution_mm=-1)
