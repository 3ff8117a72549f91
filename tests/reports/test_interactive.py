from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
import subprocess
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
from tests.reports.conftest import AFFINE, FAILED, RAW, WITHOUT_PET, build_outputs

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


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


def dump(page: Path, profile: Path, size: str = "1000,1500") -> str:
    """The page's DOM after its scripts have run, in a browser that reaches no host."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--enable-unsafe-swiftshader", "--use-angle=swiftshader"]
    command += [f"--user-data-dir={profile}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += ["--virtual-time-budget=60000", f"--window-size={size}", "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=True).stdout


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")
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


# Waits until the viewer is up, then does what a reader would do, and writes what came of it where it can be read.
PROBE = """<script>
const waiting = setInterval(() => {
  if (!document.getElementById("status").textContent) return;
  clearInterval(waiting);
  const canvas = document.getElementById("canvas"), gl = canvas.getContext("webgl2");
  const press = (key, place) => place.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  const place = () => document.getElementById("place").textContent;
  const found = { width: innerWidth, page: document.documentElement.scrollWidth, places: [place()] };
  const pictures = [...document.querySelectorAll(".wide > img")];
  found.narrowest = Math.min(...pictures.map((image) => image.clientWidth));
  canvas.focus();
  for (const key of ["ArrowLeft", "ArrowUp", "PageDown"]) { press(key, canvas); found.places.push(place()); }
  press("2", document.body);
  found.sliders = [...document.querySelectorAll("input[type=range]")].map((slider) => Number(slider.value));
  found.canvas = canvas.clientHeight / canvas.clientWidth;
  const probe = document.createElement("div");
  probe.id = "probe";
  probe.textContent = JSON.stringify(found);
  document.body.append(probe);
}, 100);
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")
def test_in_a_narrow_window_nothing_runs_over_the_edge_figures_stay_legible_and_keys_work(explained, tmp_path):
    page = write_page(explained, person(RAW), tmp_path)
    before, end, after = page.read_text(encoding="utf-8").rpartition("</body>")  # the viewer's script has one, too
    page.write_text(before + PROBE + end + after, encoding="utf-8")
    found = dump(page, tmp_path / "profile", size="390,2000")  # the browser's narrowest is 500
    probe = json.loads(unescape(re.search(r'<div id="probe">([^<]*)', found)[1]))
    assert probe["page"] <= probe["width"] <= 500
    assert probe["narrowest"] >= 720
    assert probe["canvas"] > 0.9  # slices in two rows, not in one with bands of white
    # Right is on the left: an arrow to the left moves to the person's right, and so on.
    assert probe["places"] == [
        f"crosshair at x = {x}, y = {y}, z = {z} mm"
        for x, y, z in ((-26, -22, -15), (-24, -22, -15), (-24, -22, -13), (-24, -24, -13))
    ]
    # T1, PET and outlines; "2" leaves of the other layers none.
    assert probe["sliders"] == [1, 0, 0.8, 0, 0, 0.8]
