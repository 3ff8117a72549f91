"""Simulated brains show what their factors say."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from preprocessing.simulated import deformation, healthy, scanner, tissue_model
from preprocessing.simulated import people as model
from preprocessing.simulated.anatomy import TemplateAnatomy, sample
from preprocessing.simulated.brain import Brain
from preprocessing.simulated.label_maps import brain_of, draw_t1
from preprocessing.steps import template, tissue
from preprocessing.steps.interpolation import gaussian, stretched, trilinear


def test_healthy_uptake_shows_the_published_means_through_the_scanner(anatomy: TemplateAnatomy) -> None:
    seen = tissue_model.blur(anatomy.uptake)
    seen = seen / seen[template.pons_mask()].mean()
    sd = healthy.log_suvr_sd()
    near = []
    for label, region, side in template.region_table()[["label", "region", "side"]].itertuples(index=False):
        if (region, side) in sd:
            published = healthy.normal_suvr()[label]
            near.append(abs(seen[template.labels() == label].mean() / published - 1) < sd[region, side] / 2)
    assert np.mean(near) > 0.8


def test_a_segmentation_of_the_template_finds_its_own_tissues() -> None:
    found = tissue_model.segment(template.grid_image(template.t1()), blurred=False)
    for values, own in zip(found, (tissue.tissue_priors()[1], tissue.tissue_priors()[0]), strict=True):
        assert np.corrcoef(values[template.brain_mask()], own[template.brain_mask()])[0, 1] > 0.7


def test_regions_change_their_volume_as_asked(anatomy: TemplateAnatomy) -> None:
    wanted = dict.fromkeys(deformation.CONTROLLED, 0.0) | {("hippocampus", "left"): -0.25, ("precuneus", "right"): -0.1}
    velocity = anatomy.controls.velocity(wanted, np.zeros((3, *deformation.SHAPE), np.float32))
    jacobian = deformation.refine(deformation.determinant(deformation.exponential(velocity)))
    for (region, side), change in wanted.items():
        if region in ("hippocampus", "precuneus", "amygdala"):
            found = np.log(jacobian[template.region_mask(region, side=side)].mean())
            assert found == pytest.approx(change, abs=0.03), (region, side)


def test_a_skull_keeps_its_size_whatever_shrinks_in_it(anatomy: TemplateAnatomy, person: model.Person) -> None:
    """Else intracranial volume would tell who is ill, and head size, where taken out, would take the illness along."""
    healthy_one, ill = (replace(person, severity_mri=severity) for severity in (-1.0, 4.0))
    volumes = [Brain(p, anatomy).brain_ml for p in (healthy_one, ill)]
    grey = [Brain(p, anatomy).jacobian[template.labels() > 0].sum() for p in (healthy_one, ill)]
    assert grey[1] < 0.95 * grey[0] and volumes[1] == pytest.approx(volumes[0], rel=0.01)
    assert np.log(volumes[0] / Brain(replace(person, log_head_volume=0), anatomy).brain_ml) == pytest.approx(
        person.log_head_volume, abs=0.01
    )


def test_shape_varies_in_regions_that_keep_their_volume(anatomy: TemplateAnatomy, person: model.Person) -> None:
    background = deformation.random_velocity(person.rng(3))
    np.testing.assert_allclose(background.std((1, 2, 3)), np.hypot(2.2, 0.5), rtol=0.3)
    velocity = anatomy.controls.velocity(dict.fromkeys(deformation.CONTROLLED, 0.0), background)
    inside = anatomy.controls.weights @ deformation.divergence(velocity)[anatomy.controls.inside]
    assert np.abs(inside).max() < 0.01 and np.abs(velocity).max() > 4


def test_deformation_and_its_inverse_cancel_and_never_fold(person: model.Person) -> None:
    velocity = deformation.random_velocity(person.rng(3))
    there, back = deformation.exponential(velocity), deformation.exponential(-velocity)
    points = np.stack(np.meshgrid(*[np.arange(-50.0, 50, 10)] * 3, indexing="ij"))
    assert np.abs(deformation.displaced(deformation.displaced(points, there), back) - points).max() < 0.3
    assert np.abs(there).max() > 2
    assert deformation.determinant(there).min() > 0


def test_grids_of_4_and_2_mm_share_every_second_voxel() -> None:
    coarse = np.random.default_rng(0).standard_normal(deformation.SHAPE).astype(np.float32)
    fine = deformation.refine(coarse)
    assert fine.shape == template.GRID_SHAPE
    np.testing.assert_array_equal(fine[::2, ::2, ::2], coarse)
    np.testing.assert_allclose(fine[1, 0, 0], (coarse[0, 0, 0] + coarse[1, 0, 0]) / 2)
    smooth = ndimage.gaussian_filter(coarse, 2)
    assert np.abs(deformation.coarsen(deformation.refine(smooth)) - smooth)[2:-2, 2:-2, 2:-2].max() < 0.02


def test_fast_interpolation_is_that_of_scipy() -> None:
    rng = np.random.default_rng(1)
    maps = rng.standard_normal((2, 7, 8, 9)).astype(np.float32)
    where = rng.uniform(-1, 9, (3, 50)).astype(np.float32)
    expected = [ndimage.map_coordinates(values, where, order=1, mode="nearest") for values in maps]
    np.testing.assert_allclose(trilinear(maps, where), expected, atol=1e-4)


def test_positions_stretched_over_a_grid_are_those_of_its_voxels() -> None:
    """Positions that are linear in the voxels, given at every other voxel of a grid of 9 x 7 x 5."""
    maps = np.random.default_rng(2).standard_normal((1, 7, 8, 9)).astype(np.float32)
    where = 0.7 * np.indices((9, 7, 5), dtype=np.float32) + 0.2
    few = where[:, ::2, ::2, ::2]
    np.testing.assert_allclose(trilinear(maps, few, shape=(9, 7, 5)), trilinear(maps, where), atol=1e-5)


def test_fast_filters_and_stretching_are_those_of_scipy() -> None:
    values = np.random.default_rng(3).standard_normal((2, 12, 9, 10)).astype(np.float32)
    for sigma in (1.7, np.array([0.5, 2.0, 1.0])):
        expected = [ndimage.gaussian_filter(part, sigma) for part in values]
        np.testing.assert_allclose(gaussian(values, sigma), expected, atol=1e-5)
        np.testing.assert_allclose(gaussian(values[0], sigma), expected[0], atol=1e-5)
    expected = ndimage.zoom(values[0], (2, 3, 1.5), order=1, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(stretched(values[0], (24, 27, 15)), expected, atol=1e-5)


def test_exponential_is_the_flow_along_the_velocity(person: model.Person) -> None:
    """Against a hundred small steps."""
    velocity = deformation.random_velocity(person.rng(3))
    slow = np.zeros_like(velocity)
    for _ in range(100):
        slow = slow + deformation.sampled(velocity, slow) / 100
    inner = (slice(None), *3 * [slice(6, -6)])
    assert np.abs(deformation.exponential(velocity) - slow)[inner].max() < 0.15
    assert np.sqrt(((deformation.exponential(velocity) - slow)[inner] ** 2).mean()) < 0.02


def test_true_volume_is_that_of_the_label_carried_into_the_head(anatomy: TemplateAnatomy, person: model.Person) -> None:
    """Counted on a grid over the person's head, against what the Jacobian says."""
    brain, step = Brain(person, anatomy), 1.5
    corner, far = np.array([-50.0, -60.0, -50.0]), np.array([0.0, 20.0, 20.0])
    axes = [np.arange(low, high, step) for low, high in zip(corner, far, strict=True)]
    points, _ = brain.from_person(np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32))
    labels, affine = template.labels_1mm(), template.labels_1mm().affine
    for region in ("hippocampus", "amygdala"):
        table = template.region_table()
        number = table[(table.region == region) & (table.side == "left")].label.iloc[0]
        mask = (np.asarray(labels.dataobj) == number).astype(np.float32)
        counted = sample(mask, affine, points).sum() * step**3 / 1000
        assert brain.label_volumes[region, "left"] == pytest.approx(counted, rel=0.05)


def test_brain_maps_points_there_and_back(anatomy: TemplateAnatomy, person: model.Person) -> None:
    brain = Brain(person, anatomy)
    points = np.stack(np.meshgrid(*[np.arange(-40.0, 40, 20)] * 3, indexing="ij"))
    returned, _ = brain.from_person(brain.to_person(points))
    assert np.abs(returned - points).max() < 0.5


def test_brain_volume_is_the_integral_of_the_jacobian(anatomy: TemplateAnatomy, person: model.Person) -> None:
    """A cube of template mapped point by point encloses the volume that the Jacobian says."""
    brain = Brain(person, anatomy)
    center, edge = np.array([-18.0, -38.0, 2.0]), 4.0
    ends = [brain.to_person(center[:, None] + sign * edge / 2 * np.eye(3)) for sign in (1, -1)]
    enclosed = abs(np.linalg.det(ends[0] - ends[1]))
    index = np.rint((center - template.GRID_AFFINE[:3, 3]) / template.SPACING_MM).astype(int)
    assert enclosed / edge**3 == pytest.approx(brain.jacobian[tuple(index)], rel=0.04)


def test_hypometabolism_shows_in_the_meta_roi_and_spares_the_pons(
    anatomy: TemplateAnatomy, person: model.Person
) -> None:
    def brain(severity: float) -> Brain:
        changed = {**person.__dict__, "severity_pet": severity}
        return Brain(model.Person(**changed), anatomy)

    healthy, ill = brain(0.0), brain(3.0)
    ratio = ill.suvr / np.maximum(healthy.suvr, 0.1)
    assert ratio[template.meta_roi_mask()].mean() < 0.9
    assert ratio[template.pons_mask()].mean() == pytest.approx(1.0, abs=1e-3)
    # Sensorimotor cortex suffers least in every subtype.
    assert ratio[template.region_mask("postcentral")].mean() > ratio[template.meta_roi_mask()].mean() + 0.03


def test_stored_orientation_is_undone_by_the_header() -> None:
    values = np.zeros((4, 5, 6))
    values[3, 0, 1] = 7
    image = scanner._stored(values, np.diag([2.0, 3.0, 4.0, 1.0]), "PIL")
    assert nib.aff2axcodes(image.affine) == ("P", "I", "L")
    back = nib.as_closest_canonical(image)
    np.testing.assert_array_equal(back.get_fdata(), values)
    np.testing.assert_allclose(back.affine, np.diag([2.0, 3.0, 4.0, 1.0]))


def test_label_map_becomes_a_t1_with_white_brighter_than_grey_brighter_than_fluid() -> None:
    numbers = np.zeros((30, 30, 30), np.int16)
    numbers[5:25, 5:25, 5:25] = 3
    numbers[8:22, 8:22, 8:22] = 2
    numbers[13:17, 13:17, 13:17] = 4
    labels = nib.Nifti1Image(numbers, np.eye(4))
    t1 = draw_t1(labels, seed=0)
    assert t1[10, 10, 10] > t1[6, 15, 15] > t1[15, 15, 15] > 0
    brain = brain_of(labels)
    assert brain[15, 15, 15] and not brain[2, 2, 2]
