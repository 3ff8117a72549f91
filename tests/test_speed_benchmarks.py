"""The benchmarks of speed, small: equal work on both sides, and a study that can be done in pieces."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from monai.networks.nets import DenseNet121

import pipelines.run
from adni_tcgm.nets.densenet3d import DenseNet3DConfig
from benchmarks import gpu, scale, study, train_step
from pipelines.command_line import parse
from pipelines.identity import run_name


def test_both_loops_train_networks_of_the_same_size_and_operations() -> None:
    with torch.device("meta"):
        theirs = train_step.with_paper_stem(DenseNet121(spatial_dims=3, in_channels=1, out_channels=2))
        ours = DenseNet3DConfig.paper().build((1, 32, 32, 32), 2)
        counts = [sum(p.numel() for p in net.parameters()) for net in (theirs, ours)]
        with train_step.FlopCounterMode(display=False) as counter:
            theirs(torch.empty(2, 1, 32, 32, 32)).sum().backward()
    assert counts == [11_335_170, 11_335_170]
    # What is counted of ours is of two such networks.
    assert train_step.count_gflop(32, 2) == pytest.approx(2 * counter.get_total_flops() / 1e9, rel=1e-12)


def test_a_step_of_either_loop_moves_every_network_of_its_own() -> None:
    people = train_step.draw_people(4, crop=16)
    assert people.inputs["mri"].shape == (4, 1, 22, 22, 22)
    for precision in ("float32", "bfloat16"):
        assert train_step.monai_loop(people, 16, 2, "cpu", precision)() > 0
    step = train_step.our_step(people, 16, 2, "cpu", "ce", precision="float32")
    training = step.__self__
    before = {name: value.clone() for name, value in training.model.named_parameters()}
    step()
    assert training.losses_l.values and not training.losses_u.values  # CE takes no unlabeled step
    assert all(not torch.equal(value, before[name]) for name, value in training.model.named_parameters())


def test_bytes_moved_are_those_in_and_out_of_every_operator_but_views() -> None:
    a, b = torch.zeros(1000), torch.zeros(1000)

    def step() -> None:
        (a.view(10, 100).t() + b.view(100, 10)).sum()

    # The sum reads two and writes one, the reduction reads one and writes a number.
    assert train_step.count_gb(step) == pytest.approx((4 * 4000 + 4) / 1e9)


def test_every_convolution_of_the_network_is_timed_once_for_each_modality(monkeypatch) -> None:
    seen = []

    def timed(conv: torch.nn.Conv3d, shape: torch.Size, *_: object, differentiate_input: bool) -> float:
        seen.append((tuple(conv.weight.shape), tuple(shape), differentiate_input))
        return 0.5

    monkeypatch.setattr(train_step, "_seconds_of_convolution", timed)
    assert train_step.seconds_of_convolutions(32, 2, "cpu", torch.float32) == 2 * 0.5 * len(seen)
    assert len(seen) == 2 + 2 * (6 + 12 + 24 + 16) + 3  # stem, two of each layer, one between blocks
    assert seen[0] == ((64, 1, 3, 3, 3), (2, 1, 32, 32, 32), False)
    assert all(differentiated for *_, differentiated in seen[1:])


def test_slopes_of_a_linear_cost_are_one_and_kept_throughput_is_relative_to_the_fewest() -> None:
    rows = [
        {"what": "people", "size": n, "step_s": 1 + n / 10_000, "pass_s": n, "prediction_s": n} for n in (300, 5000)
    ]
    rows += [{"what": what, "size": n, "step_s": 3 * n} for what in ("modalities", "batch") for n in (2, 4, 8)]
    table = pd.DataFrame(rows)
    assert scale.slopes(table).slope.tolist() == pytest.approx([1, 1, 1, 1])
    assert scale.throughput_kept(table) == pytest.approx(1.03 / 1.5)


def test_people_are_kept_in_half_the_memory_and_trained_on_in_float32() -> None:
    splits = scale.draw_people(8, 2, "hippocampi")
    assert splits.train.inputs["view0"].dtype == torch.float16
    training = scale.training_of(splits, "hippocampi", 4)
    batch = next(training.unlabeled_sampler)
    assert batch.inputs["view0"].dtype == torch.float32 and batch.inputs["view0"].shape == (4, 1, 48, 32, 32)
    assert set(scale.predict(training.fitted, splits.train)) == {"view0", "view1", "all"}


@pytest.fixture
def pieces(tmp_path, monkeypatch) -> argparse.Namespace:
    """A study whose runs are processes that only leave a file, or never end."""

    def start(arguments: argparse.Namespace, run: study.Run) -> subprocess.Popen:
        method, rate, seed = run
        file = arguments.out / f"{method}-{rate}-{seed}"
        endless = "import time; time.sleep(60)"
        code = endless if method == arguments.endless else f"open({str(file)!r}, 'w').close()"
        return subprocess.Popen([sys.executable, "-S", "-c", code])

    monkeypatch.setattr(study, "start_run", start)
    monkeypatch.setattr(study, "folder_of", lambda arguments, run: arguments.out / f"{run[0]}-{run[1]}-{run[2]}")
    monkeypatch.setattr(study, "is_complete", Path.is_file)
    monkeypatch.setattr(study, "METHODS", ("ce", "tcgm"))
    monkeypatch.setattr(study, "SEEDS", range(1))
    return argparse.Namespace(out=tmp_path, packed=4, endless="tcgm")


def test_a_study_ends_what_is_not_done_in_time_and_goes_on_with_it_later(pieces) -> None:
    assert study.train_for(pieces, seconds=8) == 2
    assert sorted(file.name for file in pieces.out.iterdir()) == ["ce-0.1-0", "ce-0.5-0"]
    pieces.endless = None
    assert study.train_for(pieces, seconds=60) == 0
    assert study.train_for(pieces, seconds=0) == 0


def test_a_study_has_thirty_runs_whole_seeds_first() -> None:
    runs = study.list_runs()
    assert len(runs) == len(set(runs)) == 30
    assert [seed for *_, seed in runs] == sorted(seed for *_, seed in runs)
    assert {(method, rate) for method, rate, _ in runs} == set(study.PAPER)


def test_the_runs_of_a_study_are_the_papers_network_from_scratch_where_they_are_looked_for(tmp_path) -> None:
    sets = ["train.precision=bfloat16"]
    common = {"config": "adni_voxels_gpu", "prepared": tmp_path, "out": tmp_path, "device": "cpu", "set": sets}
    arguments = argparse.Namespace(**common, settings="paper")
    settings = study.settings_for(arguments, ("tcgm", 0.5, 3))
    assert (settings.network, settings.pretraining, settings.data.label_rate) == ("paper", "none", 0.5)
    assert settings.protocol == "paper"
    recipe = study.settings_for(argparse.Namespace(**common, settings="recipe"), ("tcgm", 0.5, 3))
    assert (recipe.network, recipe.pretraining, recipe.protocol) == ("paper", "both", "austere")
    train = settings.train_for("tcgm")
    assert (train.steps, train.batch_size_labeled, train.precision) == (600, 12, "bfloat16")
    started = parse("train", study.options_of(arguments, ("tcgm", 0.5, 3)))
    name = run_name(pipelines.run.settings_of(started), started.method, started.seed)
    assert started.out / "runs" / name == study.folder_of(arguments, ("tcgm", 0.5, 3))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_written(tmp_path, capsys) -> None:
    assert gpu.main([str(tmp_path / "gpu")]) == gpu.NO_GPU
    assert "nothing was measured" in capsys.readouterr().err and not (tmp_path / "gpu").exists()


def test_the_gpu_table_has_every_figure_of_every_step(tmp_path, monkeypatch) -> None:
    main = train_step.main

    def on_a_cpu(options: list[str]) -> int:
        status = main([options[0], "--device", "cpu", "--repeats", "2"])
        for table in ("train_step", "ceilings"):
            (tmp_path / "train_step" / f"{table}-cpu.tsv").rename(tmp_path / "train_step" / f"{table}-cuda.tsv")
        return status

    monkeypatch.setattr(train_step, "main", on_a_cpu)
    monkeypatch.setattr(train_step, "seconds_of", lambda *_: 2.0)
    monkeypatch.setattr(train_step, "seconds_of_convolutions", lambda *_: 0.5)
    monkeypatch.setattr(train_step, "count_gflop", lambda *_: 1000.0)
    monkeypatch.setattr(train_step, "ceilings", lambda _: {"float32": 1000.0, "bfloat16": 4000.0, "copy": 2e-6})
    for loop in ("monai_loop", "our_step"):
        monkeypatch.setattr(train_step, loop, lambda *_, **__: lambda: torch.zeros(500) + 1)
    rows = {what: value for what, value, _ in gpu.steps(tmp_path, argparse.Namespace())}
    ours = {what.rpartition(": ")[2]: value for what, value in rows.items() if "ours, CE, bfloat16" in what}
    assert ours.pop("peak MB") > 0
    assert ours == pytest.approx(
        {
            "samples/s": 6,
            "times the MONAI loop in float32": 1,
            "times the MONAI loop": 1,
            "share of the convolutions' ceiling": 0.25,
            # 500 numbers written as zeros, read and written again; more than 1000 / 2 / 4000 of the products.
            "share of the binding ceiling": 3 * 2000 / 1e9 / 2 / 2e-6,
        }
    )
    assert rows["ours, TCGM, bfloat16: samples/s"] == 12 and rows["ceiling: convolutions, float32"] == 0.5


def test_a_replay_moves_what_its_step_without_graphs_moves() -> None:
    common = {"precision": "bfloat16", "samples": 4, "gflop": 8.0}
    rows = [
        {"step": "MONAI loop, float32", "seconds": 4.0, "samples_per_s": 1.0, "gb_moved": 9.0, **common},
        {"step": "ours, CE, bfloat16", "seconds": 2.0, "samples_per_s": 2.0, "gb_moved": 6.0, **common},
        {"step": "ours, CE, bfloat16, graphs", "seconds": 1.0, "samples_per_s": 4.0, "gb_moved": np.nan, **common},
    ]
    rows[0]["precision"] = "float32"
    table = train_step.compare(rows, {"float32": 10.0, "bfloat16": 100.0, "copy": 20.0}).set_index("step")
    assert table.share_of_copy["ours, CE, bfloat16, graphs"] == pytest.approx(0.3)
    assert table.share_of_binding.tolist() == pytest.approx([0.2, 0.15, 0.3])
    assert table.times_monai_float32.tolist() == [1, 2, 4] and table.times_monai_same_precision.isna().tolist()[1:]


def test_a_part_that_fails_is_a_row_and_the_others_go_on(tmp_path, monkeypatch) -> None:
    def fails(_: Path, __: argparse.Namespace):
        raise torch.OutOfMemoryError("no room")
        yield

    def works(_: Path, __: argparse.Namespace):
        yield "speed", np.float64(3.0), ">= 2"

    monkeypatch.setattr(gpu, "PARTS", (fails, works))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "none")
    table = gpu.gather(tmp_path, argparse.Namespace())
    assert table.what.tolist() == ["device", "fails", "speed"]
    assert table.value.isna().tolist() == [False, True, False] and "OutOfMemoryError: no room" in table.goal[1]
