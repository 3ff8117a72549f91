"""Which of a person's T1w and PET images of a BIDS data set is taken: what is never used, an order, and the reasons."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from preprocessing.intake.bids_sessions import Session
from preprocessing.intake.columns import is_missing
from preprocessing.intake.formats import NIFTI, NO_IMAGES, usable_image
from preprocessing.intake.walk import is_hidden
from preprocessing.sidecars import stem
from preprocessing.steps.orient import ScanError
from preprocessing.steps.resolution import uniform_mm

T1_SUFFIXES = ("t1w", "unit1", "mp2rage")
# What T1s and PETs are sorted by, and why one that comes later in it is not taken.
T1_ORDER = {
    "not_mci": "its session has no diagnosis of MCI",
    "unpaired": "it has no FDG near enough",
    "session": "a later session",
    "no_nifti": "NIfTI is preferred",
    "derived": "it is derived from another image",
    "mp2rage": "a T1w is preferred to an MP2RAGE's UNIT1",
    "echo": "a single echo",
    "slices": "it was taken slice by slice",
    "defaced": "it is defaced",
    "special": "its name has more entities",
    "unnamed": "another one is called a 3-D T1",
    "run": "a later run",
    "echo_number": "a later echo",
    "name": "a later name",
}
PET_ORDER = {
    "gap": "farther from the T1",
    "no_nifti": "NIfTI is preferred",
    "derived": "it is derived from another image",
    "not_uniform": "one of uniform resolution is preferred",
    "dynamic": "a static reconstruction is preferred",
    "special": "its name has more entities",
    "run": "a later run",
    "name": "a later name",
}
LOCALIZER = re.compile(r"locali[sz]er|scout|survey|^loc$|planeloc|^3plane")
CONTRAST = re.compile(r"gado|^gad|gad$|^gd|gd$|postcontrast|^ce$")
STRIPPED = re.compile(r"brain|skullstrip|stripped|^bet$")
DEFACED = re.compile(r"defac")
T1_NAMES = re.compile(r"mp2?rage|spgr|bravo|tfe|tfl|3d|high?res")
# What is taken where nothing better is there, and said.
WEAK = {
    "derived": "derived from another image",
    "mp2rage": "the UNIT1 of an MP2RAGE",
    "echo": "a single echo",
    "slices": "taken slice by slice",
    "defaced": "defaced",
    "dynamic": "dynamic",
}
NO_CONTRAST = ("none", "no", "pre", "without")


@dataclass(frozen=True)
class Image:
    """An image of a session: entities and suffix of its name, and what its sidecars say. `rank` orders it."""

    path: Path
    session: Session
    about: Mapping[str, object]
    rank: dict[str, object] = field(default_factory=dict)

    @property
    def suffix(self) -> str:
        return stem(self.path).rsplit("_", 1)[-1].lower()

    @property
    def entities(self) -> dict[str, str]:
        parts = (part.partition("-") for part in stem(self.path).lower().split("_")[:-1])
        return {name: value for name, _, value in parts}

    def says(self, pattern: re.Pattern, *entities: str) -> bool:
        """Whether one of these entities, or any free label where none is named, has a value like this."""
        names = entities or ("acq", "rec", "desc", "proc")
        return any(pattern.search(self.entities.get(name, "")) for name in names)


def find_images(
    session: Session, kind: str, suffixes: Sequence[str], read: Callable[[Path], Mapping[str, object]]
) -> list[Image]:
    """Images of a session's folder `kind` with one of these suffixes, links that lead nowhere among them."""
    folder = session.folder / kind
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    files = [f for f in files if not is_hidden(f) and f.suffix.lower() not in NO_IMAGES and "." in f.name]
    named = [f for f in files if stem(f).lower().rpartition("_")[2] in suffixes and not f.is_dir()]
    return [Image(path, session, read(path)) for path in named]


def why_no_t1(image: Image) -> str:
    """Why an image can never stand for the T1 of a head; empty where it can."""
    entities = image.entities
    contrast = entities.get("ce", "none") not in NO_CONTRAST or image.says(CONTRAST)
    contrast |= not is_missing(image.about.get("ContrastBolusIngredient", ""))
    reasons = {
        "a localizer": image.says(LOCALIZER),
        "contrast-enhanced": contrast,
        f"its {entities.get('part')} part": entities.get("part", "mag") != "mag",
        "one inversion of an MP2RAGE": image.suffix == "mp2rage" or "inv" in entities,
        "a chunk of the head": "chunk" in entities,
        "without the skull": image.says(STRIPPED, "desc", "rec", "proc"),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def why_no_pet(image: Image) -> str:
    """Why a PET can never be used, whatever its tracer; empty where it can."""
    reasons = {
        "not corrected for attenuation": image.entities.get("rec", "").startswith("nac"),
        "early frames only": image.says(re.compile("early")),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def rank_t1(image: Image) -> dict[str, object]:
    """An image's place in the part of `T1_ORDER` that its name and its sidecars decide."""
    entities = image.entities
    flat = str(image.about.get("MRAcquisitionType", "")).upper() == "2D" or image.says(re.compile("2d"))
    return _rank(image) | {
        "mp2rage": image.suffix == "unit1",
        "echo": "echo" in entities,
        "slices": flat,
        "defaced": image.says(DEFACED),
        "unnamed": not image.says(T1_NAMES),
        "echo_number": _number(entities.get("echo", "0")),
    }


def rank_pet(image: Image) -> dict[str, object]:
    """An image's place in the part of `PET_ORDER` that its name decides."""
    dynamic = image.entities.get("rec", "").endswith("dyn")
    return _rank(image) | {"not_uniform": uniform_mm(image.path.name) is None, "dynamic": dynamic}


def _rank(image: Image) -> dict[str, object]:
    entities = image.entities
    return {
        "no_nifti": not image.path.name.lower().endswith(NIFTI),
        "derived": bool({"desc", "space", "res"} & set(entities)),
        "special": len(set(entities) - {"sub", "ses", "run", "trc", "echo"}),
        "run": _number(entities.get("run", "0")),
        "name": image.path.name,
    }


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def in_order(images: Sequence[Image], order: Mapping[str, str]) -> list[Image]:
    return sorted(images, key=lambda image: tuple(image.rank[name] for name in order))


def first_usable(ordered: Sequence[Image], wanted: str, reasons: dict[Path, str]) -> Image:
    """The first image that is there, in a format that is read, and not said to be of another modality.

    wanted: "MR" or "PT". Why others failed is added to `reasons`. Raises ScanError with the reason of the first.
    """
    errors = []
    for image in ordered:
        try:
            check_file(image, wanted)
        except ScanError as error:
            errors.append(error)
            reasons[image.path] = error.message
            continue
        return image
    raise errors[0]


def check_file(image: Image, wanted: str) -> None:
    """Raises ScanError (missing_content, ecat, unknown_format, wrong_modality)."""
    path = image.path
    usable_image([path])
    found = str(image.about.get("Modality", ""))
    if not is_missing(found) and found not in (wanted, {"MR": "MRI", "PT": "PET"}[wanted]):
        raise ScanError("wrong_modality", f"{path.name}: its sidecar says modality {found}; {wanted} is needed")


def list_rejected(images: Sequence[Image], chosen: Image, reasons: Mapping[Path, str], order: Mapping[str, str]) -> str:
    """The other images, each with the reason for which it was not taken. `reasons`: of those that were never ranked."""
    others = [image for image in images if image.path != chosen.path]
    return "; ".join(f"{o.path.name} ({reasons.get(o.path) or _why_not(o, chosen, order)})" for o in others)


def _why_not(image: Image, chosen: Image, order: Mapping[str, str]) -> str:
    return next((reason for name, reason in order.items() if image.rank[name] != chosen.rank[name]), "")


def describe(image: Image, images: Sequence[Image], facts: Mapping[str, bool]) -> str:
    """What spoke for an image of several, and what is not as one would wish."""
    said = [fact for fact, holds in facts.items() if holds]
    said += ["the only one" if len(images) == 1 else f"the first in order of preference of {len(images)}"]
    return ", ".join(said + [f"although {words}" for name, words in WEAK.items() if image.rank.get(name)])
