"""Emotion through the same commands as everything else: configurations, missing modalities, a study and its figure."""

from __future__ import annotations

import json
from dataclasses import replace
from math import nan
from pathlib import Path

import pytest
import torch

from adni_tcgm.storage import load_run
from adni_tcgm.tcgm.batch import MultimodalBatch, Splits
from adni_tcgm.tcgm.trainer import fit, predict
from pipelines import run, study
from pipelines.command_line import parse
from pipelines.config import load_settings
from pipelines.grid import Outcome, Task
from pipelines.training import train_run
from reports.panels import draw_studies
from reports.study import draw_label_rates, load_study

METHODS = ("ce", "soft_hgr", "lmf", "tcgm")
OTHERS = ("vat", "pairwise", "freematch", "mean_teacher")
TINY = {"data.stand_in.scale": 0.04, "data.label_rate": 0.2, "train.steps": 6}
TINY |= {"train.supervised_steps": 2, "train.validate_every": 3}
FLAGS = [flag for key, value in TINY.items() if key != "data.label_rate" for flag in ("--set", f"{key}={value}")]


@pytest.mark.parametrize(
    ("name", "audio", "video", "text", "dropout", "rank"),
    [
        ("iemocap_angry", 8, 4, 64, (0.3, 0.1, 0.15), 8),
        ("iemocap_sad", 8, 4, 128, (0, 0, 0), 4),
        ("iemocap_happy", 4, 16, 128, (0.3, 0.1, 0.5), 1),
        ("iemocap_neutral", 32, 8, 64, (0.2, 0.5, 0.2), 16),
    ],
)
def test_networks_have_the_sizes_published_for_lmf(name, audio, video, text, dropout, rank) -> None:
    settings = load_settings(name, {})
    nets = settings.classifier()
    assert [nets[m].hidden for m in ("audio", "video", "text")] == [audio, video, text]
    assert tuple(nets[m].dropout for m in ("audio", "video", "text")) == dropout
    lmf = settings.method("lmf")
    assert (lmf.rank, lmf.dimension, lmf.classifier) == (rank, None, nets)
    assert settings.simulated and settings.data.task == name.split("_")[1]


@pytest.mark.parametrize("name", ["iemocap_happy", "mosi"])
def test_rates_and_batches_are_those_of_the_paper(name: str) -> None:
    for method in METHODS:
        train = load_settings(name, {}).train_for(method)
        assert (train.lr_unlabeled, train.lr_labeled) == (1e-4, 1e-3)
        assert train.batch_size_labeled == train.batch_size_unlabeled == 32


def without(batch: MultimodalBatch, losses: dict[int, str], filling: float) -> MultimodalBatch:
    """The samples of `losses` have lost a modality each; whatever stands in its place must never be read."""
    present, inputs = batch.present.clone(), {key: values.clone() for key, values in batch.inputs.items()}
    for row, name in losses.items():
        present[row, list(inputs).index(name)] = False
        inputs[name][row] = filling
    return replace(batch, present=present, inputs=inputs)


@pytest.fixture(scope="module")
def splits() -> Splits:
    return load_settings("iemocap_angry", TINY).load(0)


@pytest.mark.parametrize("method", METHODS)
def test_samples_may_lack_any_modality_in_training_and_in_prediction(splits: Splits, method: str) -> None:
    settings = load_settings("iemocap_angry", TINY)
    names = ("text", "audio", "video")
    labeled = (splits.train.labels >= 0).nonzero().squeeze(1).tolist()
    missing = {"train": dict(zip(labeled, names, strict=False)), "test": dict(enumerate(names, 1))}
    assert len(missing["train"]) == 3
    found = []
    for filling in (0.0, nan):
        parts = {part: without(getattr(splits, part), losses, filling) for part, losses in missing.items()}
        fitted = fit(settings.method(method), replace(splits, **parts), settings.train_for(method))
        found.append((predict(fitted, parts["test"]), fitted))
    (zeros, fitted), (nans, _) = found
    for key, values in zeros.items():
        assert values.isfinite().all()
        torch.testing.assert_close(values, nans[key])
    for row, name in missing["test"].items():
        if name in zeros:
            torch.testing.assert_close(zeros[name][row], fitted.prior)
            assert not torch.allclose(zeros[name][0], fitted.prior)


@pytest.mark.parametrize("method", OTHERS)
def test_every_other_method_trains_on_words_and_vectors_too(splits: Splits, method: str) -> None:
    settings = load_settings("iemocap_angry", TINY)
    fitted = fit(settings.method(method), splits, settings.train_for(method))
    assert all(values.isfinite().all() for values in predict(fitted, splits.test).values())


def test_a_batch_in_which_one_sample_has_the_modality_trains(splits: Splits) -> None:
    settings = load_settings("iemocap_angry", TINY | {"train.batch_size_labeled": 4})
    train = splits.train
    for row in (train.labels >= 0).nonzero().squeeze(1).tolist()[1:]:
        train = without(train, {row: "audio"}, nan)
    fitted = fit(settings.method("tcgm"), replace(splits, train=train), settings.train_for("tcgm"))
    assert predict(fitted, splits.test)["audio"].isfinite().all()


def test_the_command_runs_the_stand_in_and_says_simulated(tmp_path: Path, capsys) -> None:
    flags = ["--label-rate", "0.2", "--out", str(tmp_path), *FLAGS]
    assert run.main(["mosi", "--method", "tcgm", *flags]) == 0
    assert "SIMULATED" in capsys.readouterr().out
    metrics = load_run(tmp_path / "runs" / "mosi-tcgm-r0.2-s0").metrics
    assert metrics["simulated"] and list(metrics["test"]) == ["text", "audio", "video", "all"]


def test_agreement_within_speakers_runs_and_differs(tmp_path: Path) -> None:
    weights = []
    for within in (False, True):
        settings = load_settings("iemocap_angry", TINY | {"methods.tcgm.within_nuisance_groups": within})
        splits = settings.load(0)
        assert set(splits.train.nuisance_groups) == {"Ses01F", "Ses01M", "Ses02F", "Ses02M", "Ses03F", "Ses03M"}
        train = replace(settings.train_for("tcgm"), batch_size_unlabeled=len(splits.train))
        # The last step's weights, whichever are best on validation.
        splits = replace(splits, validation=splits.validation.select(torch.tensor([], dtype=torch.long)))
        weights.append(fit(settings.method("tcgm"), splits, train).model.state_dict())
    assert any(not torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_an_encoder_with_a_wrong_key_or_for_no_modality_is_refused_before_anything_runs() -> None:
    with pytest.raises(ValueError, match=r"encoders.text: unknown key 'hiden'; did you mean 'hidden'"):
        load_settings("mosi", {"encoders.text.hiden": 3})
    with pytest.raises(ValueError, match="encoders names no modality"):
        load_settings("mosi", {"encoders": {}})


def test_a_modality_without_an_encoder_is_named(splits: Splits) -> None:
    settings = load_settings("iemocap_angry", TINY | {"encoders": {"text": {}, "audio": {}}})
    with pytest.raises(ValueError, match="no network for modality 'video'; there are settings for text, audio"):
        fit(settings.method("ce"), splits, settings.train_for("ce"))


def train_here(task: Task) -> Path:
    return train_run(task.runs, task.settings, task.method, task.seed, progress=False)


def grid(tasks, **_) -> list[Outcome]:
    return [Outcome(task, train_here(task)) for task in tasks]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("studies")
    flags = ["--methods", "ce,tcgm", "--label-rates", "0.4", "--seeds", "1", "--out", str(out), *FLAGS]
    names = ["iemocap_happy", "iemocap_angry", "iemocap_neutral"]
    assert study.run_all(parse("study", [*names, *flags]), grid) == 0
    mosi = parse("study", ["mosi", *flags[: -len(FLAGS) - 1], str(out / "mosi"), *FLAGS])
    assert study.run_all(mosi, grid) == 0
    return out


def titles(figure) -> list[str]:
    return [panel.get_title(loc="left") for panel in figure.axes if panel.get_visible()]


def test_a_study_of_mosi_draws_the_three_panels_of_figure_5(studies: Path) -> None:
    assert titles(draw_label_rates(load_study(studies / "mosi"))) == ["all modalities", "video", "audio"]
    assert json.loads((studies / "mosi" / "study.json").read_text())["metric"] == "auc"
    # The table keeps what the plot leaves out.
    assert "| method | text | audio | video | all |" in (studies / "mosi" / "table.md").read_text()


def test_studies_of_three_emotions_draw_the_six_panels_of_figure_5(studies: Path) -> None:
    names = ["iemocap_happy", "iemocap_angry", "iemocap_neutral"]
    found = titles(draw_studies([load_study(studies / name) for name in names]))
    aggregators = [f"{name}: all modalities" for name in names]
    assert found == [*aggregators, "iemocap_happy: text", "iemocap_angry: video", "iemocap_neutral: audio"]
    for ending in (".png", ".svg"):
        assert (studies / ("-".join(names) + ending)).stat().st_size > 10_000
