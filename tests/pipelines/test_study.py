from __future__ import annotations

import json
import signal
from pathlib import Path

import distributed
import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from adni_tcgm.storage import load_run
from adni_tcgm.tcgm.trainer import TrainConfig
from pipelines import grid as engine
from pipelines import study
from pipelines.command_line import parse
from pipelines.comparison import choose_reference, compare_methods, summarize_seeds, tabulate_seeds
from pipelines.config import load_settings
from pipelines.grid import Outcome, Task, run_grid, train_alone
from pipelines.tuning import Rates, candidates, choose_rates, chosen_overrides, held_out_log_loss

CLASSES = ("ant", "bee", "cow")
PREFIXES = ("p_", "p_calibrated_", "log_p_", "log_p_calibrated_")
SIZE = 30


def write_run(
    folder: Path, method: str, seed: int, correct: float, label_rate: float = 0.1, log_loss: float = 0.5, order=None
) -> Path:
    """A run folder of 30 test samples in three classes, the first share `correct` of them predicted rightly."""
    folder.mkdir(parents=True)
    labels = np.arange(SIZE) % 3
    right = np.arange(SIZE) < correct * SIZE
    guess = np.where(right, labels, (labels + 1) % 3)
    posterior = np.where(np.eye(3, dtype=bool)[guess], 0.8, 0.1)
    rows = []
    for sample in range(SIZE) if order is None else order:
        for modality in ("one", "two", "all"):
            values = posterior[sample]
            rows.append([f"sample{sample}", "test", modality, *values, *values, *np.log(values), *np.log(values)])
            rows[-1] += [CLASSES[labels[sample]], True]
    names = [f"{prefix}{name}" for prefix in PREFIXES for name in CLASSES]
    columns = ["sample_id", "split", "modality", *names, "label", "present"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "predictions.tsv", sep="\t", index=False)
    pd.DataFrame({"sample_id": [], "group_id": [], "split": [], "label": [], "label_visible": []}).to_csv(
        folder / "splits.tsv", sep="\t", index=False
    )
    history = pd.DataFrame({"round": [10, 20], "seconds": [6.0, 12.0], "validation_loss": [log_loss + 0.1, log_loss]})
    history.to_csv(folder / "history.tsv", sep="\t", index=False)
    scores = {"accuracy": right.mean(), "balanced_accuracy": right.mean(), "auc": 0.9, "log_loss": log_loss}
    metrics = {"dataset": "toy", "simulated": True, "method": method, "features": None, "label_rate": label_rate}
    metrics |= {"seed": seed, "n": {"train": 90, "validation": 30, "test": SIZE}, "bayes": None}
    metrics |= {"labels": {"train_visible": round(90 * label_rate), "validation": 30}}
    metrics |= {"test": dict.fromkeys(("one", "two", "all"), scores | {"brier": None})}
    metrics |= {"validation": {"all": {"log_loss": log_loss}}}
    (folder / "config.yaml").write_text("{}")
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def fake_run(task: Task) -> Path:
    """Stands in for a training: writes a run, unless the method is vat, which fails."""
    if task.method == "vat":
        raise ValueError("labeled loss of step 7 is nan")
    folder = task.runs / f"{task.method}-r{task.label_rate:g}-s{task.seed}"
    if not folder.exists():
        correct = {"tcgm": 0.9, "ce": 0.5}.get(task.method, 0.4) + 0.1 * (task.seed % 2)
        write_run(folder, task.method, task.seed, correct, task.label_rate)
    return folder


class FakeGrid:
    """The grid in this process: `train` for every task; remembers the tasks."""

    def __init__(self, train=fake_run) -> None:
        self.train, self.tasks = train, []

    def __call__(self, tasks, *, jobs, scheduler, title) -> list[Outcome]:
        self.tasks += tasks
        return [self.outcome(task) for task in tasks]

    def outcome(self, task: Task) -> Outcome:
        try:
            return Outcome(task, self.train(task))
        except ValueError as error:
            return Outcome(task, None, str(error))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Two views of two classes, as a new user would hand them in."""
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], 30)
    views = {name: labels[:, None] + generator.normal(0, 0.5, (60, 3)) for name in ("left", "right")}
    np.savez(tmp_path / "toy.npz", labels=labels, **views)
    data = {"path": str(tmp_path / "toy.npz"), "views": {name: name for name in views}}
    train = {"steps": 4, "supervised_steps": 1, "validate_every": 2, "lr_labeled": 0.01, "lr_unlabeled": 0.005}
    file = tmp_path / "toy.yaml"
    file.write_text(yaml.safe_dump({"dataset": "arrays", "data": data, "net": "linear", "train": train}))
    return file


def call(config: Path, out: Path, *flags: str, grid=None) -> int:
    arguments = parse("study", [str(config), "--out", str(out), "--jobs", "2", *flags])
    return study.run_all(arguments, grid or FakeGrid())


def task_of(config: Path, out: Path, method: str, seed: int = 0) -> Task:
    return Task(out, load_settings(str(config), {"data.label_rate": 0.1}), method, 0.1, seed)


# The engine


def test_a_failing_run_is_an_outcome_and_stops_no_other(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    from stub_runs import leave_a_note

    tasks = [Task(tmp_path, None, method, 0.1, seed) for seed in (0, 1) for method in ("vat", "ce")]
    outcomes = run_grid(tasks, jobs=2, train=leave_a_note)
    assert [outcome.task for outcome in outcomes] == tasks
    assert [outcome.failure for outcome in outcomes] == ["labeled loss of step 7 is nan", None] * 2
    assert [(o.run_dir / "seed").read_text() for o in outcomes if o.run_dir] == ["0", "1"]


def test_a_scheduler_that_does_not_answer_is_named(config, tmp_path, monkeypatch):
    def refuse(address, timeout):
        raise OSError("timed out")

    monkeypatch.setattr(distributed, "Client", refuse)
    with pytest.raises(ValueError, match="--scheduler tcp://nowhere:1: no Dask scheduler answers"):
        run_grid([task_of(config, tmp_path, "ce")], jobs=1, scheduler="tcp://nowhere:1", train=fake_run)


def test_an_unexpected_error_keeps_its_name_in_one_line():
    assert engine._sentence(KeyError("a\nb")) == "KeyError: 'a\\nb'"
    assert engine._sentence(RuntimeError("two\nlines")) == "RuntimeError: two lines"


def test_the_same_command_again_trains_nothing(config, tmp_path):
    flags = ("--methods", "ce,tcgm", "--seeds", "1", "--label-rates", "0.1", "--device", "cpu")
    assert call(config, tmp_path / "out", *flags, grid=FakeGrid(train_alone)) == 0
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").rglob("*")}
    assert call(config, tmp_path / "out", *flags, grid=FakeGrid(train_alone)) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").rglob("*")} == files
    assert len(list((tmp_path / "out" / "runs").glob("*/metrics.json"))) == 2


def test_workers_ignore_the_interrupt_that_this_process_obeys():
    before = signal.getsignal(signal.SIGINT)
    with engine._deaf_to_interrupts():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupted_study_says_how_to_go_on(config, tmp_path, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "run", interrupt)
    assert study.main([str(config), "--out", str(tmp_path / "out")]) == 130
    assert "the same command continues" in capsys.readouterr().err


# Tuning


def test_the_configured_rates_come_first_of_at_most_four():
    for train in (TrainConfig(lr_labeled=1e-2, lr_unlabeled=1e-4), TrainConfig(lr_labeled=1e-3, lr_unlabeled=3e-3)):
        pairs = candidates("tcgm", train)
        assert pairs[0] == Rates(train.lr_labeled, train.lr_unlabeled)
        assert len(pairs) == len(set(pairs)) == 4


def test_every_pair_of_the_paper_can_be_chosen_from_equal_rates():
    for pair in (Rates(1e-2, 1e-4), Rates(1e-3, 1e-4), Rates(1e-3, 1e-3)):
        assert pair in candidates("tcgm", TrainConfig(lr_labeled=pair.lr_labeled, lr_unlabeled=pair.lr_labeled))


def test_a_smaller_labeled_rate_is_always_tried():
    pairs = candidates("tcgm", TrainConfig(lr_labeled=1e-2, lr_unlabeled=3e-3))
    assert min(pair.lr_labeled for pair in pairs) == 1e-3


def test_methods_without_an_unlabeled_step_vary_the_labeled_rate_alone():
    pairs = candidates("ce", TrainConfig(lr_labeled=1e-2, lr_unlabeled=5e-3))
    assert [pair.lr_labeled for pair in pairs] == [0.01, 0.1, 0.001, 0.0001]
    assert {pair.lr_unlabeled for pair in pairs} == {0.005}


def test_a_method_without_gradient_steps_is_not_tuned():
    assert candidates("pvcc", TrainConfig()) == []


def tuning_outcomes(config, root: Path, losses: list[float | None]) -> list[tuple[Rates, Outcome]]:
    outcomes = []
    for place, loss in enumerate(losses):
        task = task_of(config, root, "tcgm", 1000)
        folder = None if loss is None else write_run(root / str(place), "tcgm", 1000, 0.5, log_loss=loss)
        outcomes.append((Rates(0.01, 0.1**place), Outcome(task, folder, None if folder else "the loss is nan")))
    return outcomes


def test_the_lowest_validation_log_loss_is_chosen_and_every_pair_listed(config, tmp_path):
    table = choose_rates(tuning_outcomes(config, tmp_path, [0.5, 0.3, None, 0.4]))
    assert list(table["chosen"]) == ["no", "yes", "no", "no"]
    assert list(table["validation_log_loss"])[:2] == [0.5, 0.3]
    assert table["failure"].iloc[2] == "the loss is nan"
    assert chosen_overrides(table, 7) == {}
    assert chosen_overrides(table, 1000) == {
        "methods.tcgm.train.lr_labeled": 0.01,
        "methods.tcgm.train.lr_unlabeled": 0.1,
    }


def test_tuning_never_reads_the_test_split(config, tmp_path):
    outcomes = tuning_outcomes(config, tmp_path, [0.5, 0.3, 0.4])
    before = choose_rates(outcomes)
    for place, (_, outcome) in enumerate(outcomes):
        metrics = json.loads((outcome.run_dir / "metrics.json").read_text())
        metrics["test"] = {"all": {"accuracy": 1.0 - place, "log_loss": float(place)}}
        (outcome.run_dir / "metrics.json").write_text(json.dumps(metrics))
        predictions = pd.read_csv(outcome.run_dir / "predictions.tsv", sep="\t")
        predictions[predictions["split"] != "test"].to_csv(outcome.run_dir / "predictions.tsv", sep="\t", index=False)
    pd.testing.assert_frame_equal(choose_rates(outcomes), before)


def test_tuning_says_which_method_has_no_pair_left(config, tmp_path):
    with pytest.raises(ValueError, match="tuning tcgm: every pair .* the loss is nan"):
        choose_rates(tuning_outcomes(config, tmp_path, [None, None]))


def test_the_chosen_rates_reach_the_runs_of_that_method_alone(config, tmp_path):
    def train(task):
        folder = task.runs / f"{task.method}-{task.label_rate}-{task.seed}"
        # The smaller the labeled rate, the better on validation.
        loss = task.settings.train_for(task.method).lr_labeled * (1 - 2 * task.seed)
        return write_run(folder, task.method, task.seed, 0.5, task.label_rate, log_loss=loss)

    grid = FakeGrid(train)
    flags = (
        "--methods",
        "ce,tcgm,pvcc",
        "--seeds",
        "2",
        "--label-rates",
        "0.3,0.1",
        "--tune",
        "--set",
        "protocol=paper",
    )
    assert call(config, tmp_path / "out", *flags, grid=grid) == 0
    tuned = [task for task in grid.tasks if "tuning" in task.runs.parts]
    assert {task.method for task in tuned} == {"ce", "tcgm"} and {task.seed for task in tuned} == {0, 1}
    assert {(task.label_rate, task.settings.data.label_rate) for task in tuned} == {(0.1, 0.1)}
    found = {(t.method, t.seed, t.settings.train_for(t.method).lr_labeled) for t in grid.tasks if t not in tuned}
    # In seed 1 the larger one is better, and it is that seed alone that hears of it.
    assert found == {
        *(("ce", 0, 0.0001), ("tcgm", 0, 0.001), ("pvcc", 0, 0.01)),
        *(("ce", 1, 0.1), ("tcgm", 1, 0.01), ("pvcc", 1, 0.01)),
    }
    chosen = pd.read_csv(tmp_path / "out" / "tuning.tsv", sep="\t").query("chosen == 'yes'")
    assert list(zip(chosen["method"], chosen["seed"], strict=True)) == [("ce", 1), ("ce", 0), ("tcgm", 1), ("tcgm", 0)]


def test_visible_labels_choose_where_no_others_are_looked_at_if_there_are_sixty(config, tmp_path, capsys):
    assert study.main([str(config), "--tune", "--out", str(tmp_path / "out")]) == 2
    assert "--tune has 4 visible labels to choose by; protocol 'austere'" in capsys.readouterr().err
    folder = write_run(tmp_path / "run", "tcgm", 0, 0.5, log_loss=0.2)
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics |= {"protocol": "austere", "calibration": {"log_loss": {"without": 0.6, "with": 0.5}}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    assert held_out_log_loss(folder) == 0.6


# The tables


def runs_of(tmp_path: Path, shares: dict[str, list[float]], **others) -> list:
    return [
        load_run(write_run(tmp_path / f"{method}{seed}", method, seed, share, **others))
        for method, values in shares.items()
        for seed, share in enumerate(values)
    ]


def test_mean_and_sample_standard_deviation_over_seeds(tmp_path):
    table = summarize_seeds(tabulate_seeds(runs_of(tmp_path, {"ce": [0.5, 0.6, 0.9]})))
    assert list(table.columns) == ["dataset", "method", "label_rate", "modality", "metric", "mean", "std", "n"]
    row = table.query("modality == 'all' and metric == 'accuracy'").iloc[0]
    assert row["mean"] == pytest.approx(2 / 3)
    # ((1/6)^2 + (1/15)^2 + (7/30)^2) / (3 - 1) = .0433
    assert row["std"] == pytest.approx(np.sqrt(0.13 / 3))
    assert row["n"] == 3


def test_an_undefined_metric_has_no_row(tmp_path):
    per_seed = tabulate_seeds(runs_of(tmp_path, {"ce": [0.5]}))
    assert "brier" not in set(per_seed["metric"])
    assert len(per_seed) == 3 * 4


def test_the_reference_is_tcgm_or_else_the_best_on_validation(tmp_path):
    runs = [load_run(write_run(tmp_path / m, m, 0, 0.5, log_loss=loss)) for m, loss in (("ce", 0.7), ("vat", 0.6))]
    assert choose_reference(runs) == "vat"
    assert choose_reference([*runs, load_run(write_run(tmp_path / "tcgm", "tcgm", 0, 0.1, log_loss=9))]) == "tcgm"


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "auc"])
def test_a_better_reference_has_a_positive_difference(tmp_path, metric):
    runs = runs_of(tmp_path, {"tcgm": [0.9, 1.0], "ce": [0.5, 0.5]})
    row = compare_methods(runs, "tcgm", metric).iloc[0]
    assert (row["reference"], row["method"], row["verdict"], row["seeds"]) == ("tcgm", "ce", "tcgm better", 2)
    assert 0 < row["low"] < row["estimate"] < row["high"]


def test_one_seed_says_nothing_of_the_methods(tmp_path):
    row = compare_methods(runs_of(tmp_path, {"tcgm": [1.0], "ce": [0.4]}), "tcgm", "accuracy").iloc[0]
    assert row["low"] > 0 and row["verdict"] == "one seed: of these two models, not of the methods"


def test_a_lower_log_loss_is_better(tmp_path):
    runs = runs_of(tmp_path, {"tcgm": [0.9, 1.0], "ce": [0.5, 0.5]})
    row = compare_methods(runs, "tcgm", "log_loss").iloc[0]
    # .9 and 1 against .5 and .5: .45 of the samples move from a posterior of .1 to one of .8
    assert row["estimate"] == pytest.approx(-0.45 * np.log(8))
    assert row["verdict"] == "tcgm better"


def test_the_difference_of_accuracies_is_that_of_the_table(tmp_path):
    runs = runs_of(tmp_path, {"tcgm": [0.5, 0.4], "ce": [0.6, 0.9]})
    row = compare_methods(runs, "tcgm", "accuracy").iloc[0]
    assert row["estimate"] == pytest.approx(-0.3)


def test_samples_are_paired_by_name_not_by_row(tmp_path):
    one = load_run(write_run(tmp_path / "a", "tcgm", 0, 0.5))
    shuffled = np.random.default_rng(0).permutation(SIZE)
    other = load_run(write_run(tmp_path / "b", "ce", 0, 0.5, order=shuffled))
    row = compare_methods([one, other], "tcgm", "accuracy").iloc[0]
    assert (row["estimate"], row["low"], row["high"]) == (0, 0, 0)


def test_runs_judged_on_different_samples_are_not_compared(tmp_path):
    one = load_run(write_run(tmp_path / "a", "tcgm", 0, 0.5))
    other = load_run(write_run(tmp_path / "b", "ce", 0, 0.5, order=range(10)))
    with pytest.raises(ValueError, match="a and b were judged on different test samples"):
        compare_methods([one, other], "tcgm", "accuracy")


def test_seeds_that_only_one_method_finished_do_not_count(tmp_path):
    runs = runs_of(tmp_path, {"tcgm": [0.9, 0.9, 0.9], "ce": [0.5, 0.5], "vat": [0.5, 0.5, 0.5, 0.5]})
    assert list(compare_methods(runs, "tcgm", "accuracy")["seeds"]) == [2, 3]


def test_p_values_are_corrected_over_the_methods_of_a_label_rate(tmp_path):
    pair = compare_methods(runs_of(tmp_path / "1", {"tcgm": [0.7], "ce": [0.6]}), "tcgm", "accuracy")
    three = compare_methods(runs_of(tmp_path / "2", {"tcgm": [0.7], "ce": [0.6], "vat": [0.6]}), "tcgm", "accuracy")
    assert three["p_holm"].iloc[0] == pytest.approx(min(1, 2 * pair["p_holm"].iloc[0]))


@pytest.mark.parametrize("classes", [2, 3])
def test_the_auc_of_a_draw_is_that_of_sklearn(classes):
    from pipelines.comparison import _auc, _scores

    generator = np.random.default_rng(classes)
    posterior = generator.dirichlet(np.ones(classes), 40).round(1)
    labels = np.arange(40) % classes
    rows = generator.integers(0, 40, 40)
    ranks = _scores(posterior, labels, "auc")
    parts = [roc_auc_score(labels[rows] == c, posterior[rows, c]) for c in range(classes)]
    expected = parts[1] if classes == 2 else np.mean(parts)
    assert _auc(labels[rows], ranks[rows]) == pytest.approx(expected)


# The command


def test_a_study_writes_every_table_and_report(config, tmp_path):
    assert call(config, tmp_path / "out", "--methods", "ce,tcgm", "--seeds", "2", "--label-rates", "0.1,0.3") == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    tables = {"table.tsv", "per_seed.tsv", "differences.tsv", "study.json", "table.md"}
    assert names == {"runs", "plot.png", "plot.svg", "study.pdf"} | tables
    about = json.loads((tmp_path / "out" / "study.json").read_text())
    budget = [(entry["label_rate"], entry["train_visible"], entry["validation"]) for entry in about["budget"]]
    assert budget == [(0.1, [9, 9], [30, 30]), (0.3, [27, 27], [30, 30])]
    assert about["simulated"]


def test_pretrainings_are_compared_side_by_side(config, tmp_path, capsys):
    values = yaml.safe_load(config.read_text())
    values["pretrainings"] = {
        "other_view": {"tasks": ["cross_modal"], "components": 2, "steps": 20},
        "murauer": {"source": [values["data"]["path"]], "components": 2, "source_steps": 5, "steps": 5},
    }
    config.write_text(yaml.safe_dump(values))
    out, flags = tmp_path / "out", ("--methods", "ce,tcgm", "--seeds", "1", "--device", "cpu")
    flags += ("--pretrainings", "none,other_view,murauer")
    assert call(config, out, *flags, grid=FakeGrid(train_alone)) == 0
    table = pd.read_csv(out / "table.tsv", sep="\t")
    everybody = ["ce", "tcgm", "ce, other_view", "tcgm, other_view", "ce, murauer", "tcgm, murauer"]
    assert list(dict.fromkeys(table.method)) == everybody
    assert set(pd.read_csv(out / "differences.tsv", sep="\t").method) == {*everybody} - {"tcgm"}
    assert "TCGM, other_view" in (out / "table.md").read_text(encoding="utf-8")
    begun = {
        f.parts[-3]: load_run(f.parent).metrics["pretraining"]
        for f in (out / "runs" / "other_view").rglob("metrics.json")
    }
    assert begun == {"other_view": {"name": "other_view", "net": "linear", "tasks": ["cross_modal"]}}
    capsys.readouterr()
    assert call(config, out, *flags, "--dry-run") == 0
    assert "unknown" not in capsys.readouterr().out  # the cost of every one of them was measured


def test_failed_runs_are_listed_counted_and_make_the_command_fail(config, tmp_path, capsys):
    def train(task):
        if task.method == "ce" and task.seed == 1:
            raise ValueError("labeled loss of step 7 is nan")
        return fake_run(task)

    flags = ("--methods", "ce,tcgm", "--seeds", "3")
    assert call(config, tmp_path / "out", *flags, grid=FakeGrid(train)) == 1
    failures = pd.read_csv(tmp_path / "out" / "failures.tsv", sep="\t")
    assert failures[["method", "label_rate", "seed", "reason"]].values.tolist() == [
        ["ce", 0.1, 1, "labeled loss of step 7 is nan"]
    ]
    table = pd.read_csv(tmp_path / "out" / "table.tsv", sep="\t")
    assert table.groupby("method")["n"].unique().map(list).to_dict() == {"ce": [2], "tcgm": [3]}
    assert "50.0 ± 0.0 (n = 2)" in (tmp_path / "out" / "table.md").read_text()
    assert "1 of 6 runs" in capsys.readouterr().err
    assert call(config, tmp_path / "out", *flags) == 0
    assert not (tmp_path / "out" / "failures.tsv").exists()


def test_a_study_in_which_everything_fails_has_no_table(config, tmp_path):
    assert call(config, tmp_path / "out", "--methods", "vat", "--seeds", "2") == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"failures.tsv"}


def test_a_dry_run_trains_nothing_and_prints_labels_and_seconds(config, tmp_path, capsys):
    flags = ("--methods", "ce,vat", "--seeds", "3", "--label-rates", "0.3,0.1", "--dry-run")
    grid = FakeGrid()
    write_run(tmp_path / "out" / "runs" / "ce", "ce", 0, 0.5)
    assert call(config, tmp_path / "out", *flags, grid=grid) == 0
    text = capsys.readouterr().out
    assert grid.tasks == []
    assert "runs      12, on 2 processes" in text
    assert "ce 12 s a run, measured on finished ones: 72 s in all; about 0.6 minutes" in text
    assert "unknown for vat" in text
    # 60 samples: 36 of them train, 12 validate.
    assert "labels    0.1: 4 visible of 36 training samples, and 12 labeled validation samples" in text
    assert "labels    0.3: 11 visible of 36 training samples, and 12 labeled validation samples" in text


def test_the_data_flag_and_set_reach_every_run(config, tmp_path):
    grid = FakeGrid()
    flags = ("--methods", "ce", "--seeds", "1", "--data", str(tmp_path / "x.npz"), "--set", "train.steps=7")
    call(config, tmp_path / "out", *flags, grid=grid)
    (task,) = grid.tasks
    assert task.settings.data.path == str(tmp_path / "x.npz")
    assert task.settings.train.steps == 7


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--methods", "ce,tgcm"], "--methods names 'tgcm'; known: ce"),
        (["--label-rates", "0.1,2"], "every label rate must be > 0"),
        (["--seeds", "0"], "--seeds is 0"),
        (["--jobs", "0"], "--jobs: 0; it must be at least 1"),
    ],
)
def test_wrong_flags_are_refused_by_name(config, capsys, flags, message):
    with pytest.raises(SystemExit):
        parse("study", [str(config), *flags])
    assert message in capsys.readouterr().err


def test_a_wrong_setting_is_one_sentence(config, capsys):
    assert study.main([str(config), "--set", "train.step=3"]) == 2
    assert "unknown key 'step'; did you mean 'steps'?" in capsys.readouterr().err


@pytest.mark.parametrize(("pretraining", "places"), [("both", {0, 4}), ("none", set())])
def test_one_run_of_each_seed_trains_the_encoders_before_the_others_ask_for_them(tmp_path, pretraining, places) -> None:
    options = ["adni_voxels_cpu", "--methods", "ce,tcgm", "--label-rates", "0.1,0.5", "--seeds", "2"]
    chosen = parse("study", [*options, "--data", str(tmp_path), "--set", f"pretraining={pretraining}"])
    assert engine.first_of_each_seed(study.list_tasks(chosen, tmp_path, {})) == places
