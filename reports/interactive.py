"""A person's report as one HTML file with a viewer: T1, volume, SUVR and saliency as layers; opens without a network.

The viewer is NiiVue (BSD-2-Clause), taken from the installed nilearn wheel. A strict content-security policy forbids
the page every request; with scripts off, the pictures of the PDF stand in its place.
"""

from __future__ import annotations

import base64
import gzip
import json
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jinja2
import nibabel as nib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from scipy import ndimage

from adni_tcgm.files import write_text
from reports import box, overlays, saliency
from reports.figures import PRINTED_FONT
from reports.gathering import Cohort
from reports.records import MODALITIES
from reports.subject import describe_subject, safe_stem
from reports.typesetting import TEMPLATES

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; img-src data: blob:; "
    "connect-src data: blob:; worker-src blob:; font-src data:; base-uri 'none'; form-action 'none'"
)
WHITEST = 0.8
DEFICIT_SHOWN = 1.0
KINDS = {".svg": "svg+xml", ".png": "png"}


@lru_cache
def _viewer() -> str:
    """The script of NiiVue. Raises FileNotFoundError where nilearn does not carry it."""
    spec = find_spec("nilearn")
    for place in spec.submodule_search_locations if spec else ():
        file = Path(place) / "_assets" / "js" / "niivue.umd.js"
        if file.is_file():
            return file.read_text(encoding="utf-8").replace("</script", "<\\/script")
    raise FileNotFoundError("nilearn carries no niivue.umd.js: the interactive page needs it (nilearn 0.14 has it)")


def encode(values: np.ndarray) -> str:
    """A gzipped NIfTI-1 on the box as base64; equal values give equal text."""
    image = nib.Nifti1Image(np.ascontiguousarray(values), box.AFFINE)
    image.header.set_xyzt_units("mm")
    return base64.b64encode(gzip.compress(image.to_bytes(), 6, mtime=0)).decode()


def _colors(colormap: LinearSegmentedColormap) -> dict[str, list[int]]:
    """A color table of the viewer. Its first entry is transparent: what lies at or below the scale's lower end."""
    positions = np.linspace(0, 1, 9)
    red, green, blue, _ = np.round(255 * colormap(positions)).astype(int).T.tolist()
    steps = np.round(255 * positions).astype(int).tolist()
    steps[0] = 1
    return {
        "R": [red[0], *red],
        "G": [green[0], *green],
        "B": [blue[0], *blue],
        "A": [0] + [255] * len(steps),
        "I": [0, *steps],
    }


def background(cohort: Cohort, sample_id: str) -> tuple[str, np.ndarray]:
    """The person's own T1 in template space where there is one, or the template's: its title and 8-bit values."""
    name = cohort.prepared.visits.at[sample_id, "t1_path"]
    path = cohort.prepared.home(sample_id) / name if name else None
    own = path is not None and path.is_file()
    values = box.to_box(overlays.load_map(path) if own else overlays.template_image())
    # White matter, the brightest large tissue of the brain, is light gray and not saturated.
    top = np.percentile(values[values > 0], 99.5) / WHITEST
    title = "T1 of this person, in template space" if own else "T1 of the template"
    return title, np.round(255 * np.clip(values / top, 0, 1)).astype(np.uint8)


def modality_layer(image: nib.Nifti1Image, modality: str, first: bool = True) -> dict[str, Any]:
    """A map in its colors: zero, and so uncolored, outside grey matter; inside never below the scale's lower end."""
    scale = overlays.SCALES[modality]
    low, high = scale.limits
    lowest = low + 2 * (high - low) / 255  # the second of the color table's steps, the first that is drawn
    values = np.where(box.grey_matter(), np.clip(box.to_box(image) * scale.factor, lowest, None), 0).astype(np.float32)
    return {
        "key": modality,
        "title": f"{scale.title} ({scale.unit})",
        "legend": f"{low:g} (dark) to {high:g} (light); darker means smaller",
        "low": low,
        "high": high,
        "opacity": 0.8 if modality == "mri" and first else 0.0,
        "colors": _colors(overlays.colormap(modality)),
        "data": encode(values),
    }


def deficit_layer(cohort: Cohort, sample_id: str, image: nib.Nifti1Image, modality: str) -> dict[str, Any] | None:
    """How far grey matter lies below the norm, in SD; None where there is no norm or the person's age is unknown."""
    norm, scale = cohort.voxel_norms[modality], overlays.SCALES[f"{modality}_deficit"]
    z = norm.deficit(image, cohort.people.loc[[sample_id]]) if norm else None
    if z is None:
        return None
    below = np.where(box.grey_matter(), np.clip(-z.get_fdata(dtype=np.float32), 0, None), 0)
    deepest = -scale.limits[0]
    return {
        "key": f"deficit-{modality}",
        "title": f"deficit of {scale.title}, {DEFICIT_SHOWN:g} SD and more",
        "legend": f"{DEFICIT_SHOWN:g} (light) to {deepest:g} (dark) SD below {cohort.reference.name}",
        "low": DEFICIT_SHOWN,
        "high": deepest,
        "opacity": 0.8 if modality == "mri" else 0.0,
        "colors": _colors(overlays.colormap(modality).reversed()),
        "data": encode(below),
    }


def outline_layer(cohort: Cohort, sample_id: str) -> dict[str, Any]:
    """A yellow rim around the hippocampi, the person's where they were segmented, else the atlas's, and the isthmus."""
    visit = cohort.prepared.visits.loc[sample_id]
    folder = cohort.prepared.home(sample_id) / visit["participant_id"] / visit["session_id"] / "anat"
    name = f"{sample_id}_space-MNI152NLin2009cSym_res-2_label-hippocampus_probseg.nii.gz"
    own = (folder / name).is_file()
    inside = np.isin(box.labels(), list(overlays.outlined_numbers()))
    if own:
        isthmus = np.isin(box.labels(), list(overlays.outlined_numbers(("Isthmus Cingulate",))))
        inside = isthmus | (box.to_box(overlays.load_map(folder / name)) > 0.5)
    rim = inside & ~ndimage.binary_erosion(inside)
    return {
        "key": "outline",
        "title": f"outlines: hippocampi {'as segmented' if own else 'of the atlas'}, isthmus",
        "legend": "",
        "low": 0.5,
        "high": 1.0,
        "opacity": 0.8,
        "outline": True,
        "colors": _colors(LinearSegmentedColormap.from_list("outline", ("#ffd84d", "#ffd84d"))),
        "data": encode(rim.astype(np.uint8)),
    }


def saliency_layers(cohort: Cohort, sample_id: str) -> list[dict[str, Any]]:
    """Two layers a modality: what speaks for conversion (orange) and what speaks against it (green)."""
    folder = saliency.find_saliency(cohort, sample_id)
    layers = []
    for modality, image in (saliency.load_maps(folder) if folder else {}).items():
        values, limit = box.to_box(image), saliency.strongest(image)
        for sign, word in ((1, "for"), (-1, "against")):
            ends = ("#ffe0b2", "#e65100") if sign > 0 else ("#b2dfdb", "#00695c")
            low = saliency.SHOWN_SHARE * limit
            layers.append(
                {
                    "key": f"saliency-{modality}-{word}",
                    "title": f"saliency of {overlays.SCALES[modality].title}, {word} conversion",
                    "legend": f"{low:.2g} (light) to {limit:.2g} (strong), calibrated log-odds per voxel",
                    "low": low,
                    "high": limit,
                    "opacity": 0.0,
                    "colors": _colors(LinearSegmentedColormap.from_list(word, ends)),
                    "data": encode(np.clip(sign * values, 0, None).astype(np.float32)),
                }
            )
    return layers


def with_fallback(figure: bytes) -> bytes:
    """An SVG whose words are legible, and as wide, where the font of the PDF is not installed."""
    others = b"'Times New Roman', 'Liberation Serif', serif"
    figure = figure.replace(f"'{PRINTED_FONT}'".encode(), f"'{PRINTED_FONT}', ".encode() + others)
    return figure.replace(f'"{PRINTED_FONT}"'.encode(), f"\"'{PRINTED_FONT}', ".encode() + others + b'"')


def describe_page(cohort: Cohort, sample_id: str) -> dict[str, Any]:
    """What the template reads: the data of the PDF, its figures as images, and the layers of the viewer."""
    data, drawn = describe_subject(cohort, sample_id)
    figures = {
        name: f"data:image/{KINDS[Path(name).suffix]};base64,{base64.b64encode(with_fallback(content)).decode()}"
        for name, content in drawn.items()
    }
    layers, title = [], ""
    if cohort.prepared is not None:
        title, values = background(cohort, sample_id)
        layers.append({"key": "t1", "title": title, "legend": "", "opacity": 1.0, "data": encode(values)})
        layers[0] |= {"low": 0, "high": 255, "colors": None}
        for modality in MODALITIES[:2]:
            path = cohort.prepared.volume(sample_id, modality)
            if path is not None and path.is_file():
                image = overlays.load_map(path)
                deficit = deficit_layer(cohort, sample_id, image, modality)
                layers += [layer for layer in (deficit, modality_layer(image, modality, deficit is None)) if layer]
        if data.get("saliency"):
            layers += saliency_layers(cohort, sample_id)
        layers.append(outline_layer(cohort, sample_id))
    # "</" would end the script element that carries the data.
    packed = json.dumps(layers, ensure_ascii=True).replace("</", "<\\/")
    return {"d": data, "figures": figures, "layers": layers, "packed": packed, "policy": POLICY, "viewer": _viewer()}


def write_page(cohort: Cohort, sample_id: str, destination: Path) -> Path:
    """Write `<destination>/<sample id or pseudonym>.html` and return its path."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("subject.html.jinja").render(describe_page(cohort, sample_id))
    file = destination / f"{safe_stem(cohort.show_sample(sample_id))}.html"
    write_text(file, page)
    return file
