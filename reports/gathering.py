"""What all reports of one cohort share: its runs, its norms, and what its few labels leave open."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from adni_tcgm.evaluation.calibration import Calibration, draw_calibrations
from adni_tcgm.privacy import pseudonym, pseudonym_key
from reports.deficits import VoxelNorm, fit_voxel_norms, load_voxel_norms
from reports.norms import Norm, Reference, choose_reference, fit_norms, list_covariates, list_measurements
from reports.records import CLASSES, Prepared, Run, choose_headline, describe_origin, label_budget, list_posteriors

# Of folders without `recipe.json`, which says otherwise where another was asked for.
HORIZON_MONTHS = 36
REFERENCE_REGIONS = {"pons": "pons", "pons_vermis": "pons and vermis", "cerebellum": "cerebellum"}
CALIBRATION_DRAWS = 200


@dataclass(frozen=True)
class Cohort:
    """All that the reports of one cohort share; `prepared`, `people`, `measurements` and `reference` (whom people are
    set against) are None without its folder.

    prevalence: the share of converters that the reader states for a population of their own; None: not stated.
    identifiers: whether people are called by their own ids; otherwise by pseudonyms.
    acknowledgement: what the user wants said of data that are not ADNI's.
    """

    runs: list[Run]
    headline: Run
    prepared: Prepared | None
    people: pd.DataFrame | None
    measurements: pd.DataFrame | None
    norms: dict[str, Norm | None]
    reference: Reference | None = None
    prevalence: float | None = None
    calibrations: list[Calibration] = field(default_factory=list)
    identifiers: bool = False
    acknowledgement: str = ""

    @property
    def origin(self) -> dict[str, str]:
        """Whose data these are, and what is to be said of them."""
        return describe_origin(self.simulated, self.headline.splits.index, self.acknowledgement)

    @cached_property
    def voxel_norms(self) -> dict[str, VoxelNorm | None]:
        """Modality -> norm of its maps; fitted once, in some seconds, where a report first asks for it, unless the run
        keeps it."""
        return load_voxel_norms(self.headline.folder) or fit_voxel_norms(self.prepared, self.people, self.reference)

    @property
    def simulated(self) -> bool:
        return bool(self.headline.metrics["simulated"])

    @cached_property
    def _recipe(self) -> dict[str, Any]:
        """`recipe.json` of the run, or of its prepared folder; empty where there is none."""
        folders = [self.headline.folder, *([self.prepared.root] if self.prepared else [])]
        files = [folder / "recipe.json" for folder in folders if (folder / "recipe.json").is_file()]
        return json.loads(files[0].read_text(encoding="utf-8")) if files else {}

    @property
    def horizon_months(self) -> float:
        """Within how many months of the scan a conversion counts."""
        months = float(self._recipe.get("HorizonMonths", HORIZON_MONTHS))
        return int(months) if months.is_integer() else months

    @property
    def reference_region(self) -> str:
        """What the PET was divided by, in words."""
        name = self._recipe.get("Recipe", {}).get("reference", "pons")
        return REFERENCE_REGIONS.get(name, name)

    @cached_property
    def _key(self) -> bytes:
        return pseudonym_key(self.headline.folder)

    def show_participant(self, participant_id: str) -> str:
        """What the reports call somebody."""
        return participant_id if self.identifiers else pseudonym(participant_id, self._key)

    def show_sample(self, sample_id: str) -> str:
        """What the reports call a visit, and their files: sub-P1f2e3d4c_ses-M000."""
        if self.identifiers:
            return sample_id
        participant_id, mark, session = sample_id.partition("_ses-")
        return self.show_participant(participant_id) + mark + session

    @cached_property
    def base_rate(self) -> tuple[float, int] | None:
        """Share of converters among the labels that the headline run knew, and their number."""
        known = label_budget(self.headline)
        return (float((known["label"] == "converter").mean()), len(known)) if len(known) else None


def gather_cohort(
    runs: list[Run],
    prepared: Prepared | None,
    prevalence: float | None = None,
    identifiers: bool = False,
    acknowledgement: str = "",
) -> Cohort:
    """Choose the headline run, fit the norms and redraw its calibration.

    Raises ValueError where simulated and real runs are mixed, or the prevalence is no share.
    """
    if not runs:
        raise ValueError("a report needs at least one run folder; got none")
    if len({bool(run.metrics["simulated"]) for run in runs}) > 1:
        raise ValueError(f"runs mix simulated and real data: {', '.join(run.name for run in runs)}")
    if prevalence is not None and not 0 < prevalence < 1:
        raise ValueError(f"prevalence is {prevalence}; a share strictly between 0 and 1 is needed, for example 0.17")
    headline = choose_headline(runs)
    drawn = redraw_calibration(headline)
    if prepared is None:
        return Cohort(runs, headline, None, None, None, {}, None, prevalence, drawn, identifiers, acknowledgement)
    people, measurements = list_covariates(prepared), list_measurements(prepared)
    reference = choose_reference(prepared, headline)
    norms = fit_norms(measurements, people, reference)
    norms_and_stated = norms, reference, prevalence, drawn, identifiers, acknowledgement
    return Cohort(runs, headline, prepared, people, measurements, *norms_and_stated)


def redraw_calibration(run: Run, draws: int = CALIBRATION_DRAWS) -> list[Calibration]:
    """What the labels that fitted the run's calibration leave open; empty where the run kept none, or applies none."""
    if "log_prior" not in run.calibration or not run.metrics.get("calibration", {}).get("applied", True):
        return []
    found = list_posteriors(run, run.predictions[run.predictions["split"] == run.calibration_split])
    labels = found.label.map({name: index for index, name in enumerate(CLASSES)}).fillna(-1).to_numpy(int)
    return draw_calibrations(found.log, labels, found.present, np.array(run.calibration["log_prior"]), draws)
