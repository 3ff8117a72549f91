from __future__ import annotations

import base64
import gzip
import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from reports import box
from reports.gathering import gather_cohort
from reports.interactive import describe_page, encode, modality_layer, write_page
from reports.overlays import load_map
from reports.records import load_prepared, load_run
from reports.saliency import load_maps, saliency_section
from tests.browser import dump, needs_chromium, probe, too_faint
from tests.reports.conftest import AFFINE, FAILED, RAW, WITHOUT_PET, build_outputs


def person(row: int) -> str:
    return f"sub-SIM{row:04d}_ses-M000"


def gather(root: Path):
    run = load_run(root / "runs" / "regions-tcgm-r0.1-s0")
    return gather_cohort([run], load_prepared(root / "prepared"))


@pytest.fixture(scope="module")
def cohort(outputs):
    return gather(outputs)


def decode(text: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


def test_a_layer_survives_its_way_into_the_page():
    values = np.random.default_rng(0).random((80, 80, 80)).astype(np.float32)
    image = decode(encode(values))
    assert np.array_equal(image.get_fdata(dtype=np.float32), values)
    assert np.array_equal(image.affine, box.AFFINE)
    assert encode(values) == encode(values.copy())


def test_the_box_keeps_millimeters():
    values = np.zeros((80, 80, 80), np.float32)
    values[10, 20, 30] = 1
    assert np.array_equal(box.to_box(nib.Nifti1Image(values, AFFINE)), values)


def test_outside_grey_matter_a_map_is_zero_and_inside_it_is_never_uncolored(cohort):
    layer = modality_layer(load_map(cohort.prepared.volume(person(RAW), "pet")), "pet")
    values = decode(layer["data"]).get_fdata()
    assert (values == 0).mean() > 0.3
    assert values[values > 0].min() > layer["low"] + (layer["high"] - layer["low"]) / 255
    assert (layer["colors"]["A"][0], layer["colors"]["A"][1]) == (0, 255)


def test_without_pet_there_is_no_pet_layer(cohort):
    assert [layer["key"] for layer in describe_page(cohort, person(WITHOUT_PET))["layers"]] == ["t1", "mri", "outline"]


def test_a_failed_quality_check_withholds_the_probability_here_too(cohort, tmp_path):
    text = write_page(cohort, person(FAILED), tmp_path).read_text()
    assert "<b>Withheld.</b>" in text and "Calibrated probability of conversion" not in text


def test_the_page_may_reach_nothing_and_names_the_license(cohort, tmp_path):
    text = write_page(cohort, person(RAW), tmp_path).read_text()
    policy = unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1])
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy and "unsafe-eval" not in policy and "*" not in policy
    assert not re.search(r'(src|href)="(?!data:)', text.split("<script", 1)[0])
    assert "BSD 2-Clause License" in text


def test_with_scripts_off_pictures_stand_in(cohort, tmp_path):
    text = write_page(cohort, person(RAW), tmp_path).read_text()
    fallback = text.split("<noscript>")[1].split("</noscript>")[0]
    assert fallback.count("data:image/svg+xml;base64,") == 1


def test_the_same_person_gives_the_same_page(cohort, tmp_path):
    first, second = (write_page(cohort, person(RAW), tmp_path / name).read_bytes() for name in ("a", "b"))
    assert first == second


def test_a_hostile_id_stays_text(tmp_path):
    hostile = '<script>alert(1)</script>"中'

    def rename(table):
        table.loc[RAW, "participant_id"] = hostile

    cohort = replace(gather(build_outputs(tmp_path / "out", change=rename)), identifiers=True)
    page = write_page(cohort, f"{hostile}_ses-M000", tmp_path)
    text = page.read_text()
    assert page.parent == tmp_path
    assert "<script>alert" not in text and "&lt;script&gt;alert(1)&lt;/script&gt;&#34;中" in text


def add_saliency(folder: Path) -> None:
    """A map with orange on the left and green on the right, as `pipelines.saliency` writes them."""
    folder.mkdir(parents=True)
    values = np.zeros((48, 32, 32), np.float32)
    values[:20], values[28:] = 0.5, -0.5
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = (-48, -54, -42)
    name = f"{folder.name}_space-MNI152NLin2009cSym_res-2_mod-mri_desc-integratedgradients_saliency.nii.gz"
    nib.save(nib.Nifti1Image(values, affine), folder / name)
    fidelity = dict.fromkeys(("integratedgradients", "random", "edges"), {"deletion": 0.1, "insertion": 0.9})
    found = {"log_odds": 1.0, "baseline_log_odds": -1.0, "completeness_error": 0.01, "fidelity": fidelity}
    about = {"run": "voxels", "baseline": "mean", "target": "log-odds", "normalization": "calibrated"}
    (folder / "saliency.json").write_text(json.dumps(about | {"modalities": {"mri": found}}))


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    root = build_outputs(tmp_path_factory.mktemp("explained"))
    add_saliency(root / "runs" / "regions-tcgm-r0.1-s0" / "saliency" / person(RAW))
    return gather(root)


def test_saliency_for_and_against_are_layers_of_their_own_on_their_own_sides(explained):
    layers = {layer["key"]: layer for layer in describe_page(explained, person(RAW))["layers"]}
    for word, side in (("for", -1), ("against", 1)):
        values = decode(layers[f"saliency-mri-{word}"]["data"]).get_fdata()
        x = (box.AFFINE @ [*np.argwhere(values > 0.2).mean(0), 1])[0]
        assert np.sign(x) == side


def test_saliency_maps_are_found_by_modality(explained):
    folder = explained.headline.folder / "saliency" / person(RAW)
    assert list(load_maps(folder)) == ["mri"]
    assert load_maps(folder, "occlusion") == {}


def test_people_without_maps_have_no_saliency(cohort):
    assert saliency_section(cohort, person(RAW)) == (None, {})


@pytest.mark.slow
@needs_chromium
def test_chromium_draws_all_layers_and_sends_no_request(explained, tmp_path):
    page = write_page(explained, person(RAW), tmp_path)
    found = dump(page, tmp_path / "profile")
    state = json.loads(unescape(re.search(r'<div id="status" hidden="">([^<]*)', found)[1]))
    assert state["error"] == "" and state["refused"] == [] and state["requests"] == []
    assert state["volumes"] == 6
    assert state["layers"] == ["t1", "mri", "pet", "saliency-mri-for", "saliency-mri-against", "outline"]
    assert state["crosshair_mm"] == pytest.approx([-26, -22, -15], abs=1.5)
    assert state["place"] == "crosshair at x = -26, y = -22, z = -15 mm"
    colored = state["colored"]
    # Red with the volume, blue with the SUVR, neither but the crosshair with both sliders at zero.
    assert colored["first"]["red"] > 3 * colored["none"]["red"] and colored["pet"]["blue"] > 1000
    assert colored["none"]["blue"] == 0


VIEWER_IS_UP = 'document.getElementById("status").textContent'

# What a reader would do with the keys.
KEYS = """
  const canvas = document.getElementById("canvas");
  const place = () => document.getElementById("place").textContent;
  Object.assign(found, { width: innerWidth, page: document.documentElement.scrollWidth, places: [place()] });
  const pictures = [...document.querySelectorAll(".wide > img")];
  found.narrowest = Math.min(...pictures.map((image) => image.clientWidth));
  canvas.focus();
  for (const key of ["ArrowLeft", "ArrowUp", "PageDown"]) { press(key, canvas); found.places.push(place()); }
  press("2", document.body);
  found.sliders = [...document.querySelectorAll("input[type=range]")].map((slider) => Number(slider.value));
  found.canvas = canvas.clientHeight / canvas.clientWidth;
"""

# Pixels in the yellow of the outlines as each slider stands at one, all others at zero but the T1's.
LAYERS = """
  const gl = document.getElementById("canvas").getContext("webgl2");
  const pixels = new Uint8Array(gl.drawingBufferWidth * gl.drawingBufferHeight * 4);
  const count = (test) => {
    gl.readPixels(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
    let number = 0;
    for (let i = 0; i < pixels.length; i += 4) number += test(pixels[i], pixels[i + 1], pixels[i + 2]);
    return number;
  };
  const yellow = (r, g, b) => r > 240 && g > 200 && g < 235 && b > 60 && b < 100;
  const sliders = [...document.querySelectorAll("input[type=range]")];
  const set = (slider, value) => { slider.value = value; slider.dispatchEvent(new Event("input")); };
  found.yellow = {};
  for (const chosen of sliders) {
    sliders.forEach((slider) => set(slider, slider === chosen || slider.id === "layer-t1" ? 1 : 0));
    found.yellow[chosen.id] = count(yellow);
  }
  sliders.forEach((slider) => set(slider, slider.id === "layer-t1" ? 1 : 0));
  found.black = count((r, g, b) => r + g + b < 30) / (pixels.length / 4);
  found.white = count((r, g, b) => r + g + b === 765) / (pixels.length / 4);
  found.contrasts = contrasts();
  found.requests = requests();
"""


@pytest.mark.slow
@needs_chromium
def test_in_a_narrow_window_nothing_runs_over_the_edge_figures_stay_legible_and_keys_work(explained, tmp_path):
    page = write_page(explained, person(RAW), tmp_path)
    found = probe(page, KEYS, tmp_path / "profile", VIEWER_IS_UP, size="390,2000")
    assert found["page"] <= found["width"] <= 500
    assert found["narrowest"] >= 720
    assert found["canvas"] > 0.9  # slices in two rows, not in one with bands of white
    # Right is on the left: an arrow to the left moves to the person's right, and so on.
    assert found["places"] == [
        f"crosshair at x = {x}, y = {y}, z = {z} mm"
        for x, y, z in ((-26, -22, -15), (-24, -22, -15), (-24, -22, -13), (-24, -24, -13))
    ]
    # T1, PET and outlines; "2" leaves of the other layers none.
    assert found["sliders"] == [1, 0, 0.8, 0, 0, 0.8]


@pytest.mark.slow
@needs_chromium
def test_outlines_are_drawn_and_can_be_switched_off_and_every_text_has_the_contrast_of_wcag_aa(explained, tmp_path):
    page = write_page(explained, person(RAW), tmp_path)
    found = probe(page, LAYERS, tmp_path / "profile", VIEWER_IS_UP)
    outline = found["yellow"].pop("layer-outline")
    assert outline > 50 and max(found["yellow"].values()) < outline / 10
    assert len(found["contrasts"]) > 60 and too_faint(found["contrasts"]) == []
    assert found["requests"] == []
    assert found["black"] < 0.5


@pytest.mark.slow
@needs_chromium
def test_a_withheld_probability_is_as_legible(cohort, tmp_path):
    page = write_page(cohort, person(FAILED), tmp_path)
    found = probe(page, "found.contrasts = contrasts();", tmp_path / "profile", VIEWER_IS_UP)
    assert any("Withheld" in text["text"] for text in found["contrasts"])
    assert too_faint(found["contrasts"]) == []
