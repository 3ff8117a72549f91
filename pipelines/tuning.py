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

TUNING_SEED = 1000
# These take no unlabeled step: gamma_u is never read.
LABELED_ONLY = ("ce", "lmf")
COLUMNS = ("method", "label_rate", "seed", "gamma_l", "gamma_u", "validation_log_loss", "chosen", "failure")


@dataclass(frozen=True)
class Rates:
    """The learning rates of the labeled and the unlabeled step."""

    gamma_l: float
    gamma_u: float

    def __str__(self) -> str:
        return f"l{self.gamma_l:g}-u{self.gamma_u:g}"

    def overrides(self, method: str) -> dict[str, float]:
        """As settings of that method alone."""
        place = f"methods.{method}.train"
        return {f"{place}.gamma_l": self.gamma_l, f"{place}.gamma_u": self.gamma_u}


def candidates(method: str, train: TrainConfig) -> list[Rates]:
    """At most four pairs, the configured one first; none for a method without gradient steps.

    Others keep gamma_l or take a tenth of it, with gamma_u the same, a tenth or a hundredth of gamma_l: the ratios that
    the paper reports (sections 6.1 to 6.3).
    """
    if hasattr(METHODS[method], "fit"):
        return []
    gamma_l, gamma_u = train.gamma_l, train.gamma_u
    if method in LABELED_ONLY:
        pairs = [(gamma_l * factor, gamma_u) for factor in (1, 10, 0.1, 0.01)]
    else:
        factors = ((1, 1), (1, 0.1), (0.1, 0.1), (1, 0.01))
        pairs = [(gamma_l, gamma_u), *((gamma_l * a, gamma_l * b) for a, b in factors)]
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
        row = (task.method, task.label_rate, task.seed, rates.gamma_l, rates.gamma_u, loss, "no", outcome.failure or "")
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
        overrides |= Rates(row.gamma_l, row.gamma_u).overrides(row.method)
    return overrides


def describe_choice(table: pd.DataFrame) -> Mapping[str, str]:
    """method -> the rates chosen for it, for printing."""
    chosen = table[table["chosen"] == "yes"]
    return {row.method: f"gamma_l {row.gamma_l:g}, gamma_u {row.gamma_u:g}" for row in chosen.itertuples()}
