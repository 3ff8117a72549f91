"""The comparison of two checkouts by processor seconds."""

from pathlib import Path

import pytest

from benchmarks import subject_speed


def test_both_checkouts_run_equally_often_and_neither_always_first(monkeypatch):
    order = []

    def measure(checkout, t1, pet):
        order.append("this" if checkout == subject_speed.ROOT else "other")
        total = 10.0 if order[-1] == "this" else 20.0 + len(order)
        return {"total": total, "peak_gib": 1.0, "steps": {"bias": 1.0} if order[-1] == "this" else {"mask": 2.0}}

    monkeypatch.setattr(subject_speed, "measure", measure)
    steps, found = subject_speed.compare(Path("old"), Path("t1"), Path("pet"), repeats=2)
    assert order == ["other", "this", "this", "other"]
    assert found["ratio"] == pytest.approx(10 / 22.5)
    assert steps.loc["bias"].to_dict() == {"other": 0.0, "this": 1.0}  # a step that one of them does not have


LAYOUTS = {
    "today's": {"run": "subject/run.py", "task": "subject/plan.py", "outcome": "subject/outcome.py"},
    "an earlier one's": {"run": "subject.py", "task": "task.py", "outcome": "outcome.py"},
}
STEP = """
import time
def timed():
    start = time.perf_counter()
    sum(range(10**6))
    return time.perf_counter() - start
"""
RUN = """
from types import SimpleNamespace
from preprocessing{module} import timed
def preprocess_subject(task, prepared):
    seconds = {{"bias": timed()}}
    return SimpleNamespace(t1_path=task.t1.is_file() and "t1", pet_path="pet", ledger="no T1", seconds=seconds)
"""
TASK = """
class SubjectTask:
    def __init__(self, participant, session, t1, pet):
        self.t1 = t1
"""


@pytest.fixture(params=LAYOUTS)
def checkout(request, tmp_path):
    """A checkout with a stand-in for the subject's steps and for the libraries that take seconds to load."""
    places = {name: tmp_path / "preprocessing" / place for name, place in LAYOUTS[request.param].items()}
    module = "." + LAYOUTS[request.param]["outcome"].removesuffix(".py").replace("/", ".")
    contents = {places["run"]: RUN.format(module=module), places["task"]: TASK, places["outcome"]: STEP}
    libraries = ["ants", "pandas", "torch", "matplotlib/backends/backend_agg", "matplotlib/figure"]
    contents |= {tmp_path / f"{name}.py": "" for name in libraries}
    for path, content in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path


def test_a_checkout_of_either_layout_is_measured_by_step(checkout):
    (checkout / "t1.nii.gz").touch()
    found = subject_speed.measure(checkout, checkout / "t1.nii.gz", checkout / "pet.nii.gz")
    assert 0 < found["steps"]["bias"] <= found["total"] < 60
    assert 0.001 < found["peak_gib"] < 1


def test_a_subject_that_does_not_go_through_is_an_error_that_names_the_checkout(checkout):
    with pytest.raises(RuntimeError, match=f"{checkout}: the subject did not go through: no T1"):
        subject_speed.measure(checkout, checkout / "absent.nii.gz", checkout / "pet.nii.gz")
