"""Typst templates and plain data in, PDF out: the same input gives the same bytes.

Data reach a template only as a JSON file and figures only as files, so nothing that a table holds can become markup.
"""

from __future__ import annotations

import json
import tempfile
import unicodedata
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib
import typst
from matplotlib.ft2font import FT2Font

from adni_tcgm.files import write_bytes

TEMPLATES = Path(__file__).parent / "templates"
# The compiler carries Libertinus; matplotlib's wheel carries DejaVu Sans, the fallback whose characters we can list.
FALLBACK_FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@lru_cache
def _drawable() -> frozenset[int]:
    return frozenset(FT2Font(str(FALLBACK_FONTS / "DejaVuSans.ttf")).get_charmap())


@lru_cache
def _fonts() -> typst.Fonts:
    return typst.Fonts(include_system_fonts=False, font_paths=[str(FALLBACK_FONTS)])


def show_missing_glyphs(text: str) -> str:
    """Replace each character that the fonts cannot draw, or that is invisible, by its code point: ⟨U+4E2D⟩.

    The compiler drops such characters without a warning; two different ids could then look alike.
    """
    return "".join(
        c if ord(c) in _drawable() and unicodedata.category(c)[0] != "C" else f"⟨U+{ord(c):04X}⟩" for c in text
    )


def _printable(data: Any) -> Any:
    if isinstance(data, str):
        return show_missing_glyphs(data)
    if isinstance(data, dict):
        return {key: _printable(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_printable(value) for value in data]
    return data


def typeset(template: str, data: dict[str, Any], figures: dict[str, bytes], destination: Path) -> Path:
    """Compile `templates/<template>.typ` to the PDF `destination` (tagged, PDF/UA-1).

    data: what the template reads as `data.json`; every string is printed as it is, missing glyphs as escapes.
    figures: file name -> content, beside the template.

    Raises ValueError where the template or a figure does not compile, with Typst's own message.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for source in TEMPLATES.glob("*.typ"):
            (root / source.name).write_bytes(source.read_bytes())
        for name, content in figures.items():
            (root / name).write_bytes(content)
        text = json.dumps(_printable(data), ensure_ascii=False, allow_nan=False)
        (root / "data.json").write_text(text, encoding="utf-8")
        compiler = typst.Compiler(root / f"{template}.typ", root=root, font_paths=_fonts())
        try:
            # A fixed date: a report is a function of its input, not of the day it was printed.
            pdf, complaints = compiler.compile_with_warnings(format="pdf", pdf_standards=["ua-1"], timestamp=0)
        except typst.TypstError as error:
            raise ValueError(f"{destination.name}: template {template}.typ does not compile: {error}") from error
    for complaint in complaints:
        warnings.warn(f"{destination.name}: {complaint.message}", stacklevel=2)
    write_bytes(destination, pdf)
    return destination
