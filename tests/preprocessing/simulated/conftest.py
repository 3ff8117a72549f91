"""A small cohort, written once, and one of its heads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from preprocessing.simulated import people as model
from preprocessing.simulated import tissue_model
from preprocessing.simulated.anatomy import TemplateAnatomy
from preprocessing.simulated.cohort import write_cohort
from preprocessing.simulated.people import CohortDesign
from tests.conftest import MadeOnce


@pytest.fixture(scope="session")
def design() -> CohortDesign:
    """Five people, prepared, one of them without a PET; two visits each."""
    sizes = {"converters": 1, "stable": 1, "censored": 1, "reverting": 0, "normal": 1, "dementia": 1}
    return CohortDesign(**sizes, raw=0, truncated=0, missing_pet=0.2, site_effect=1.0, visits=2)


@pytest.fixture(scope="session")
def written(design: CohortDesign, made_once: MadeOnce) -> Path:
    with quick_segmentation():
        return made_once("written", partial(write_cohort, design=design, jobs=0, progress=False))


@contextmanager
def quick_segmentation() -> Iterator[None]:
    """What a segmentation finds on the template is its own tissues, which takes no time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tissue_model, "segment_template", own_tissues)
        yield


def own_tissues(blurred: bool) -> np.ndarray:
    shares = [tissue_model.tissues_1mm()[name] for name in ("grey", "fluid")]
    return np.stack([ndimage.uniform_filter(share, 3) if blurred else share for share in shares])


@pytest.fixture(scope="session")
def anatomy(written: Path) -> TemplateAnatomy:
    return TemplateAnatomy(written / "truth" / "anatomies" / "template.npz")


@pytest.fixture(scope="session")
def person() -> model.Person:
    return model.draw_people(CohortDesign())[0]
