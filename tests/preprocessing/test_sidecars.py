"""JSON sidecars: inherited from the root down, and never essential."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from preprocessing import sidecars
from preprocessing.steps import frames
from preprocessing.steps.orient import ScanError
from preprocessing.subject.outcome import _identity
from preprocessing.subject.plan import SubjectTask, pet_files

PET = "sub-1/ses-2/pet/sub-1_ses-2_trc-FDG_run-1_pet.nii.gz"
TIMES = {"FrameTimesStart": [1800, 2100], "FrameDuration": [300, 300]}


def said(data, image: str = PET) -> dict[str, object]:
    return sidecars.read_sidecars(data.root / image)[0]


def test_the_nearer_and_more_specific_sidecar_wins_key_by_key(data):
    data.sidecar("pet.json", A=1, B=1, C=1, D=1, E=1).sidecar("trc-FDG_pet.json", B=2, C=2, D=2, E=2)
    data.sidecar("sub-1/sub-1_pet.json", C=3, D=3, E=3).sidecar("sub-1/ses-2/sub-1_ses-2_pet.json", D=4, E=4)
    data.sidecar("sub-1/ses-2/pet/sub-1_ses-2_trc-FDG_run-1_pet.json", E=5)
    assert said(data) == {"A": 1, "B": 2, "C": 3, "D": 4, "E": 5}


@pytest.mark.parametrize(
    "name",
    [
        "T1w.json",
        "trc-PIB_pet.json",
        "sub-2_pet.json",
        "sub-1/ses-2/pet/sub-1_ses-2_trc-FDG_run-2_pet.json",
        "sub-1/ses-2/anat/pet.json",
        "sub-1/ses-1/sub-1_pet.json",
        "sub-1/ses-2/pet/._sub-1_ses-2_trc-FDG_run-1_pet.json",
        "../pet.json",
        "carpet.json",
    ],
)
def test_a_sidecar_of_another_image_is_none_of_this(data, name):
    assert said(data.sidecar(name, A=1)) == {}


def test_the_order_of_entities_does_not_matter(data):
    assert said(data.sidecar("sub-1/run-1_sub-1_pet.json", A=1)) == {"A": 1}


def test_an_image_outside_a_data_set_has_the_sidecar_beside_it(tmp_path):
    (tmp_path / "pet.json").write_text('{"A": 1}')
    (tmp_path / "my scan.json").write_text('{"A": 2}')
    assert sidecars.read_sidecars(tmp_path / "my scan.nii")[0] == {"A": 2}


BROKEN = {
    "Latin-1": ('{"A": 1, "B": "Pitié"}'.encode("latin-1"), {"A": 1, "B": "Pitié"}, "it is not UTF-8"),
    "byte order mark": (b"\xef\xbb\xbf" + b'{"A": 1}', {"A": 1}, "byte order mark"),
    "UTF-16": ('{"A": 1}'.encode("utf-16"), {"A": 1}, "UTF-16"),
    "UTF-16 without a mark": ('{"A": 1}'.encode("utf-16-le"), {"A": 1}, "UTF-16"),
    "trailing comma": (b'{"A": [1, 2,], "B": ",]",\n}', {"A": [1, 2], "B": ",]"}, "trailing comma"),
    "empty": (b" \n", {}, "it is empty"),
    "zeros": (b"\0" * 64, {}, "it is empty"),
    "a list": (b"[1]", {}, "it holds a list"),
    "half of it": (b'{"A": 1, "B', {}, "it is no JSON"),
    "nested": (b'{"A":' * 100_000, {}, "nested too deeply"),
}


@pytest.mark.parametrize(("content", "about", "wrong"), BROKEN.values(), ids=BROKEN)
def test_a_sidecar_says_what_can_be_read_of_it_and_what_is_wrong(tmp_path, content, about, wrong):
    path = tmp_path / "pet.json"
    path.write_bytes(content)
    found, sentence = sidecars.read_sidecar(path)
    assert found == about and wrong in sentence


def test_a_sidecar_that_is_a_folder_or_a_link_to_nothing_says_nothing(tmp_path):
    (tmp_path / "a.json").mkdir()
    (tmp_path / "b.json").symlink_to(tmp_path / "gone")
    assert "it cannot be read (Is a directory)" in sidecars.read_sidecar(tmp_path / "a.json")[1]
    assert sidecars.read_sidecar(tmp_path / "b.json") == ({}, "a link to a file that is not here")


def test_plain_json_is_no_reason_to_complain(tmp_path):
    (tmp_path / "pet.json").write_text('{"A": NaN, "B": "é"}')
    assert sidecars.read_sidecar(tmp_path / "pet.json")[1] == ""


def test_a_broken_sidecar_is_named_once_and_costs_nobody_the_scan(data):
    for number in range(3):
        data.add(f"sub-{number}/anat/sub-{number}_T1w.nii", f"sub-{number}/pet/sub-{number}_pet.nii")
    data.text("T1w.json", b'{"MagneticFieldStrength": 3, "Site": "\xe9"}').text("pet.json", '{"TracerName": "FDG",}')
    with pytest.warns(UserWarning) as caught:
        people = data.read().people
    assert sorted(str(warning.message).split(": ")[0] for warning in caught) == [
        f"{data.root}/T1w.json",
        f"{data.root}/pet.json",
    ]
    assert [(person.field_strength_t, person.tracer) for person in people] == [(3.0, "18F-FDG")] * 3


@pytest.fixture
def dynamic(data) -> Path:
    """A PET of two frames."""
    path = data.add(PET).root / PET
    rng = np.random.default_rng(0)
    nib.save(nib.Nifti1Image(rng.random((8, 8, 8, 2), dtype=np.float32), np.eye(4)), path)
    return path


def test_frame_times_are_inherited(data, dynamic):
    data.sidecar("pet.json", **TIMES, InjectionStart=600).sidecar("sub-1/sub-1_pet.json", InjectionStart=0)
    starts, durations = frames.frame_times(dynamic, 2)
    assert (starts.tolist(), durations.tolist()) == ([30, 35], [5, 5])


def test_frame_times_that_are_nowhere_are_refused_with_what_was_looked_at(data, dynamic):
    data.sidecar("pet.json", TracerName="FDG").text("sub-1/sub-1_pet.json", "[")
    with pytest.raises(
        ScanError, match="no 'FrameTimesStart' in pet.json, sub-1_pet.json; sub-1_pet.json: it is no JSON"
    ):
        frames.frame_times(dynamic, 2)


def test_frame_times_in_a_latin1_sidecar_are_read(data, dynamic):
    content = json.dumps(TIMES)[:-1] + ', "Institution": "Pitié"}'
    data.text(PET.replace(".nii.gz", ".json"), content.encode("latin-1"))
    assert frames.frame_times(dynamic, 2)[0].tolist() == [30, 35]


def test_a_pet_is_done_again_when_frame_times_come_or_change_above_it(data, dynamic, tmp_path):
    task = SubjectTask("sub-1", "ses-2", t1=dynamic, pet=dynamic)
    seen = [_identity(task, tmp_path)]
    data.sidecar("pet.json", **TIMES)
    seen.append(_identity(task, tmp_path))
    os.utime(data.root / "pet.json", ns=(1, 1))
    seen.append(_identity(task, tmp_path))
    assert seen[0] != seen[1] != seen[2]


def test_sidecars_above_that_time_no_frames_do_not_make_anybody_be_done_again(data, dynamic):
    task = SubjectTask("sub-1", "ses-2", t1=dynamic, pet=dynamic)
    own = data.sidecar(PET.replace(".nii.gz", ".json"), A=1).root / PET.replace(".nii.gz", ".json")
    data.sidecar("pet.json", TracerName="FDG", FrameTimesStart=[0], FrameDuration=[1200]).text("trc-FDG_pet.json", "[")
    assert pet_files(task) == [dynamic, own]
