"""A prepared folder as a BIDS derivative, with and without the tools that judge such folders."""

from __future__ import annotations

import json
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import ants
import nibabel as nib
import numpy as np
import pytest

from preprocessing.cohort.run import preprocess_cohort
from preprocessing.simulated.cohort import write_cohort
from preprocessing.simulated.people import CohortDesign
from preprocessing.steps.warp_field import read_field, write_field
from preprocessing.subject import derivative, t1
from preprocessing.subject.stamps import ALIGNMENT, STRUCTURE, Stamps
from tests.preprocessing.simulated.conftest import quick_segmentation

SCANNED = "ADNI000S0000"
TEMPLATE = "MNI152NLin2009cSym"
TWO_PEOPLE = CohortDesign(
    converters=1, stable=1, censored=0, reverting=0, normal=0, dementia=0, raw=0, truncated=0, missing_pet=0
)


def refuse(*_: object) -> None:
    raise AssertionError("prepared again, although nothing has changed")


@pytest.fixture(scope="module")
def dataset(template_subject, tmp_path_factory) -> Path:
    """The prepared folder of a cohort: the template with its PET, from scans, and two people given prepared."""
    task, prepared = template_subject
    folder = tmp_path_factory.mktemp("dataset")
    shutil.copytree(prepared, folder / "prepared")
    for scan in (task.t1, task.pet):
        shutil.copy2(scan, folder)
    (folder / "scans.tsv").write_text(f"subject\tt1\tpet\n{SCANNED}\t{task.t1.name}\t{task.pet.name}\n")
    with quick_segmentation():
        write_cohort(folder, TWO_PEOPLE, jobs=0, progress=False)
    run = {"layout": "list", "jobs": 0, "progress": False, "recipe": task.recipe}
    summary = preprocess_cohort(folder / "scans.tsv", folder / "prepared", worker=refuse, **run)
    assert (summary.reused, summary.given) == (1, 2)
    return folder / "prepared"


def images(dataset: Path) -> list[Path]:
    found = sorted(dataset.rglob("*.nii*"))
    assert len(found) == 19
    return found


def about(image: Path) -> dict:
    return json.loads(image.with_name(image.name.removesuffix(".nii.gz") + ".json").read_text())


def test_every_image_says_what_it_is_and_on_which_grid(dataset):
    for image in images(dataset):
        found = about(image)
        assert all(isinstance(found[key], str) for key in ("Description", "SpatialReference", "Resolution")), image.name
        assert found["Resolution"].startswith(f"{image.name.split('_res-')[1][0]} mm"), image.name
        assert isinstance(found["SkullStripped"], bool), image.name


def test_an_image_is_skull_stripped_just_where_its_sidecar_says_so(dataset):
    brain = nib.load(next(dataset.rglob("*_desc-brain_mask.nii.gz")))
    aside = ~nib.load(next(dataset.rglob("*_desc-brain_mask.nii.gz"))).get_fdata().astype(bool)
    for image in images(dataset):
        values = nib.load(image)
        if values.shape == brain.shape:
            share = (np.abs(values.get_fdata()) > 0.1)[aside].mean()  # a rim of the fluid is less than half sure
            assert about(image)["SkullStripped"] == (share < 0.05), (image.name, share)


def test_every_image_made_from_scans_names_them(dataset):
    for image in images(dataset):
        if SCANNED in image.name:
            assert all((dataset / source).is_file() for source in about(image)["Sources"]), image.name


def test_a_pet_map_has_its_tracer_and_its_unit(dataset):
    found = about(next(dataset.rglob(f"*{SCANNED}*desc-suvrPons_pet.nii.gz")))
    assert (found["TracerName"], found["TracerRadionuclide"], found["Units"]) == ("FDG", "F18", "SUVR")


def test_every_image_is_in_millimeters(dataset):
    assert {nib.load(image).header.get_xyzt_units()[0] for image in images(dataset)} == {"mm"}


def test_every_json_is_an_object(dataset):
    assert {type(json.loads(path.read_text())) for path in dataset.rglob("*.json")} == {dict}


def test_bidsignore_matches_every_other_file_and_no_image_nor_its_sidecar(dataset):
    patterns = (dataset / ".bidsignore").read_text().split()
    kept = {image.name.split(".")[0] for image in images(dataset)}
    for path in dataset.rglob("*"):
        if path.is_dir() or path.name in ("dataset_description.json", "README.md", ".bidsignore"):
            continue
        place = f"/{path.relative_to(dataset).as_posix()}"
        ignored = any(fnmatch(place, pattern) or fnmatch(place, f"{pattern}/*") for pattern in patterns)
        assert ignored != (path.name.split(".")[0] in kept), place


def test_bidsignore_matches_what_later_stages_add():
    later = ("recipe.json", "label_rules.tsv", "sub-01/ses-M000/sub-01_ses-M000_response.tsv")
    for name in later:
        assert any(fnmatch(f"/{name}", pattern) for pattern in derivative.BIDSIGNORE), name


def test_averaged_frames_are_one_frame_with_its_time_in_seconds_after_injection():
    found = derivative.frame_fields({"FramesAveraged": 6, "FramesMinutes": [30.0, 60.0]})
    assert (found["InjectionStart"], found["FrameTimesStart"], found["FrameDuration"]) == (0, [1800.0], [1800.0])
    assert found["FramesMinutes"] == [30.0, 60.0]
    assert derivative.frame_fields({}) == {}


def test_an_image_of_an_unknown_kind_is_refused():
    with pytest.raises(KeyError, match="desc-new_map"):
        derivative.image_fields("desc-new_map")


def test_a_stage_lacks_the_files_that_an_earlier_version_did_not_write(tmp_path):
    (tmp_path / "old.nii.gz").touch()
    earlier = {"structure": {"stamp": "a", "files": ["old.nii.gz"], "notes": {"tiv_ml": 1500.0}}}
    (tmp_path / "stamps.json").write_text(json.dumps(earlier))
    stamps = Stamps(tmp_path / "stamps.json")
    assert stamps.found(STRUCTURE, "a", [tmp_path / "new.h5"]) is None
    (tmp_path / "new.h5").touch()
    assert stamps.found(STRUCTURE, "a", [tmp_path / "new.h5"]) == {"tiv_ml": 1500.0}


def test_who_forgets_the_t1_forgets_the_pet_that_was_aligned_to_it_and_not_the_other_way(tmp_path):
    def kept(forgotten) -> set[str]:
        stamps = Stamps(tmp_path / f"{forgotten.name}.json")
        for stage in (STRUCTURE, ALIGNMENT):
            stamps.keep(stage, "a", {})
        stamps.forget(forgotten)
        return set(Stamps(stamps.path).records)

    assert kept(STRUCTURE) == set() and kept(ALIGNMENT) == {STRUCTURE.name}


def test_a_displacement_field_comes_back_as_it_was_and_its_file_has_no_time(tmp_path):
    values = np.random.default_rng(0).normal(size=(4, 5, 6, 3)).astype(np.float32)
    direction = np.diag([-1.0, -1.0, 1.0])
    field = ants.from_numpy(values, (1.0, 2.0, 3.0), (2.0, 2.0, 2.5), direction, has_components=True)
    for name in ("one.h5", "two.h5"):
        write_field(field, tmp_path / name)
    again = read_field(tmp_path / "one.h5")
    assert np.array_equal(again.numpy(), values)
    assert (again.origin, again.spacing) == (field.origin, field.spacing)
    assert np.array_equal(again.direction, direction)
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()


def test_itk_moves_points_by_the_field_of_the_file(tmp_path):
    values = np.zeros((9, 9, 9, 3), np.float32)
    values[..., 0] = np.arange(9)[:, None, None]  # along x, growing with x
    write_field(ants.from_numpy(values, has_components=True), tmp_path / "field.h5")
    ramp = np.broadcast_to(np.arange(9, dtype=np.float32)[:, None, None], (9, 9, 9)).copy()
    moved = ants.apply_transforms(ants.from_numpy(ramp), ants.from_numpy(ramp), [str(tmp_path / "field.h5")])
    assert np.allclose(moved.numpy()[:5, 4, 4], [0, 2, 4, 6, 8])


def test_the_bids_validator_finds_no_error(dataset):
    validator = shutil.which("bids-validator-deno")
    if not validator:
        pytest.skip("bids-validator-deno is not installed")
    done = subprocess.run([validator, str(dataset), "--format", "json"], capture_output=True, text=True, check=False)
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []
    assert {issue["code"] for issue in issues} <= {"TOO_FEW_AUTHORS"}  # explained in docs/reference/derivatives.md


@pytest.fixture
def layout(dataset):
    return pytest.importorskip("bids").BIDSLayout(dataset, validate=False, is_derivative=True)


def names(files: list) -> set[str]:
    return {Path(file.path).name.split("_ses-M000_")[1] for file in files}


def test_pybids_finds_all_maps_of_a_subjects_t1(layout):
    found = names(layout.get(subject=SCANNED, datatype="anat", extension=".nii.gz", space=TEMPLATE))
    endings = (*t1.PROBABILITIES, "label-GM_desc-modulated_probseg", t1.GM_CROP)
    endings += ("desc-preproc_T1w", "desc-brain_mask")
    assert found == {f"space-{TEMPLATE}_res-2_{ending}.nii.gz" for ending in endings}


def test_pybids_finds_the_transform_from_t1w_to_the_template(layout):
    found = layout.get(subject=SCANNED, suffix="xfm", extension=[".mat", ".h5"], **{"from": "T1w", "to": TEMPLATE})
    stem = f"from-T1w_to-{TEMPLATE}_mode-image"
    assert names(found) == {f"{stem}_desc-affine_xfm.mat", f"{stem}_desc-syn_xfm.h5"}


def test_pybids_finds_pet_by_resolution(layout):
    found = layout.get(subject=SCANNED, suffix="pet", res="2", extension=".nii.gz")
    stem = f"space-{TEMPLATE}_res-2_desc-suvrPons"
    assert names(found) == {f"{stem}_pet.nii.gz", f"{stem}Crop80_pet.nii.gz"}
    assert layout.get(subject=SCANNED, suffix="pet", res="1") == []
