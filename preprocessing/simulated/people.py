"""Who is in the simulated cohort: the factors behind every person, their visits, and the Bayes limits they imply.

A person has one latent severity per modality. Within a class the two severities are standard normal with correlation
`severity_correlation`; between stable and converting MCI their means lie D apart. Every region expresses severity
times a loading plus noise of its own (`preprocessing.simulated.pattern`), so no image shows a severity exactly.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

import numpy as np
import pandas as pd

# Distance between stable and converting MCI in within-class standard deviations. Bayes AUC = Phi(D / sqrt 2).
EFFECT_MRI = 1.19
EFFECT_PET = 1.36
# Where the other groups lie on the same axis, in units of D (0 = stable, 1 = converter). Hippocampal volumes and
# meta-ROI SUVR of CN, sMCI, pMCI and AD, as quoted in the field, put CN half a step before stable MCI.
POSITION = {"normal": -0.5, "stable": 0.0, "censored": 0.45, "reverting": -0.2, "converter": 1.0, "dementia": 1.45}
VISIT_MONTHS = (0, 6, 12, 18, 24, 36, 48)
CN, MCI, DEMENTIA = 1, 2, 3


@dataclass(frozen=True)
class CohortDesign:
    """Sizes and settings of a simulated cohort. Defaults: the paper's 144 converters and 156 stable, and the rest."""

    converters: int = 144
    stable: int = 156
    censored: int = 24
    reverting: int = 6
    normal: int = 12
    dementia: int = 8
    raw: int = 24
    truncated: int = 1
    severity_correlation: float = 0.3
    nuisance_correlation: float = 0.0
    missing_pet: float = 0.08
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("severity_correlation", "nuisance_correlation"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ValueError(f"{name} is {value}; it must lie in [0, 1)")
        if self.raw > self.converters + self.stable:
            raise ValueError(f"raw is {self.raw}; only {self.converters + self.stable} labeled people can be raw")

    @property
    def groups(self) -> dict[str, int]:
        return {name: getattr(self, name if name != "converter" else "converters") for name in POSITION}


@dataclass(frozen=True)
class Person:
    """The generating factors of one person. Severities and nuisances in within-class standard deviations."""

    ptid: str
    group: str
    raw: bool
    truncated: bool
    has_pet: bool
    severity_mri: float
    severity_pet: float
    nuisance_mri: float
    nuisance_pet: float
    age: float
    sex: str
    site: int
    log_head_volume: float
    conversion_month: float
    last_month: int
    anatomy: int
    seed: int

    @property
    def rid(self) -> int:
        return int(self.ptid.split("_")[-1])

    @property
    def participant_id(self) -> str:
        return "sub-ADNI" + self.ptid.replace("_", "")

    def rng(self, stage: int) -> np.random.Generator:
        """A stream of its own for each stage, so that writing a person raw or prepared shows the same brain."""
        return np.random.default_rng([self.seed, self.rid, stage])


def draw_people(design: CohortDesign, anatomies: int = 1) -> list[Person]:
    """Everybody in the cohort, in an order that mixes the groups; deterministic from `design.seed`."""
    rng = np.random.default_rng([design.seed, 1])
    groups = np.repeat(list(design.groups), list(design.groups.values()))
    rng.shuffle(groups)
    labeled = np.flatnonzero(np.isin(groups, ["converter", "stable"]))
    raw = set(_raw_people(groups, design.raw, rng).tolist())
    truncated = set(rng.permutation([i for i in labeled if i not in raw])[: design.truncated].tolist())
    missing_pet = set(rng.permutation(len(groups))[: round(design.missing_pet * len(groups))].tolist())
    r, c = design.severity_correlation, design.nuisance_correlation
    people = []
    for i, group in enumerate(groups):
        noise = rng.standard_normal(6)
        age_z, sex = noise[4], "F" if rng.random() < 0.45 else "M"
        nuisance_mri = 0.6 * age_z + 0.8 * noise[2]
        site = int(rng.integers(1, 13))
        conversion, last = _follow_up(group, rng)
        people.append(
            Person(
                ptid=f"{site:03d}_S_{1000 + i:04d}",
                group=str(group),
                raw=i in raw or i in truncated,
                truncated=i in truncated,
                has_pet=i not in missing_pet,
                severity_mri=float(POSITION[group] * EFFECT_MRI + noise[0]),
                severity_pet=float(POSITION[group] * EFFECT_PET + r * noise[0] + np.sqrt(1 - r**2) * noise[1]),
                nuisance_mri=float(nuisance_mri),
                nuisance_pet=float(c * nuisance_mri + np.sqrt(1 - c**2) * noise[3]),
                age=round(float(np.clip(73 + 7 * age_z, 55, 91)), 1),
                sex=sex,
                site=site,
                log_head_volume=float(0.07 * noise[5] + (0.05 if sex == "M" else -0.06)),
                conversion_month=conversion,
                last_month=last,
                anatomy=int(i % anatomies),
                seed=design.seed,
            )
        )
    return people


def _raw_people(groups: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """As many converters as stable people among those who arrive as scans."""
    converters, stable = (rng.permutation(np.flatnonzero(groups == name)) for name in ("converter", "stable"))
    return np.concatenate([converters[: count // 2], stable[: count - count // 2]])


def _follow_up(group: str, rng: np.random.Generator) -> tuple[float, int]:
    """Month of conversion (nan if never) and month of the last visit."""
    if group == "converter":
        return float(rng.choice([6, 12, 18, 24, 36])), int(rng.choice([36, 48]))
    if group == "censored":
        return np.nan, int(rng.choice([12, 18, 24]))
    return np.nan, int(rng.choice([36, 48]))


def diagnoses(person: Person) -> list[tuple[int, int]]:
    """(month, diagnosis code of ADNI's DXSUM: 1 CN, 2 MCI, 3 dementia) for every visit."""
    history = []
    for month in (m for m in VISIT_MONTHS if m <= person.last_month):
        if person.group in ("normal", "dementia"):
            code = CN if person.group == "normal" else DEMENTIA
        elif person.group == "reverting" and month in (12, 18, 24):
            code = CN
        else:
            code = DEMENTIA if month >= person.conversion_month else MCI
        history.append((month, code))
    return history


def people_table(people: list[Person]) -> pd.DataFrame:
    """Every factor of every person, one row each: the truth that only evaluation may read."""
    table = pd.DataFrame([asdict(p) for p in people], columns=[f.name for f in fields(Person)])
    table.insert(0, "participant_id", [p.participant_id for p in people])
    return table


def bayes_posteriors(people: list[Person], severity_correlation: float, prior: float) -> pd.DataFrame:
    """P(converter) given the severities themselves: `p_mri`, `p_pet`, `p_all` per person.

    The class-conditional densities are normal with a common covariance, so the posterior is logistic in the linear
    discriminant. Only converters and stable people are rated; others get nan.
    """
    s = np.array([[p.severity_mri, p.severity_pet] for p in people])
    mean = np.array([EFFECT_MRI, EFFECT_PET])
    covariance = np.array([[1, severity_correlation], [severity_correlation, 1]])
    rated = np.array([p.group in ("converter", "stable") for p in people])
    columns = {}
    for name, used in {"mri": [0], "pet": [1], "all": [0, 1]}.items():
        weights = np.linalg.solve(covariance[np.ix_(used, used)], mean[used])
        logit = (s[:, used] - mean[used] / 2) @ weights + np.log(prior / (1 - prior))
        columns[f"p_{name}"] = np.where(rated, 1 / (1 + np.exp(-logit)), np.nan)
    return pd.DataFrame({"participant_id": [p.participant_id for p in people], **columns})
