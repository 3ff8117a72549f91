"""How a command ends: the sentence, the status, the log, and what Ctrl-C leaves."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from adni_tcgm.command import LOG, run_command
from adni_tcgm.files import FolderInUse
from benchmarks.kill import contents, prepare, write_download
from pipelines.restoring import Refused

ROOT = Path(__file__).parents[1]
COMMANDS = (
    *("pipelines.run", "pipelines.run_adni", "pipelines.study", "pipelines.predict", "pipelines.saliency"),
    *("pipelines.validate", "pipelines.simulate", "pipelines.rerun", "pipelines.privacy_check"),
    *("pipelines.bids_app", "pipelines.build_demo_model"),
    *("reports.__main__", "reports.figure7", "adni_tcgm.datasets.convert_pickle"),
    "preprocessing.networks.train",
)
INTERRUPTED = """
import argparse, signal, sys
from pathlib import Path
from adni_tcgm.command import run_command
from benchmarks.kill import prepare
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    raw, prepared = map(Path, sys.argv[1:])
    sys.exit(run_command(lambda _: prepare(raw, prepared, 2, False), argparse.Namespace(debug=False), prepared))
"""


def end_with(error: BaseException, folder: Path | None, debug: bool = False) -> int:
    def work(_: argparse.Namespace) -> int:
        raise error

    return run_command(work, argparse.Namespace(debug=debug), folder)


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (ValueError("no such\n  thing"), 2, "error: no such thing"),
        (FileNotFoundError("a.nii: nothing here"), 2, "error: a.nii: nothing here"),
        (OSError(28, "No space left on device"), 2, "error: [Errno 28] No space left on device"),
        (yaml.YAMLError("line 3: a tab"), 2, "error: line 3: a tab"),
        (FloatingPointError("the loss is nan"), 2, "error: the loss is nan"),
        (MemoryError(), 2, "error: memory ran out"),
        (Refused("another recipe"), 2, "refused: another recipe"),
        (KeyError("x"), 3, "fault of this program: KeyError: 'x'; --debug shows where"),
        (RuntimeError("deep inside"), 3, "fault of this program: RuntimeError: deep inside; --debug shows where"),
        (KeyboardInterrupt(), 130, "interrupted: what is finished is kept; the same command continues"),
    ],
)
def test_every_end_has_its_status_and_one_sentence(error: BaseException, status: int, sentence: str, capsys) -> None:
    assert end_with(error, None) == status
    assert capsys.readouterr().err == sentence + "\n"


def test_the_status_of_the_work_is_that_of_the_command(tmp_path: Path) -> None:
    for status in (0, 1):
        options = argparse.Namespace(status=status, debug=False)
        assert run_command(lambda arguments: arguments.status, options, tmp_path) == status
    assert list(tmp_path.iterdir()) == []


def test_details_are_in_a_log_without_paths_of_the_machine(tmp_path: Path, capsys) -> None:
    assert end_with(RuntimeError(f"cannot read {tmp_path}/secret/scan.nii"), tmp_path / "new") == 3
    log = (tmp_path / "new" / LOG).read_text()
    assert capsys.readouterr().err.endswith(f"details: {tmp_path / 'new' / LOG}\n")
    assert "Traceback" in log and '"<code>/adni_tcgm/command.py"' in log and "cannot read …/scan.nii" in log
    assert str(tmp_path) not in log and str(ROOT) not in log and str(Path.home()) + "/" not in log


def test_a_log_is_gone_once_a_command_succeeds(tmp_path: Path) -> None:
    end_with(RuntimeError("once"), tmp_path)
    assert (tmp_path / LOG).is_file()
    assert run_command(lambda _: 0, argparse.Namespace(debug=False), tmp_path) == 0
    assert not (tmp_path / LOG).exists()


def test_the_log_of_a_command_within_a_command_stays(tmp_path: Path, capsys) -> None:
    """The BIDS-App's group level runs `adni`, whose fault is told by its status alone."""

    def fails(_: argparse.Namespace) -> int:
        raise RuntimeError("inside")

    options = argparse.Namespace(debug=False)
    outer = run_command(lambda _: run_command(fails, options, tmp_path), options, tmp_path)
    assert outer == 3 and "inside" in (tmp_path / "error.log").read_text()


def test_a_wrong_option_creates_no_folder_and_a_folder_in_use_gets_no_log(tmp_path: Path) -> None:
    assert end_with(ValueError("wrong"), tmp_path / "new") == 2
    assert end_with(FolderInUse("taken"), tmp_path) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_while_the_log_is_written_changes_nothing_else(tmp_path: Path, small_disk, capsys) -> None:
    with small_disk(10):
        assert end_with(RuntimeError("deep inside"), tmp_path) == 3
    assert "deep inside" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback_and_keeps_the_status(capsys) -> None:
    assert end_with(ValueError("wrong"), None, debug=True) == 2
    shown = capsys.readouterr().err
    assert "Traceback" in shown and shown.endswith("error: wrong\n")


def test_no_command_is_missing_here() -> None:
    folders = [ROOT / name for name in ("adni_tcgm", "preprocessing", "pipelines", "reports")]
    files = [file.relative_to(ROOT) for folder in folders for file in folder.rglob("*.py")]
    started = [file for file in files if '__name__ == "__main__"' in (ROOT / file).read_text()]
    assert {".".join(file.with_suffix("").parts) for file in started} == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_debug(name: str, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        import_module(name).main(["--help"])
    assert end.value.code == 0 and "--debug" in capsys.readouterr().out


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def lives(pid: int) -> bool:
    """A process that has ended and that nobody has asked about has no command line any more."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for processes in /proc")
def test_ctrl_c_ends_all_workers_and_the_same_command_finishes_with_the_same_bytes(tmp_path: Path) -> None:
    raw = write_download(tmp_path / "raw")
    prepare(raw, tmp_path / "undisturbed", 0, False)
    (tmp_path / "command.py").write_text(INTERRUPTED)
    command = [sys.executable, str(tmp_path / "command.py"), str(raw), str(tmp_path / "prepared")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    while not any((tmp_path / "prepared").glob("sub-*/*/*")) and process.poll() is None:
        time.sleep(0.002)
    workers = children(process.pid)
    process.send_signal(signal.SIGINT)
    message = process.communicate(timeout=600)[1]
    assert process.returncode == 130 and "interrupted: what is finished is kept" in message
    assert "Traceback" not in message
    deadline = time.monotonic() + 120
    while any(map(lives, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(workers) >= 2 and not any(map(lives, workers))
    prepare(raw, tmp_path / "prepared", 0, False)
    assert contents(tmp_path / "prepared") == contents(tmp_path / "undisturbed")


def test_a_warning_is_one_line_in_words_and_comes_once_and_debug_names_its_place() -> None:
    script = "import argparse, warnings; from adni_tcgm.command import run_command\n"
    script += "def work(_):\n    for _ in range(2): warnings.warn_explicit('one\\nperson', UserWarning, 'some.py', 7)\n"
    script += "    return 0\n"
    script += "run_command(work, argparse.Namespace(debug={}), None)"
    for debug, expected in ((False, "warning: one person\n"), (True, "some.py:7: UserWarning: one\nperson\n" * 2)):
        command = [sys.executable, "-W", "always", "-c", script.format(debug)]
        assert subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stderr == expected
