from __future__ import annotations

import json
import re
import shutil
import subprocess
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from pypdf import PdfReader

from reports.study import (
    best_method,
    describe_study,
    draw_label_rates,
    line_styles,
    load_study,
    show_cell,
    write_markdown,
    write_study_report,
)
from reports.typesetting import typeset

METHODS = ("ce", "soft_hgr", "pvcc", "tcgm")
MEANS = {"ce": 0.70, "soft_hgr": 0.75, "pvcc": 0.72, "tcgm": 0.80}


def write_tables(folder: Path, methods=METHODS, simulated: bool = True, metric: str = "accuracy") -> Path:
    folder.mkdir(parents=True)
    rows = []
    for method in methods:
        for rate in (0.1, 0.3):
            # Soft-HGR predicts from all modalities together only.
            for modality in ("all",) if method == "soft_hgr" else ("all", "text", "sound"):
                n = 4 if method == "ce" else 5
                rows.append(["toy", method, rate, modality, "accuracy", MEANS.get(method, 0.5) + rate / 10, 0.021, n])
                rows.append(["toy", method, rate, modality, "log_loss", 1 - MEANS.get(method, 0.5), 0.0321, n])
    columns = ["dataset", "method", "label_rate", "modality", "metric", "mean", "std", "n"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "table.tsv", sep="\t", index=False)
    differences = [[0.1, metric, "tcgm", "ce", 0.1, 0.04, 0.15, 0.0004, "tcgm better", 4]]
    differences.append([0.1, metric, "tcgm", "pvcc", -0.01, -0.05, 0.03, 0.6, "no difference shown", 5])
    columns = ["label_rate", "metric", "reference", "method", "estimate", "low", "high", "p_holm", "verdict", "seeds"]
    pd.DataFrame(differences, columns=columns).to_csv(folder / "differences.tsv", sep="\t", index=False)
    choices = [(0, 0.01, 0.3, "yes"), (0, 0.001, 0.4, "no"), (1, 0.01, 0.5, "yes"), (1, 0.001, 0.7, "no")]
    tuning = [["tcgm", 0.1, seed, 0.01, u, loss, c, ""] for seed, u, loss, c in choices]
    tuning += [["tcgm", 0.1, seed, 0.1, 0.1, np.nan, "no", "labeled loss is nan"] for seed in (0, 1)]
    columns = ["method", "label_rate", "seed", "lr_labeled", "lr_unlabeled", "validation_log_loss", "chosen", "failure"]
    pd.DataFrame(tuning, columns=columns).to_csv(folder / "tuning.tsv", sep="\t", index=False)
    failures = [["ce at label rate 0.1, seed 3", "ce", 0.1, 3, "labeled loss of step 7 is nan"]]
    columns = ["run", "method", "label_rate", "seed", "reason"]
    pd.DataFrame(failures, columns=columns).to_csv(folder / "failures.tsv", sep="\t", index=False)
    budget = [
        {"label_rate": rate, "train_visible": visible, "validation": [100, 100]}
        | {"n_train": [300, 300], "n_validation": [100, 100], "n_test": [100, 100]}
        for rate, visible in ((0.1, [30, 30]), (0.3, [88, 91]))
    ]
    about = {"name": "toy", "dataset": "toy", "simulated": simulated, "brains": False, "features": None}
    about |= {"classes": ["a", "b"], "methods": list(methods), "not_trained": ["pvcc"], "label_rates": [0.1, 0.3]}
    about |= {"seeds": [0, 1, 2, 3, 4], "metric": metric, "reference": "tcgm", "budget": budget, "tuned": True}
    about |= {"runs": {"planned": 40, "finished": 38}, "when": "2026-01-31"}
    (folder / "study.json").write_text(json.dumps(about))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = write_tables(tmp_path_factory.mktemp("studies") / "toy")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_study_report(folder)
    return folder


@pytest.fixture(scope="module")
def pdf_text(folder) -> str:
    if not shutil.which("pdftotext"):
        pytest.skip("pdftotext is not installed")
    command = ["pdftotext", "-layout", folder / "study.pdf", "-"]
    return " ".join(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_a_report_is_markdown_plot_and_pdf(folder):
    assert {path.name for path in folder.iterdir()} >= {"table.md", "plot.png", "plot.svg", "study.pdf"}
    assert (folder / "study.pdf").read_bytes().startswith(b"%PDF")


def test_the_markdown_has_a_table_for_each_label_rate(folder):
    lines = (folder / "table.md").read_text(encoding="utf-8").splitlines()
    first = lines.index("## Label rate 10 %")
    assert lines[first + 4 : first + 7] == [
        "| method | text | sound | all |",
        "| --- | --- | --- | --- |",
        "| CE | 71.0 ± 2.1 (n = 4) | 71.0 ± 2.1 (n = 4) | 71.0 ± 2.1 (n = 4) |",
    ]
    assert "| Soft-HGR | – | – | 76.0 ± 2.1 |" in lines
    assert "| TCGM | 83.0 ± 2.1 | 83.0 ± 2.1 | 83.0 ± 2.1 |" in lines[lines.index("## Label rate 30 %") :]


def test_the_markdown_states_label_budget_and_simulation(folder):
    text = (folder / "table.md").read_text(encoding="utf-8")
    assert "**SIMULATED data.**" in text
    assert "30 visible labels among 300 training samples and 100 labeled validation samples" in text
    assert "88 to 91 visible labels" in text


def test_a_study_of_brains_says_what_was_done_about_sites(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "brains")
    about = json.loads((folder / "study.json").read_text())
    about |= {"brains": True, "features": "regions", "adjustment": {"harmonize": "site", "adjust": "none"}}
    (tmp_path / "brains" / "study.json").write_text(json.dumps(about))
    markdown = write_markdown(load_study(tmp_path / "brains"))
    assert "taken out by ComBat" in markdown
    assert "ComBat" not in write_markdown(load_study(folder))


def test_the_markdown_shows_estimate_interval_and_verdict(folder):
    text = (folder / "table.md").read_text(encoding="utf-8")
    assert "| 10 % | TCGM − CE | +10.0 (+4.0 to +15.0) | < .001 | TCGM better |" in text
    assert "| 10 % | TCGM − PVCC | −1.0 (−5.0 to +3.0) | 0.600 | no difference shown |" in text


def test_the_pdf_names_methods_budget_failures_and_rates(pdf_text):
    for title in ("CE", "Soft-HGR", "PVCC †", "TCGM", "SIMULATED DATA", "38 of 40 runs finished"):
        assert title in pdf_text
    assert "30 visible labels among 300 training samples and 100 labeled validation samples" in pdf_text
    assert "labeled loss of step 7 is nan" in pdf_text
    assert "Chosen for each seed by its validation people, at label rate 10 %" in pdf_text
    assert "TCGM 0.01 0.01 0.400 2 of 2 TCGM 0.01 0.001 0.550 TCGM 0.1 0.1 failed" in pdf_text


def test_real_data_are_not_called_simulated(tmp_path):
    study = load_study(write_tables(tmp_path / "real", simulated=False))
    assert "SIMULATED" not in write_markdown(study)
    assert "SIMULATED" not in {text.get_text() for text in draw_label_rates(study).texts}
    assert describe_study(study)["simulated"] is False


def test_losses_have_three_decimals_and_the_lowest_is_best(tmp_path):
    study = load_study(write_tables(tmp_path / "loss", metric="log_loss"))
    assert show_cell(study, "tcgm", 0.1, "all") == "0.200 ± 0.032"
    assert best_method(study, 0.1, "all") == "tcgm"


def test_the_combined_prediction_is_the_last_column(folder):
    assert load_study(folder).modalities == ["text", "sound", "all"]


def test_ten_methods_have_lines_that_differ(folder):
    study = load_study(folder)
    names = ["tcgm", *(f"method{i}" for i in range(10))]
    styles = line_styles(replace(study, about=study.about | {"methods": names}))
    looks = {(style["color"], style["marker"], str(style.get("ls"))) for style in styles.values()}
    assert len(looks) == len(names)
    # Nothing hangs on color alone.
    assert len({styles[name]["marker"] for name in names[:9]}) == 9


def test_the_plot_has_a_panel_per_modality_and_says_how_many_labels(folder):
    figure = draw_label_rates(load_study(folder))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["text", "sound", "all modalities"]
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["10 %\n(30)", "30 %\n(88 to 91)"]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["CE", "Soft-HGR", "PVCC", "TCGM"]


def test_error_bars_are_one_standard_deviation(folder):
    panel = draw_label_rates(load_study(folder)).axes[2]
    bars = panel.containers[0].lines[2][0].get_segments()
    low, high = bars[0][:, 1]
    assert (high - low) / 2 == pytest.approx(2.1)
    assert (high + low) / 2 == pytest.approx(71)


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_nothing_is_drawn_over_the_edge_of_the_plot(tmp_path, metric):
    write_study_report(write_tables(tmp_path / "toy", metric=metric))
    image = imread(tmp_path / "toy" / "plot.png")[..., :3]
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    assert (border > 0.99).all()


def test_the_same_tables_give_the_same_bytes(folder, tmp_path):
    again = write_tables(tmp_path / "toy")
    write_study_report(again)
    for name in ("table.md", "plot.svg", "study.pdf"):
        assert (again / name).read_bytes() == (folder / name).read_bytes(), name


def test_names_are_printed_and_never_run(tmp_path):
    hostile = '#panic("owned") | $x$ *b*'
    folder = write_tables(tmp_path / "hostile", methods=("ce", "tcgm", hostile))
    write_study_report(folder)
    row = next(line for line in (folder / "table.md").read_text().splitlines() if "panic" in line)
    assert len(re.split(r"(?<!\\)\|", row)) == 6


def test_a_folder_without_a_study_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a finished study: it has no study.json"):
        write_study_report(tmp_path)


def test_a_table_however_long_stands_on_the_page_of_its_heading_and_of_what_is_said_of_it(folder, tmp_path):
    study = describe_study(load_study(folder))
    drawn = {"plot.svg": (folder / "plot.svg").read_bytes()}
    for rows in range(1, 25, 2):  # of some 4 mm each: the page ends somewhere among them
        longer = study | {"tuning": (study["tuning"] * rows)[:rows], "failures": []}
        pdf = PdfReader(typeset("study", longer, drawn, tmp_path / "study.pdf"))
        pages = [" ".join(page.extract_text().split()) for page in pdf.pages]
        for heading, note in (
            ("Learning rates, chosen", "Chosen for each seed"),
            ("Paired diff", "t intervals of paired"),
        ):
            (page,) = (page for page in pages if note in page)
            assert heading in page, rows
