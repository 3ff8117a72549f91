"""Who converts when, by third of predicted risk; death competes, and the censored are among them."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from adni_tcgm.evaluation.clinical import Incidence, count_at_risk, cumulative_incidence, log_rank
from reports.figures import GREY, INK, STYLE, save_svg
from reports.gathering import Cohort
from reports.records import CLASSES
from reports.tables import SMALLEST_CELL, fixed

THIRDS = ("lowest", "middle", "highest")
# The lightest is still legible as text (WCAG AA).
SHADES, DASHES = ("#757575", "#555555", INK), ((0, (1, 1)), (0, (4, 1.5)), "-")
# Free of dementia when last seen: lost before the horizon, or dead.
DIED = "died"
CENSORED = ("censored", DIED, "short_follow_up")
CONVERSION, DEATH = 1, 2
CALIBRATED = "p_calibrated_converter"


@dataclass(frozen=True)
class FollowUp:
    """People with a prediction: columns months (to dementia, to death, or as long as seen without), event (0 none, 1
    dementia, 2 death), third, weight."""

    people: pd.DataFrame
    censored: int
    died: int
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
    test = pd.DataFrame({"p": rows[CALIBRATED], "event": rows["converter"].astype(int), "weight": 1.0})
    labeled = int(cohort.headline.splits["label"].isin(CLASSES).sum())
    lost = list_censored(cohort).assign(weight=len(rows) / labeled)
    people = pd.concat([test, lost]) if len(lost) else test
    visits = cohort.prepared.visits.reindex(people.index)
    # Of stable people an older manifest does not know how long they were seen; at the horizon they were.
    seen = visits["months_without_dementia"].fillna(cohort.horizon_months)
    # Where nobody says when somebody died: after the last visit.
    seen = visits["months_to_death"].fillna(seen).where(people["event"] == DEATH, seen)
    months = visits["months_to_conversion"].where(people["event"] == CONVERSION, seen).clip(upper=cohort.horizon_months)
    cuts = np.quantile(test["p"], [1 / 3, 2 / 3])
    people = people.assign(months=months, third=np.searchsorted(cuts, people["p"])).dropna(subset="months")
    labeled_only = people[people.index.isin(test.index)]
    p = log_rank(*(labeled_only[name].to_numpy() for name in ("months", "event", "third")))
    died = int((people["event"] == DEATH).sum())
    return FollowUp(people, len(people) - len(labeled_only) - died, died, len(rows) / labeled, p)


def list_censored(cohort: Cohort) -> pd.DataFrame:
    """Probability `p` and `event` (0, or 2 for death) of whom was lost from sight before the horizon or died, by sample
    id; nobody where none was predicted."""
    found = cohort.headline.predictions
    found = (
        found[(found["modality"] == "all") & (found["split"] == "train")].set_index("sample_id")[CALIBRATED].dropna()
    )
    visits = cohort.prepared.visits.reindex(found.index)
    lost = visits["label_reason"].isin(CENSORED) & visits["months_without_dementia"].notna()
    event = (visits["label_reason"] == DIED).astype(int) * DEATH
    return pd.DataFrame({"p": found[lost], "event": event[lost]})


def draw_survival(follow_up: FollowUp, until: float, hide: bool) -> bytes:
    """Aalen–Johansen steps with 95 % bands, lowest risk first; darker means higher risk. Below: the number at risk."""
    times, people = np.arange(0, until + 1, 12), follow_up.people
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.45, 2.75))
        axes = figure.add_axes((0.2, 0.37, 0.77, 0.52))
        for third, (name, shade, dash) in enumerate(zip(THIRDS, SHADES, DASHES, strict=True)):
            part = people[people["third"] == third]
            values = [part[column].to_numpy() for column in ("months", "event", "weight")]
            if len(part):
                _draw_steps(axes, cumulative_incidence(*values), until, f"{name} third", shade, dash)
            counts = count_at_risk(values[0], values[2], times)
            height = 0.13 - 0.05 * third
            figure.text(0.01, height, name, va="center", fontsize=7.5, color=shade)
            for time, count in zip(times, counts, strict=True):
                few = hide and 0 < count < SMALLEST_CELL
                x = 0.2 + 0.77 * time / until
                shown = f"<{SMALLEST_CELL}" if few else f"{count:.0f}"
                figure.text(x, height, shown, ha="center", va="center", fontsize=7.5, color=shade)
        figure.text(0.01, 0.185, "at risk", va="center", fontsize=7.5, color=GREY)
        axes.set(xlim=(0, until), ylim=(0, 1.02), xticks=np.arange(0, until + 1, 6), yticks=[0, 0.5, 1])
        axes.set_title("Converted to dementia, by predicted risk", loc="left", fontsize=9.5, weight="bold")
        axes.set_xlabel("months from the scan", fontsize=8, labelpad=1)
        axes.tick_params(labelsize=7.5, length=2.5)
        axes.legend(frameon=False, fontsize=7.5, loc="upper left")
        return save_svg(figure)


def _draw_steps(axes, curve: Incidence, until: float, name: str, shade: str, dash) -> None:
    ends = ((curve.months, until), *((values, values[-1]) for values in (curve.share, curve.low, curve.high)))
    months, share, low, high = (np.append(values, last) for values, last in ends)
    axes.step(months, share, where="post", color=shade, ls=dash, lw=1.4, label=f"{name} (n = {curve.n})")
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
    few = not cohort.simulated and 0 < follow_up.died < SMALLEST_CELL
    data["died"] = f"fewer than {SMALLEST_CELL}" if few else str(follow_up.died)
    return data, {"survival.svg": draw_survival(follow_up, cohort.horizon_months, not cohort.simulated)}
