"""The pictures and the contact sheet: files, bytes, structure."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from preprocessing.cohort.run import MANIFEST_COLUMNS
from preprocessing.ledger import LEDGER_COLUMNS
from preprocessing.quality import pictures, sheet
from preprocessing.steps import template, tissue
from preprocessing.steps.hippocampus import Box
from tests.browser import needs_chromium, probe, too_faint

PNG = b"\x89PNG\r\n"
BOO = "<script>alert('boo')</script> & so on"
PERSON, SESSION = "sub-ADNI001S0001", "ses-M000"


def read_png(content: bytes) -> np.ndarray:
    import io

    from matplotlib.image import imread

    return imread(io.BytesIO(content))


def boxes() -> dict[str, Box]:
    """A ball of 9 mm on each side, and a smaller one before it."""
    index = np.indices((40, 64, 40)).transpose(1, 2, 3, 0)
    balls = {"hippocampus": ((20, 30, 20), 9), "amygdala": ((20, 45, 20), 5)}
    shares = {
        name: np.clip(radius - np.linalg.norm(index - middle, axis=-1) + 0.5, 0, 1).astype(np.float32)
        for name, (middle, radius) in balls.items()
    }
    found = {}
    for side, x in (("left", -48.5), ("right", 9.5)):
        affine = np.eye(4)
        affine[:3, 3] = (x, -60.5, -40.5)
        expected = nib.affines.apply_affine(affine, (20, 30, 20))
        found[side] = Box(shares, affine, expected, shares["hippocampus"] > 0.5)
    return found


def test_a_slice_is_drawn_upright_with_right_on_the_left():
    values = np.zeros((40, 40, 40), np.float32)
    values[28:, :, 28:] = 1  # right, above
    picture = read_png(pictures.draw(values, [], [(1, 20)]))[..., :3].mean(2)
    size = picture.shape[0]
    quarters = [
        picture[: size // 4, : size // 4],
        picture[: size // 4, -size // 4 :],
        picture[-size // 4 :, -size // 4 :],
    ]
    assert [bool(q.mean() > 0.5) for q in quarters] == [True, False, False]


def test_an_outline_is_drawn_in_its_color_and_the_bytes_repeat():
    ball = (np.linalg.norm(np.indices((40, 40, 40)) - 20, axis=0) < 12).astype(np.float32)
    first = pictures.draw(ball, [(ball, "#ff0000")], [(0, 20), (2, 20)])
    assert first == pictures.draw(ball, [(ball, "#ff0000")], [(0, 20), (2, 20)])
    assert first != pictures.draw(ball, [], [(0, 20), (2, 20)])
    red = read_png(first)
    assert ((red[..., 0] > 0.8) & (red[..., 1] < 0.3)).sum() > 50


def test_a_subject_gets_one_small_picture_of_each_kind(tmp_path):
    prefix = tmp_path / "figures" / f"{PERSON}_{SESSION}"
    thin = nib.Nifti1Image(template.t1()[:, ::2], np.diag([2.0, 4.0, 2.0, 1.0]))  # anisotropic
    pictures.write_t1(template.t1(), prefix)
    pictures.write_native(thin, template.brain_mask()[:, ::2], tissue.tissue_priors()[2][:, ::2], boxes(), prefix)
    pictures.write_pet(template.t1() / template.t1().max(), tissue.tissue_priors(), prefix)
    for name in pictures.PICTURES:
        content = pictures.path_of(prefix, name).read_bytes()
        assert content.startswith(PNG)
        assert len(content) < 250_000
        height, width = read_png(content).shape[:2]
        assert 4 < width / height < 10


def test_the_contour_of_a_hippocampus_lies_on_what_was_segmented(tmp_path):
    """The scan holds one bright ball where the right hippocampus was found; the contour runs around it."""
    segmented = boxes()
    right = segmented["right"]
    middle = nib.affines.apply_affine(right.affine, (20, 30, 20))
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = (-80.0, -90.0, -80.0)
    where = np.indices((160, 140, 130)).transpose(1, 2, 3, 0) + affine[:3, 3]
    scan = nib.Nifti1Image((np.linalg.norm(where - middle, axis=-1) < 9).astype(np.float32), affine)
    pictures.write_native(scan, scan.get_fdata() > 0, scan.get_fdata(dtype=np.float32), segmented, tmp_path / "x")
    drawn = read_png(pictures.path_of(tmp_path / "x", "hippocampus").read_bytes())[..., :3]
    first = drawn[:, : drawn.shape[1] // 7]  # the right one's sagittal slice
    ball, contour = first.min(2) > 0.8, (first[..., 0] > 0.7) & (first[..., 2] < 0.35)
    assert contour.sum() > 60
    away = ndimage.distance_transform_edt(~ball)[contour]
    assert away.max() < 8 and ndimage.binary_erosion(ball, iterations=6)[contour].sum() == 0


def test_contours_have_colors_that_color_blind_people_tell_apart():
    allowed = {"#e69f00", "#56b4e9", "#f0e442", "#d55e00", "#ffffff"}  # Okabe and Ito, and white
    for picture in pictures.PICTURES.values():
        colors = [color for color, _ in picture.contours]
        assert set(colors) <= allowed and len(set(colors)) == len(colors)


class Page(HTMLParser):
    """Collects tags, and complains of any that is not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "html", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "html":
            assert self.open.pop() == tag


@pytest.fixture
def cohort(tmp_path) -> Path:
    """One who passes with a picture, one who fails QC, one whose T1 is broken, one who came prepared."""
    people = [(PERSON, "raw", "pass"), ("sub-ADNI001S0002", "raw", "fail"), ("sub-ADNI009S0009", "prepared", "pass")]
    rows = [{"participant_id": name, "session_id": SESSION, "kind": kind, "qc": qc} for name, kind, qc in people]
    pd.DataFrame(rows, columns=list(MANIFEST_COLUMNS)).to_csv(tmp_path / "manifest.tsv", sep="\t", index=False)
    ledger = [
        [PERSON, SESSION, "mri", "kept", "recipe", "", "", "a", "pass", ""],
        ["sub-ADNI001S0002", SESSION, "mri", "kept", "orient", "qc_fail", BOO, "a", "fail", ""],
        ["sub-ADNI001S0003", SESSION, "mri", "failed", "orient", "truncated", "the file ends early", "a", "", ""],
        ["sub-ADNI009S0009", SESSION, "mri", "kept", "given", "", "", "given.tsv", "", ""],
    ]
    pd.DataFrame(ledger, columns=list(LEDGER_COLUMNS)).to_csv(tmp_path / "ledger.tsv", sep="\t", index=False)
    folder = tmp_path / PERSON / SESSION
    picture = pictures.path_of(folder / "figures" / f"{PERSON}_{SESSION}", "t1")
    picture.parent.mkdir(parents=True)
    picture.write_bytes(PNG)
    check = {"step": "register", "name": "brain_dice", "value": 0.971, "threshold": {"warn": 0.93, "fail": 0.88}}
    (folder / f"{PERSON}_{SESSION}_qc.json").write_text(json.dumps({"Checks": [check | {"verdict": "pass"}]}))
    return tmp_path


def test_the_contact_sheet_has_a_row_for_everybody_with_scans_worst_first(cohort):
    page = Page()
    page.feed(sheet.write_contact_sheet(cohort).read_text(encoding="utf-8"))
    assert page.open == []
    rows = [(found["id"], found["class"]) for tag, found in page.tags if tag == "article"]
    assert rows == [("sub-ADNI001S0002", "fail"), ("sub-ADNI001S0003", "failed"), (PERSON, "pass")]
    buttons = [found["data-verdict"] for tag, found in page.tags if tag == "button" and "data-verdict" in found]
    assert buttons == ["all", "fail", "failed", "pass"]


def test_three_checks_are_shown_worst_first_and_the_rest_is_folded(cohort):
    file = cohort / PERSON / SESSION / f"{PERSON}_{SESSION}_qc.json"
    limits = {"threshold": {"warn": 0.9, "fail": 0.8}, "step": "register"}
    named = {
        "easy": (0.99, "pass"),
        "near": (0.91, "pass"),
        "bad": (0.7, "fail"),
        "odd": (0.85, "warn"),
        "far": (2, "pass"),
    }
    checks = [limits | {"name": name, "value": v, "verdict": said} for name, (v, said) in named.items()]
    file.write_text(json.dumps({"Checks": checks}))
    text = sheet.write_contact_sheet(cohort).read_text(encoding="utf-8")
    shown, folded = text.split(f'id="{PERSON}"')[1].split("<details>")
    found = [re.findall(r"<tr[^>]*><td>(\w+)", part) for part in (shown, folded)]
    assert found == [["bad", "odd", "near"], ["easy", "far"]]
    assert "2 more checks" in folded


# What a reader would do with the keys, and with the filters.
KEYS = """
  const at = () => document.activeElement.closest("article")?.id ?? "";
  found.places = [at()];
  for (const key of ["j", "j", "j", "j", "k"]) { press(key, document.activeElement); found.places.push(at()); }
  const first = document.querySelector("article:has(fieldset)");
  first.focus();
  press("w", first);
  found.choice = first.querySelector("select").value;
  found.asks = document.activeElement === first.querySelector("input");
  press("j", document.activeElement);
  found.typed = document.activeElement === first.querySelector("input");
  found.contrasts = contrasts();
  document.querySelector("button[data-verdict=pass]").click();
  found.shown = [...document.querySelectorAll("article:not([hidden])")].map((row) => row.id);
  found.contrasts.push(...contrasts());
  found.requests = requests();
  found.width = [document.documentElement.scrollWidth, innerWidth];
"""


@pytest.mark.slow
@needs_chromium
def test_in_a_browser_keys_walk_the_contact_sheet_and_rate_and_every_text_has_the_contrast_of_wcag_aa(cohort, tmp_path):
    page = sheet.write_contact_sheet(cohort)
    found = probe(page, KEYS, tmp_path / "profile", size="390,2000")
    people = ["sub-ADNI001S0002", "sub-ADNI001S0003", PERSON]
    assert found["places"] == ["", *people, people[-1], people[1]]
    assert (found["choice"], found["asks"], found["typed"]) == ("warn", True, True)  # "j" in a field is a letter
    assert found["shown"] == [PERSON]
    assert len(found["contrasts"]) > 30 and too_faint(found["contrasts"]) == []
    assert all(name.startswith(cohort.as_uri()) for name in found["requests"])
    assert found["width"][0] <= found["width"][1]


def test_the_contact_sheet_runs_no_markup_that_a_table_holds(cohort):
    text = sheet.write_contact_sheet(cohort).read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(&#x27;boo&#x27;)&lt;/script&gt; &amp; so on" in text
    assert "the file ends early" in text
    assert "≥ 0.93" in text


def test_the_contact_sheet_names_pictures_that_are_there_and_nothing_on_the_network(cohort):
    text = sheet.write_contact_sheet(cohort).read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    sources = [found["src"] for tag, found in page.tags if tag == "img"]
    assert len(sources) == 1
    assert all((cohort / source).is_file() for source in sources)
    assert "http" not in text
    for color, words in pictures.PICTURES["t1"].contours:
        assert f'style="background:{color}"></span>{words}' in text
    assert str(cohort) not in text


def test_a_cohort_without_scans_has_an_empty_contact_sheet(cohort):
    for name in ("manifest", "ledger"):
        table = pd.read_csv(cohort / f"{name}.tsv", sep="\t")
        table[table.participant_id == "sub-ADNI009S0009"].to_csv(cohort / f"{name}.tsv", sep="\t", index=False)
    page = Page()
    page.feed(sheet.write_contact_sheet(cohort).read_text(encoding="utf-8"))
    assert [tag for tag, _ in page.tags if tag in ("article", "img")] == []
