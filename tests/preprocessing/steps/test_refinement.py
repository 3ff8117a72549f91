"""Tissues divided anew by brightness, on a drawn head whose furrows the prior does not see."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from preprocessing.networks.labels import HEAD_CLASSES
from preprocessing.steps import refinement
from preprocessing.steps.head import VOXEL_MM, Head

SIGNALS = {"outer_csf": 60.0, "cortex": 200.0, "white_matter": 300.0}
BOX = (40, 40, 40)
ML = VOXEL_MM**3 / 1000


def drawn(furrows: int) -> tuple[dict[str, np.ndarray], nib.Nifti1Image, Head]:
    """Shares of SIGNALS on the box's pieces of 1 mm, the T1 there, and a head that knows the layers without furrows.

    A ball of white matter in a shell of cortex in a shell of fluid; `furrows` planes of fluid, 1 mm wide, cut the
    cortex.
    """
    shape = tuple(2 * size for size in BOX)
    affine = np.diag([1.0, 1, 1, 1])
    x, y, z = (index - (size - 1) / 2 for index, size in zip(np.ogrid[tuple(map(slice, shape))], shape, strict=True))
    away = np.sqrt(x**2 + y**2 + z**2)
    layers = {"white_matter": away < 24, "cortex": (away >= 24) & (away < 32), "outer_csf": (away >= 32) & (away < 36)}
    cut = np.zeros(shape, bool)
    for angle in np.linspace(0, np.pi, furrows, endpoint=False):
        cut |= abs(x * np.cos(angle) + y * np.sin(angle)) < 0.5
    true = dict(layers, cortex=layers["cortex"] & ~cut, outer_csf=layers["outer_csf"] | (layers["cortex"] & cut))
    signal = sum(SIGNALS[name] * share.astype(np.float32) for name, share in true.items())
    signal += 10 * np.random.default_rng(0).standard_normal(shape, np.float32) * (away < 36)
    halves = {name: _halved(share.astype(np.float32)) for name, share in layers.items()}
    inside = sum(halves.values())
    # A network that is unsure: everywhere a tenth of each of the three.
    probability = {name: np.zeros(BOX, np.float32) for name in HEAD_CLASSES}
    probability |= {name: 0.7 * share + 0.1 * inside for name, share in halves.items()}
    probability["background"] = 1 - inside
    box_affine = affine @ np.diag([2.0, 2, 2, 1])
    box_affine[:3, 3] = 0.5
    volumes = {name: float(values.sum() * ML) for name, values in probability.items()}
    return true, nib.Nifti1Image(signal, affine), Head(probability, box_affine, volumes)


def _halved(values: np.ndarray) -> np.ndarray:
    i, j, k = BOX
    return values.reshape(i, 2, j, 2, k, 2).mean((1, 3, 5))


def shaded(t1: nib.Nifti1Image) -> nib.Nifti1Image:
    """The T1 a fifth brighter at one end of the head and darker at the other."""
    ramp = np.linspace(-1.4, 1.4, t1.shape[1], dtype=np.float32)[:, np.newaxis]
    return nib.Nifti1Image(np.asarray(t1.dataobj) * np.exp(0.2 * ramp), t1.affine)


@pytest.mark.parametrize("shading", [False, True])
def test_volumes_are_those_of_the_image_where_the_network_saw_no_furrow(shading):
    for furrows in (0, 12):
        true, t1, head = drawn(furrows)
        found = refinement.refine(head, shaded(t1) if shading else t1)
        for name, share in true.items():
            assert found.volumes_ml[name] == pytest.approx(share.sum() / 1000, rel=0.05), (furrows, name)
            assert found.volumes_ml[name] == pytest.approx(found.probability[name].sum() * ML, rel=1e-3)
    # Beside it what the network said, which had no idea of the furrows.
    assert abs(head.volumes_ml["cortex"] / (true["cortex"].sum() / 1000) - 1) > 0.1


def test_what_lies_inside_the_skull_and_all_other_classes_stay():
    _, t1, head = drawn(12)
    probability = dict(head.probability, lateral_ventricle=0.3 * head.probability["white_matter"])
    probability["white_matter"] = 0.7 * head.probability["white_matter"]
    head = replace(head, probability=probability)
    found = refinement.refine(head, t1)
    for name in set(HEAD_CLASSES) - set(refinement.CLASSES):
        np.testing.assert_array_equal(found.probability[name], head.probability[name])
    together = [sum(one.probability[name] for name in refinement.CLASSES) for one in (head, found)]
    np.testing.assert_allclose(*together, atol=1e-5)
    assert all((values >= 0).all() and (values <= 1).all() for values in found.probability.values())


@pytest.mark.parametrize("reversed_contrast", [True, False])
def test_without_the_contrast_of_a_t1_the_head_stays_as_it_came(reversed_contrast):
    _, t1, head = drawn(0)
    values = np.asarray(t1.dataobj)
    other = 400 - values if reversed_contrast else np.random.default_rng(1).standard_normal(values.shape, np.float32)
    assert refinement.refine(head, nib.Nifti1Image(other.astype(np.float32), t1.affine)) is head


def test_a_scan_of_other_voxels_gives_the_same_volumes():
    true, t1, head = drawn(0)
    values = np.asarray(t1.dataobj)
    coarse = nib.Nifti1Image(
        values.reshape(len(values), values.shape[1], -1, 2).mean(3), t1.affine @ np.diag([1, 1, 2, 1])
    )
    coarse.affine[2, 3] = 0.5
    found = refinement.refine(head, coarse)
    for name, share in true.items():
        assert found.volumes_ml[name] == pytest.approx(share.sum() / 1000, rel=0.1), name
