"""Simulated cohorts of regional measurements alone: no map is rendered, so that twenty cohorts take minutes.

People, diseases and regional changes are drawn by `preprocessing.simulated` itself. What the full path (deformation,
PET, registration and segmentation error, measurement) makes of them is learned from one cohort that went through it:
log measurement = mean + slopes * (changes drawn, head size) + noise, a lasso for each measurement and the covariance of
all residuals. A prepared folder is written that the learner reads like any other: manifest, regions, nothing else.
Of a site's scanners it knows the scale and the PET's linearity, not the softness.

`python -m benchmarks.regional_cohorts FULL OTHER`: fit on the cohort FULL of the full path, compare with OTHER.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LassoCV

from adni_tcgm.datasets.adni_regions import META_ROI, SIGNATURE
from adni_tcgm.files import whole_file, write_text
from adni_tcgm.privacy import cap_age
from adni_tcgm.tables import to_tsv
from benchmarks.simulated_cohort import effect
from preprocessing.simulated import download, pattern
from preprocessing.simulated.disease import MODALITIES
from preprocessing.simulated.people import CohortDesign, Person, draw_people
from preprocessing.simulated.sites import site_effect

NOISE_STAGE = 20
TIV = ("tiv", "both", "volume_ml")
MEASURES = ("volume_ml", "suvr")
LABELS = {"converter": "converter", "stable": "stable", "normal": "cn", "dementia": "ad"}
REASONS = LABELS | {"censored": "censored", "reverting": "reverter"}
DESCRIPTION = {"Name": "SIMULATED: regional measurements without maps", "BIDSVersion": "1.10.0"}


@dataclass(frozen=True)
class Response:
    """What the full path makes of K drawn numbers: D log measurements `names`, (region, side, measure).

    mean (D,); center (K,); slopes (K, D); root (D, D): noise is standard normal numbers times this.
    """

    names: list[tuple[str, str, str]]
    mean: np.ndarray
    center: np.ndarray
    slopes: np.ndarray
    root: np.ndarray

    def measure(self, people: list[Person]) -> pd.DataFrame:
        """(N, D) measurements, volumes in mL; a row a person, columns `names`. Deterministic from the people."""
        noise = np.stack([p.scan_rng(NOISE_STAGE).standard_normal(len(self.names)) for p in people])
        values = np.exp(self.mean + (drawn(people) - self.center) @ self.slopes + noise @ self.root)
        uptake = np.array([measure == "suvr" for *_, measure in self.names])
        for row, person in zip(values, people, strict=True):
            scanner = site_effect(person.seed, person.site, person.site_effect)
            row[~uptake] *= scanner.scale**3
            row[uptake] = scanner.on_pet(row[uptake]) if person.has_pet else np.nan
        return pd.DataFrame(values, [p.participant_id for p in people], pd.MultiIndex.from_tuples(self.names))

    def save(self, file: Path) -> None:
        arrays = {name: getattr(self, name) for name in ("mean", "center", "slopes", "root")}
        with whole_file(file) as partial, partial.open("wb") as handle:
            np.savez_compressed(handle, names=np.array(self.names), **arrays)

    @staticmethod
    def read(file: Path) -> Response:
        with np.load(file, allow_pickle=False) as content:
            names = [tuple(map(str, name)) for name in content["names"]]
            return Response(names, *(content[name] for name in ("mean", "center", "slopes", "root")))


def drawn(people: list[Person]) -> np.ndarray:
    """(N, K): log changes of all regions and sides, MRI and PET, and the log of the head's size."""
    rows = [
        [v for name in MODALITIES for v in pattern.regional_changes(p, name).values()] + [p.log_head_volume]
        for p in people
    ]
    return np.array(rows)


def measured(cohort: Path) -> pd.DataFrame:
    """(N, D) measurements of the prepared people of a cohort, NaN without PET; columns (region, side, measure)."""
    prepared = cohort / "prepared"
    long = pd.read_csv(prepared / "regions.tsv", sep="\t")
    wide = long.pivot(index="participant_id", columns=["region", "side"], values=list(MEASURES))
    wide.columns = pd.MultiIndex.from_tuples([(region, side, measure) for measure, region, side in wide.columns])
    manifest = pd.read_csv(prepared / "manifest.tsv", sep="\t").set_index("participant_id")
    wide[TIV] = manifest.tiv_ml
    wide = wide.drop(columns=[("pons", "both", "suvr")])  # the reference: 1
    return wide.loc[manifest.index[manifest.kind == "prepared"]]


def people_of(cohort: Path) -> list[Person]:
    """Everybody of a cohort of the full path, drawn again."""
    about = json.loads((cohort / "truth" / "design.json").read_text(encoding="utf-8"))
    about = {key: value for key, value in about.items() if key not in ("version", "anatomies")}
    return draw_people(CohortDesign(**about))


def fit_response(cohort: Path) -> Response:
    """From the prepared people with both scans of a cohort that took the full path."""
    table = np.log(measured(cohort)).dropna()
    by_id = {p.participant_id: p for p in people_of(cohort)}
    inputs, outputs = drawn([by_id[name] for name in table.index]), table.to_numpy()
    center, scale = inputs.mean(0), inputs.std(0)
    slopes, residuals = np.zeros((inputs.shape[1], outputs.shape[1])), np.zeros(outputs.shape)
    for column, values in enumerate(outputs.T):
        # Few regions show in a measurement. A ridge lets all of them, and fails where another disease moves them.
        model = LassoCV(alphas=20, cv=5).fit((inputs - center) / scale, values)
        slopes[:, column] = model.coef_ / scale
        lost = 1 + np.count_nonzero(model.coef_)
        residuals[:, column] = values - values.mean() - (inputs - center) @ slopes[:, column]
        residuals[:, column] *= np.sqrt(len(values) / (len(values) - lost))
    values, vectors = np.linalg.eigh(_covariance(residuals))
    root = (vectors * np.sqrt(np.maximum(values, 0))).T
    return Response(list(table.columns), outputs.mean(0), center, slopes, root)


def _covariance(residuals: np.ndarray) -> np.ndarray:
    """Of (N, D) residuals, in units of which every column has SD 1 while it is shrunk."""
    sd = residuals.std(0)
    return LedoitWolf().fit(residuals / sd).covariance_ * np.outer(sd, sd)


def write_regional(out: Path, design: CohortDesign, response: Response) -> Path:
    """Write OUT: manifest.tsv, regions.tsv (signature and meta-ROI) and dataset_description.json of a cohort; OUT."""
    people = draw_people(design)
    table = response.measure(people)
    tiv_ml = table.pop(TIV)
    kept = {region for regions in SIGNATURE.values() for region in regions} | {META_ROI[0]}
    table = table[[name for name in table if name[0] in kept]]
    long = table.stack([0, 1], future_stack=True).reset_index(names=["participant_id", "region", "side"])
    long.insert(1, "session_id", people[0].session_id)
    write_text(out / "regions.tsv", to_tsv(long.round(5)))
    write_text(out / "manifest.tsv", to_tsv(_manifest(people, tiv_ml)))
    write_text(out / "dataset_description.json", json.dumps(DESCRIPTION))
    return out


def _manifest(people: list[Person], tiv_ml: pd.Series) -> pd.DataFrame:
    none = "none: measurements only"
    rows = [
        {"participant_id": p.participant_id, "session_id": p.session_id, "kind": "prepared", "t1_path": ""}
        | {"gm_path": none, "pet_path": none if p.has_pet else ""}
        | {"label": LABELS.get(p.group, ""), "label_reason": REASONS[p.group]}
        | {"months_to_conversion": p.conversion_month, "age": cap_age(p.age), "sex": p.sex, "site": f"{p.site:03d}"}
        | {"group_id": p.participant_id, "tiv_ml": round(tiv_ml[p.participant_id], 2), "qc": "pass"}
        | {"field_strength_t": download.tesla(p)}
        for p in people
    ]
    return pd.DataFrame(rows)


def compare(response: Response, cohort: Path) -> pd.DataFrame:
    """A row a measurement of the signature: what the full path found in `cohort`, and what `response` draws of the very
    same people: means, SDs, correlation of the two, and Cohen's d of stable and converting people in each."""
    full = np.log(measured(cohort))
    people = [p for p in people_of(cohort) if p.participant_id in full.index]
    short = np.log(response.measure(people)).loc[full.index]
    group = pd.Series({p.participant_id: p.group for p in people}).loc[full.index]
    rows = {}
    for name in signature(full):
        a, b = full[name], short[name]
        both = a.notna() & b.notna()
        rows[" ".join(name)] = {
            "mean": a.mean(),
            "mean_short": b.mean(),
            "sd": a.std(),
            "sd_short": b.std(),
            "correlation": float(np.corrcoef(a[both], b[both])[0, 1]),
            "d": effect(a, group),
            "d_short": effect(b, group),
        }
    return pd.DataFrame(rows).T


def signature(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    """The columns of the signature regions."""
    kinds = {"volume_ml": SIGNATURE["mri"], "suvr": SIGNATURE["pet"]}
    return [name for name in table.columns if name[0] in kinds[name[2]]]


def within_class_correlations(table: pd.DataFrame, group: pd.Series) -> np.ndarray:
    """Of all pairs of the signature's measurements."""
    kept = table.loc[group[group.isin(["stable", "converter"])].index, signature(table)]
    residual = kept - kept.groupby(group.loc[kept.index]).transform("mean")
    return residual.corr().to_numpy()[np.triu_indices(residual.shape[1], 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("full", type=Path)
    parser.add_argument("other", type=Path)
    arguments = parser.parse_args()
    response = fit_response(arguments.full)
    table = compare(response, arguments.other)
    print(table.round(3).to_string())
    full = np.log(measured(arguments.other))
    people = people_of(arguments.other)
    group = pd.Series({p.participant_id: p.group for p in people}).loc[full.index]
    short = np.log(response.measure(people)).loc[full.index]
    pairs = [within_class_correlations(t, group) for t in (full, short)]
    print(
        f"correlations between measurements within class: {len(pairs[0])} pairs, mean {pairs[0].mean():.3f} and "
        f"{pairs[1].mean():.3f}, largest difference {np.abs(pairs[0] - pairs[1]).max():.3f}"
    )
    print(table[["mean", "sd", "d"]].sub(table[["mean_short", "sd_short", "d_short"]].to_numpy()).abs().mean())


if __name__ == "__main__":
    main()
