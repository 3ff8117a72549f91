"""Learning rates chosen for each seed by people that its test split does not hold.

By the paper's protocol the log-loss of the seed's own validation split chooses, by the austere one that of the visible
labels, each predicted by a model that did not see it. One choice for all seeds would be made by people whom other
seeds test on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from adni_tcgm.storage import load_run
from adni_tcgm.tcgm.trainer import TrainConfig
from pipelines.config import AUSTERE, METHODS
from pipelines.grid import Outcome

# These take no unlabeled step: lr_unlabeled is never read, as it is not in joint steps.
LABELED_ONLY = ("ce", "lmf")
# By the austere protocol: fewer visible labels say too little of learning rates (docs: the recipe is fixed beforehand).
FEWEST_LABELS = 60
COLUMNS = ("method", "label_rate", "seed", "lr_labeled", "lr_unlabeled", "validation_log_loss", "chosen", "failure")


@dataclass(frozen=True)
class Rates:
    """The learning rates of the labeled and the unlabeled step."""

    lr_labeled: float
    lr_unlabeled: float

    def __str__(self) -> str:
        return f"l{self.lr_labeled:g}-u{self.lr_unlabeled:g}"

    def overrides(self, method: str) -> dict[str, float]:
        """As settings of that method alone."""
        place = f"methods.{method}.train"
        return {f"{place}.lr_labeled": self.lr_labeled, f"{place}.lr_unlabeled": self.lr_unlabeled}


def candidates(method: str, train: TrainConfig) -> list[Rates]:
    """At most four pairs, the configured one first; none for a method without gradient steps.

    Others keep lr_labeled or take a tenth of it, with lr_unlabeled the same, a tenth or a hundredth of lr_labeled: the
    ratios that the paper reports (sections 6.1 to 6.3).
    """
    if hasattr(METHODS[method], "fit"):
        return []
    lr_labeled, lr_unlabeled = train.lr_labeled, train.lr_unlabeled
    if method in LABELED_ONLY or train.schedule == "joint":
        pairs = [(lr_labeled * factor, lr_unlabeled) for factor in (1, 10, 0.1, 0.01)]
    else:
        factors = ((1, 1), (1, 0.1), (0.1, 0.1), (1, 0.01))
        pairs = [(lr_labeled, lr_unlabeled), *((lr_labeled * a, lr_labeled * b) for a, b in factors)]
    # Rounded, so that .01 / 10 and .001 are one candidate.
    return list(dict.fromkeys(Rates(float(f"{a:.6g}"), float(f"{b:.6g}")) for a, b in pairs))[:4]


def choose_rates(outcomes: Sequence[tuple[Rates, Outcome]]) -> pd.DataFrame:
    """`tuning.tsv`: a row for every seed and pair, with the log-loss of "all" on people that neither train nor test;
    `chosen` is yes for the lowest of a seed.

    Raises ValueError where every pair of a method failed in a seed.
    """
    rows = []
    for rates, outcome in outcomes:
        task = outcome.task
        loss = np.nan if outcome.run_dir is None else held_out_log_loss(outcome.run_dir)
        row = (
            task.method,
            task.label_rate,
            task.seed,
            rates.lr_labeled,
            rates.lr_unlabeled,
            loss,
            "no",
            outcome.failure or "",
        )
        rows.append(row)
    table = pd.DataFrame(rows, columns=COLUMNS)
    for (method, seed), pairs in table.groupby(["method", "seed"], sort=False):
        losses = pairs["validation_log_loss"]
        if losses.isna().all():
            raise ValueError(
                f"tuning {method}: every pair of learning rates failed in seed {seed}; the first: "
                f"{pairs['failure'].iloc[0]}"
            )
        table.loc[losses.idxmin(), "chosen"] = "yes"
    return table


def held_out_log_loss(run_dir: Path) -> float:
    """Of the combined prediction, before calibration: of cross-fitted visible labels, or of validation at its best
    temperature, which chose the weights, too (`trainer.fit`)."""
    run = load_run(run_dir)
    if run.metrics.get("protocol") == AUSTERE:
        return float(run.metrics["calibration"]["log_loss"]["without"])
    return float(run.history["validation_loss"].min())


def chosen_overrides(table: pd.DataFrame, seed: int) -> dict[str, float]:
    """What `load_settings` needs to train every tuned method with the rates chosen for it in that seed."""
    overrides: dict[str, float] = {}
    for row in table[(table["chosen"] == "yes") & (table["seed"] == seed)].itertuples():
        overrides |= Rates(row.lr_labeled, row.lr_unlabeled).overrides(row.method)
    return overrides


def describe_choice(table: pd.DataFrame) -> Mapping[str, str]:
    """method -> the rates chosen for it and in how many seeds, for printing."""
    found: dict[str, str] = {}
    for method, chosen in table[table["chosen"] == "yes"].groupby("method", sort=False):
        counts = chosen.value_counts(["lr_labeled", "lr_unlabeled"], sort=False)
        found[str(method)] = "; ".join(f"lr_labeled {a:g}, lr_unlabeled {b:g} in {n}" for (a, b), n in counts.items())
    return found
