"""The truth of a simulated cohort: read by evaluation, never by training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from adni_tcgm.evaluation.metrics import binary_auc

LABELED = ("stable", "converter")


@dataclass(frozen=True)
class Truth:
    """`people`: every generating factor; `regions`: true volumes and SUVRs; `bayes`: P(converter) given severities.

    All at baseline.
    """

    people: pd.DataFrame
    regions: pd.DataFrame
    bayes: pd.DataFrame

    @classmethod
    def read(cls, folder: Path) -> Truth:
        tables = [pd.read_csv(folder / f"{name}.tsv", sep="\t") for name in ("people", "regions", "bayes")]
        tables[1] = tables[1].query("session_id == 'ses-M000'")
        return cls(*(table.set_index("participant_id") for table in tables))

    def bayes_metrics(self, sample_ids: Sequence[str]) -> dict[str, dict[str, float | None]] | None:
        """What nobody can beat: AUC of P(converter | severity) of each modality and of both, on these people.

        None where it is not known, because sites or missing scans tell of the class as well.
        """
        rated, labels = self._rated(sample_ids)
        if self.bayes.loc[rated].isna().any(axis=None):
            return None
        return {
            name: {"auc": binary_auc(labels, self.bayes.loc[rated, f"p_{name}"].to_numpy())}
            for name in ("mri", "pet", "all")
        }

    def summary_limit(self, sample_ids: Sequence[str]) -> dict[str, float | None]:
        """AUC of the best linear rule on true hippocampal volume and true meta-ROI SUVR alone, and of each.

        The rule knows the class means and covariance of the whole cohort.
        """
        summaries = self.summaries()
        everybody = self.people.index[self.people.group.isin(LABELED)]
        rule = LinearDiscriminantAnalysis().fit(
            summaries.loc[everybody], self.people.loc[everybody, "group"] == "converter"
        )
        rated, labels = self._rated(sample_ids)
        scores = summaries.loc[rated]
        return {
            "hippocampal volume": binary_auc(labels, -scores.hippocampus_ml.to_numpy()),
            "meta-ROI SUVR": binary_auc(labels, -scores.meta_roi_suvr.to_numpy()),
            "both summaries": binary_auc(labels, rule.decision_function(scores)),
        }

    def summaries(self) -> pd.DataFrame:
        """True hippocampal volume (mL, both sides) and meta-ROI SUVR of everybody."""
        hippocampus = self.regions[self.regions.region == "hippocampus"].groupby(level=0).volume_ml.sum()
        meta_roi = self.regions[self.regions.region == "meta_roi_proxy"].suvr
        return pd.DataFrame({"hippocampus_ml": hippocampus, "meta_roi_suvr": meta_roi})

    def _rated(self, sample_ids: Sequence[str]) -> tuple[list[str], np.ndarray]:
        """Participants among the samples that have a label, and their classes."""
        people = [sample.rsplit("_", 1)[0] for sample in sample_ids]
        group = self.people.group.reindex(people)
        rated = group.index[group.isin(LABELED)].tolist()
        return rated, (group[rated] == "converter").to_numpy().astype(int)
