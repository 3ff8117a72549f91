"""Several studies in one figure: a column for each, a row for each of its panels (the paper's Figure 5, a to f)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from adni_tcgm.files import whole_file
from reports.figures import STYLE
from reports.study import Study, draw_panel, label_figure, line_styles, load_study, modality_title


def write_panels(folders: Sequence[Path], out: Path) -> list[Path]:
    """Write OUT.png and OUT.svg from the tables of finished studies; their paths. Raises as `load_study` does."""
    studies = [load_study(folder) for folder in folders]
    written = [out.with_name(out.name + ending) for ending in (".png", ".svg")]
    with matplotlib.rc_context({**STYLE, "svg.fonttype": "path", "font.family": "DejaVu Sans", "font.size": 8}):
        for file in written:
            metadata = {"Date": None} if file.suffix == ".svg" else {}
            with whole_file(file) as partial:
                draw_studies(studies).savefig(partial, dpi=200, metadata=metadata)
    return written


def draw_studies(studies: Sequence[Study]) -> Figure:
    """Panels of one row share their scale. The methods and label rates are those of the first study."""
    first, rows = studies[0], list(zip_longest(*(study.panels for study in studies)))
    styles, below = line_styles(first), 1.05
    figure = Figure(figsize=(7.1, len(rows) * 2.45 + below))
    axes = figure.subplots(len(rows), len(studies), sharey="row", squeeze=False)
    for line, names in zip(axes, rows, strict=True):
        for panel, study, name in zip(line, studies, names, strict=True):
            panel.set_visible(name is not None)
            if name is not None:
                draw_panel(panel, study, name, styles)
                panel.set_title(f"{study.about['name']}: {modality_title(name)}", loc="left", weight="bold")
    label_figure(figure, first, styles, len(studies), below)
    return figure
