"""Learning rates chosen on the validation split, by its log-loss; the test split is never looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from adni_tcgm.storage import load_run
from adni_tcgm.tcgm.trainer import TrainConfig
from pipelines.config import METHODS
from pipelines.grid import Outcome

# These take no unlabeled step: lr_unlabeled is never read, as it is not in joint steps.
LABELED_ONLY = ("ce", "lmf")
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
    """`tuning.tsv`: a row for every pair, with the log-loss of "all" on validation; `chosen` is yes for the lowest.

    Raises ValueError where every pair of a method failed.
    """
    rows = []
    for rates, outcome in outcomes:
        task = outcome.task
        loss = np.nan if outcome.run_dir is None else validation_log_loss(outcome.run_dir)
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
    for method, pairs in table.groupby("method", sort=False):
        losses = pairs["validation_log_loss"]
        if losses.isna().all():
            raise ValueError(
                f"tuning {method}: every pair of learning rates failed; the first: {pairs['failure'].iloc[0]}"
            )
        table.loc[losses.idxmin(), "chosen"] = "yes"
    return table


def validation_log_loss(run_dir: Path) -> float:
    """Of the combined prediction at its best temperature: what the weights were chosen by, too (`trainer.fit`)."""
    return float(load_run(run_dir).history["validation_loss"].min())


def chosen_overrides(table: pd.DataFrame) -> dict[str, float]:
    """What `load_settings` needs to train every tuned method with the rates chosen for it."""
    overrides: dict[str, float] = {}
    for row in table[table["chosen"] == "yes"].itertuples():
        overrides |= Rates(row.lr_labeled, row.lr_unlabeled).overrides(row.method)
    return overrides


def describe_choice(table: pd.DataFrame) -> Mapping[str, str]:
    """method -> the rates chosen for it, for printing."""
    chosen = table[table["chosen"] == "yes"]
    return {
        row.method: f"lr_labeled {row.lr_labeled:g}, lr_unlabeled {row.lr_unlabeled:g}" for row in chosen.itertuples()
    }
