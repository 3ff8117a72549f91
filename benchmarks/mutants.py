"""`python -m benchmarks.mutants [MODULE...]`: faults put one by one into the core; the tests must notice each.

A comparison, an operator, a number, a condition or a returned value is exchanged for another, and the module's tests
run on it in a process of its own. A fault that no test notices survives: either nothing tests that place, or the fault
changes no result. SURVIVORS says which are of the second kind, and why.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import pytest

TESTS = {
    "adni_tcgm.tcgm.gain": ["tests/tcgm/test_gain.py"],
    "adni_tcgm.tcgm.aggregator": ["tests/tcgm/test_aggregator.py"],
    "preprocessing.intake.labels": ["tests/preprocessing/intake/test_labels.py"],
}
PROPERTIES = "tests/test_properties.py"
# Why a fault changes no result -> such faults, each as its line and what is exchanged there.
SURVIVORS = {
    "the same number for every class of a sample: the softmax takes it out again": {
        ("evidence = torch.where(present.T.unsqueeze(-1), evidence, 0.0)", "0.0  ->  1.0"),
    },
    "the last axis of (B, C) is axis 1": {
        ("return (log_prior + evidence.sum(0)).log_softmax(-1)", "-1  ->  1"),
        ("return (log_posteriors.sum(0) - (modalities - 1) * log_prior).logsumexp(-1)", "-1  ->  1"),
    },
    "what the gain computes, a CPU's autocast computes in float32 anyway": {
        ("with torch.autocast(log_posteriors.device.type, enabled=False):", "False  ->  True"),
    },
    "a shortcut: the longer way gives the same": {
        (
            "if present is None or (not is_sharing() and bool(present.all())):",
            "not is_sharing()  ->  is_sharing()",
        ),
    },
    "one process counts the same either way": {
        ("if not is_sharing():", "not is_sharing()  ->  is_sharing()"),
        *(
            ("counts = add_up(torch.bincount((present * bits).sum(1), minlength=2**modalities)).tolist()", change)
            for change in ("2 ** modalities  ->  2 * modalities", "2  ->  3")
        ),
    },
    "both have one length": {
        ("return list(zip(patterns, counts.tolist(), strict=True))", "True  ->  False"),
        (
            "return {v.diagnosis for v, d in zip(later, distances, strict=True) "
            "if nearest is not None and d <= nearest}",
            "True  ->  False",
        ),
    },
    "nothing tries to change one": {("@dataclass(frozen=True)", "True  ->  False")},
    "empty parts are passed over": {
        ('for part in re.split(r"[\\s;,|]+", text.strip()):', r"'[\\s;,|]+'  ->  '[\\s;,|]+?'"),
    },
    "a part without a word is refused as one with a wrong word is": {
        (
            'match = re.fullmatch(r"[mM]?(\\d+(?:\\.\\d+)?):([A-Za-z]+)", part)',
            r"'[mM]?(\\d+(?:\\.\\d+)?):([A-Za-z]+)'  ->  '[mM]?(\\d+(?:\\.\\d+)?):([A-Za-z]+)?'",
        ),
    },
    "a visit at that very month was found before": {
        (
            "before = [visit for visit in history if visit.month < month]",
            "visit.month < month  ->  visit.month <= month",
        ),
        (
            "after = [visit for visit in history if visit.month > month]",
            "visit.month > month  ->  visit.month >= month",
        ),
    },
    "a visit at the very horizon is the nearest to it": {
        (
            "if conversion is not None and conversion <= rule.horizon_months:",
            "conversion <= rule.horizon_months  ->  conversion < rule.horizon_months",
        ),
        (
            'beyond = any(v.diagnosis == "MCI" and v.month >= scan_month + rule.horizon_months for v in later)',
            "v.month >= scan_month + rule.horizon_months  ->  v.month > scan_month + rule.horizon_months",
        ),
    },
    "the words of an error": {
        (
            'wrong = f"{strange[0]!r} is unknown" if strange else "stable and converter are always among them"',
            "'stable and converter are always among them'  ->  'stable and converter are always among them?'",
        ),
    },
    "every class counts the same samples": {
        ("size = round(sums[0, 0].item())", "0  ->  1"),
        ("size = round(float(sums[0, 0].detach())) if size is None else size", "0  ->  1"),
    },
    "all have one shape": {
        ("products = [torch.ones_like(posteriors[0])]", "0  ->  1"),
        ("distinct = [torch.ones_like(sums[0])]", "0  ->  1"),
        ("total = torch.zeros_like(sums[0])", "0  ->  1"),
    },
    "the lowest bit is the first modality's, which no mask here holds": {
        ("subset = (subset - 1) & mask", "1  ->  2"),
    },
}
SECONDS = 120
COMPARISONS = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is},
}
OPERATORS = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult},
    **{ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitAnd},
}


@dataclass(frozen=True)
class Mutant:
    """One fault. `change` says what stands instead of what in its line, `text`; `source` is the module with it."""

    module: str
    line: int
    text: str
    change: str
    source: str

    def __str__(self) -> str:
        return f"{self.module.rsplit('.', 1)[1]}.py:{self.line}  {self.change}"


def list_mutants(module: str) -> Iterator[Mutant]:
    path = Path(importlib.import_module(module).__file__)
    content = path.read_text(encoding="utf-8")
    tree, lines = ast.parse(content), content.splitlines()
    nodes = list(_nodes(tree))
    for number, node in enumerate(nodes):
        for alternative in _alternatives(node):
            copy = deepcopy(tree)
            old = list(_nodes(copy))[number]
            before = ast.unparse(old)
            _replace(copy, old, alternative)
            source = ast.unparse(ast.fix_missing_locations(copy))
            change = f"{before}  ->  {ast.unparse(alternative)}"
            yield Mutant(module, node.lineno, lines[node.lineno - 1].strip(), change, source)


def _nodes(tree: ast.AST) -> Iterator[ast.expr]:
    """Expressions that compute, in a fixed order: no annotations, no texts of documents and errors."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Raise | ast.JoinedStr | ast.ImportFrom | ast.Import):
            continue
        if isinstance(node, ast.arg) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            continue
        if isinstance(node, ast.AnnAssign | ast.FunctionDef):
            parts = [node.value] if isinstance(node, ast.AnnAssign) else [*node.args.defaults, *node.body]
            for part in parts:
                if part is not None and not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)):
                    yield from _with_inner(part)
            continue
        yield from _with_inner(node)


def _with_inner(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.arg):
        return
    if isinstance(node, ast.expr):
        yield node
    yield from _nodes(node)


def _alternatives(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARISONS:
        yield ast.Compare(node.left, [COMPARISONS[type(node.ops[0])]()], node.comparators)
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        yield ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.Invert):
        yield node.operand
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(node.test, node.orelse, node.body)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield ast.Constant(node.value + 1)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield ast.Constant(f"{node.value}?")


def _replace(tree: ast.AST, old: ast.expr, new: ast.expr) -> None:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, new)
                return
            if isinstance(value, list) and any(item is old for item in value):
                value[[item is old for item in value].index(True)] = new
                return


def survives(mutant: Mutant) -> bool:
    """Whether neither the module's tests nor its properties fail. A fault that hangs is noticed, too."""
    process = multiprocessing.get_context("fork").Process(target=_try, args=(mutant,))
    process.start()
    process.join(SECONDS)
    if process.is_alive():
        process.kill()
        process.join()
        return False
    return process.exitcode == 0


def _try(mutant: Mutant) -> None:
    """In a fork that has everything imported but the tests, which then import the faulty module."""
    signal.alarm(SECONDS)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1), os.dup2(silence, 2)
    module = sys.modules[mutant.module]
    try:
        exec(compile(mutant.source, module.__file__, "exec"), module.__dict__)  # noqa: S102 (our own source, changed)
    except Exception:  # noqa: BLE001 (a fault that shows at import is noticed)
        os._exit(1)
    chosen = {"gain": "gain", "aggregator": "aggregator or priors", "labels": "label or labels or stable"}
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header"]
    status = pytest.main([*options, *TESTS[mutant.module]])
    if status == 0:
        status = pytest.main([*options, PROPERTIES, "-k", chosen[mutant.module.rsplit(".", 1)[1]]])
    os._exit(0 if status == 0 else 1)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"default: {', '.join(TESTS)}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args(argv)
    import hypothesis.extra.numpy  # noqa: F401 (once, before the forks)
    import pandas  # noqa: F401
    import torch

    torch.set_num_threads(1)  # a fork has none of its parent's threads
    unexplained = 0
    for name in arguments.modules or TESTS:
        mutants = list(list_mutants(name))
        with ThreadPoolExecutor(arguments.jobs) as pool:
            alive = [mutant for mutant, alive in zip(mutants, pool.map(survives, mutants), strict=True) if alive]
        print(f"{name}: {len(mutants)} faults, {len(mutants) - len(alive)} noticed, {len(alive)} survive", flush=True)
        for mutant in alive:
            reason = next((why for why, faults in SURVIVORS.items() if (mutant.text, mutant.change) in faults), None)
            unexplained += reason is None
            print(f"  {mutant}  ({reason or 'NOT EXPLAINED'})", flush=True)
    return 1 if unexplained else 0


if __name__ == "__main__":
    raise SystemExit(main())
