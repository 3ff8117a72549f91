"""Who stays free of dementia for how long, by third of predicted risk, censored people among them."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from adni_tcgm.evaluation.clinical import Survival, count_at_risk, kaplan_meier, log_rank
from reports.figures import GREY, INK, STYLE, save_svg
from reports.gathering import Cohort
from reports.records import CLASSES
from reports.tables import SMALLEST_CELL, fixed

THIRDS = ("lowest third", "middle third", "highest third")
SHADES, DASHES = ("#9a9a9a", "#5f5f5f", INK), ((0, (1, 1)), (0, (4, 1.5)), "-")
# Free of dementia when last seen, and lost before the horizon.
CENSORED = ("censored", "died", "short_follow_up")
CALIBRATED = "p_calibrated_converter"


@dataclass(frozen=True)
class FollowUp:
    """People with a prediction: columns months (to dementia, or as long as seen without), converted, third, weight."""

    people: pd.DataFrame
    censored: int
    weight: float
    log_rank_p: float | None


def follow_people(cohort: Cohort, rows: pd.DataFrame) -> FollowUp | None:
    """Labeled test people (`rows`, by sample id) and the censored ones; None without months or with few people.

    Who is censored trains without a label, so that all of them have a prediction, but only the test split of the
    labeled: each counts that split's share, or the censored would make everybody look safer. Thirds are those of the
    test people.
    """
    if cohort.prepared is None or len(rows) < 3 * SMALLEST_CELL:
        return None
    test = pd.DataFrame({"p": rows[CALIBRATED], "converted": rows["converter"].astype(bool), "weight": 1.0})
    labeled = int(cohort.headline.splits["label"].isin(CLASSES).sum())
    lost = list_censored(cohort).assign(converted=False, weight=len(rows) / labeled)
    people = pd.concat([test, lost]) if len(lost) else test
    visits = cohort.prepared.visits.reindex(people.index)
    # Of stable people an older manifest does not know how long they were seen; at the horizon they were.
    seen = visits["months_without_dementia"].fillna(cohort.horizon_months)
    months = visits["months_to_conversion"].where(people["converted"], seen).clip(upper=cohort.horizon_months)
    cuts = np.quantile(test["p"], [1 / 3, 2 / 3])
    people = people.assign(months=months, third=np.searchsorted(cuts, people["p"])).dropna(subset="months")
    labeled_only = people[people.index.isin(test.index)]
    p = log_rank(*(labeled_only[name].to_numpy() for name in ("months", "converted", "third")))
    return FollowUp(people, len(people) - len(labeled_only), len(rows) / labeled, p)


def list_censored(cohort: Cohort) -> pd.DataFrame:
    """Probability `p` of whom was lost from sight before the horizon, by sample id; nobody where none was predicted."""
    found = cohort.headline.predictions
    found = (
        found[(found["modality"] == "all") & (found["split"] == "train")].set_index("sample_id")[CALIBRATED].dropna()
    )
    visits = cohort.prepared.visits.reindex(found.index)
    lost = visits["label_reason"].isin(CENSORED) & visits["months_without_dementia"].notna()
    return pd.DataFrame({"p": found[lost]})


def draw_survival(follow_up: FollowUp, until: float, hide: bool) -> bytes:
    """Kaplan–Meier steps with 95 % bands, lowest risk first; darker means higher risk. Below: the number at risk."""
    times, people = np.arange(0, until + 1, 12), follow_up.people
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.45, 2.75))
        axes = figure.add_axes((0.13, 0.35, 0.84, 0.54))
        for third, (name, shade, dash) in enumerate(zip(THIRDS, SHADES, DASHES, strict=True)):
            part = people[people["third"] == third]
            values = [part[column].to_numpy() for column in ("months", "converted", "weight")]
            if len(part):
                _draw_steps(axes, kaplan_meier(*values), until, name, shade, dash)
            counts = count_at_risk(values[0], values[2], times)
            height = 0.125 - 0.05 * third
            for time, count in zip(times, counts, strict=True):
                few = hide and 0 < count < SMALLEST_CELL
                x = 0.13 + 0.84 * time / until
                shown = f"<{SMALLEST_CELL}" if few else f"{count:.0f}"
                figure.text(x, height, shown, ha="center", va="center", fontsize=7, color=shade)
        figure.text(0.01, 0.18, "number at risk", fontsize=7, color=GREY)
        axes.set(xlim=(0, until), ylim=(0, 1.02), xticks=np.arange(0, until + 1, 6), yticks=[0, 0.5, 1])
        axes.set_title("Free of dementia, by risk third", loc="left", fontsize=9.5, weight="bold")
        axes.set_xlabel("months from the scan", fontsize=8, labelpad=1)
        axes.tick_params(labelsize=7.5, length=2.5)
        axes.legend(frameon=False, fontsize=7.5, loc="lower left")
        return save_svg(figure)


def _draw_steps(axes, curve: Survival, until: float, name: str, shade: str, dash) -> None:
    ends = (
        (curve.months, until),
        (curve.free, curve.free[-1]),
        (curve.low, curve.low[-1]),
        (curve.high, curve.high[-1]),
    )
    months, free, low, high = (np.append(values, last) for values, last in ends)
    axes.step(months, free, where="post", color=shade, ls=dash, lw=1.4, label=f"{name} (n = {curve.n})")
    axes.fill_between(months, low, high, step="post", color=shade, alpha=0.12, lw=0)


def survival_section(cohort: Cohort, rows: pd.DataFrame) -> tuple[dict[str, object] | None, dict[str, bytes]]:
    """What the text beside the figure says; None where there is none."""
    follow_up = follow_people(cohort, rows)
    if follow_up is None:
        return None, {}
    p = follow_up.log_rank_p
    data = {
        "log_rank": "–" if p is None else "< .001" if p < 0.001 else f"= {fixed(p, 3)}",
        "censored": str(follow_up.censored) if cohort.simulated or follow_up.censored >= SMALLEST_CELL else "few",
        "weight": fixed(follow_up.weight),
    }
    data["any_censored"] = follow_up.censored > 0
    return data, {"survival.svg": draw_survival(follow_up, cohort.horizon_months, not cohort.simulated)}
