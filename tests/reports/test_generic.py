from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reports.__main__ import main
from reports.generic import describe_generic, is_generic, load_generic, tabulate_agreement, write_generic

CLASSES = ("cats & dogs", "#birds", "魚")
MODALITIES = ("text", "sound")


def write_run(folder: Path, choices: dict[str, list[int]], rate: float = 0.1, dataset: str = "animals") -> Path:
    """Nine test samples, three of each class; `choices`: modality -> the class that it gives each. 8 has no sound."""
    labels, rows = np.arange(9) % 3, []
    for modality, chosen in choices.items():
        for sample, choice in enumerate(chosen):
            p = np.full(3, 0.1)
            p[choice] = 0.8
            present = not (modality == "sound" and sample == 8)
            rows.append([f"s{sample}", "test", modality, *p, *p, CLASSES[labels[sample]], present])
    columns = [f"{kind}{name}" for kind in ("p_", "p_calibrated_") for name in CLASSES]
    folder.mkdir(parents=True)
    table = pd.DataFrame(rows, columns=["sample_id", "split", "modality", *columns, "label", "present"])
    table = table.assign(**{f"log_{name}": np.log(table[name].astype(float)) for name in columns})
    table.to_csv(folder / "predictions.tsv", sep="\t", index=False)
    history = pd.DataFrame({"round": [10, 20, 30], "gain": [0, 0.1, 0.2], "validation_loss": [1.1, 0.8, 0.9]})
    history.to_csv(folder / "history.tsv", sep="\t", index=False)
    scores = dict.fromkeys(("accuracy", "balanced_accuracy", "auc", "log_loss", "brier"), 0.5)
    metrics = {"dataset": dataset, "simulated": False, "method": "tcgm", "features": None, "label_rate": rate}
    metrics |= {"seed": 0, "n": {"train": 30, "validation": 9, "test": 9}}
    metrics |= {"labels": {"train_visible": 3, "validation": 9}, "test": dict.fromkeys(choices, scores), "bayes": None}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


TRUE = [0, 1, 2] * 3
CHOICES = {"text": [0, 1, 2, 0, 1, 2, 1, 0, 0], "sound": [0, 1, 2, 0, 2, 0, 0, 0, 2], "all": TRUE}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "runs" / "animals-tcgm", CHOICES)


def test_agreement_counts_only_samples_that_have_both(run: Path):
    row = tabulate_agreement(load_generic(run))[0]
    assert (row["pair"], row["n"]) == ("text, sound", "8")
    # Of s0..s7 the same choice in s0, s1, s2, s3 and s7; text alone is right in s4 and s5, sound alone in s6.
    assert (row["same"], row["first"], row["second"], row["neither"]) == ("62 %", "2", "1", "1")


def test_each_modality_is_judged_on_the_samples_that_have_it(run: Path):
    rows = {row["modality"]: row["n"] for row in describe_generic([load_generic(run)])[0]["runs"][0]["metrics"]}
    assert rows == {"text": "9", "sound": "8", "all modalities": "9"}


def test_label_rates_are_drawn_from_two_on(run: Path, tmp_path: Path):
    other = write_run(tmp_path / "runs" / "animals-tcgm-30", CHOICES, rate=0.3)
    one, both = (describe_generic([load_generic(f) for f in folders]) for folders in ([run], [run, other]))
    assert not one[0]["rates"] and "rates.svg" not in one[1]
    assert both[0]["rates"] and b"30 %" in both[1]["rates.svg"]


def test_the_command_knows_a_generic_run_and_writes_its_pdf(run: Path, tmp_path: Path, capsys):
    assert is_generic(run)
    assert main([str(run), "--out", str(tmp_path / "pdf")]) == 0
    assert (tmp_path / "pdf" / "animals.pdf").read_bytes().startswith(b"%PDF")
    assert "animals.pdf" in capsys.readouterr().out


def test_the_same_run_gives_the_same_bytes(run: Path, tmp_path: Path):
    first, second = (write_generic([run], tmp_path / name).read_bytes() for name in ("a", "b"))
    assert first == second


def test_runs_of_two_data_sets_are_not_mixed(run: Path, tmp_path: Path):
    other = write_run(tmp_path / "runs" / "plants", CHOICES, dataset="plants")
    with pytest.raises(ValueError, match="2 data sets: animals, plants"):
        describe_generic([load_generic(run), load_generic(other)])


def test_a_run_of_brains_is_not_generic(outputs: Path):
    assert not is_generic(outputs / "runs" / "regions-tcgm-r0.1-s0")
