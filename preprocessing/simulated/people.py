"""Who is in the simulated cohort: the factors behind every person, their visits, and the Bayes limits they imply.

A person has one latent severity per modality. Within a class the two severities are standard normal with correlation
`severity_correlation`; between stable and converting MCI their means lie apart by the effect that the cohort's disease
has (`preprocessing.simulated.disease`). Every region expresses severity times a loading that depends on the person's
subtype, plus what else varies (`preprocessing.simulated.pattern`), so no image shows a severity exactly.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace

import numpy as np
import pandas as pd

from preprocessing.choices import SIMULATED_RAW
from preprocessing.simulated.disease import POSITION, SUBTYPES, Disease, draw_disease

# Mean age (SD 7); people with dementia are older.
AGE_MEAN, AGE_SD, DEMENTIA_OLDER = 73.0, 7.0, 3.0
# Least and most people of a site.
SITE_SIZES = (5, 60)
# Severity gained a year, and its relative spread: hippocampi lose about 1.4 % a year in normal people and 4.7 % in AD
# (Barnes et al., Neurobiology of Aging 2009), a tenth of the volume being about 1 SD of severity.
PROGRESS = {"normal": 0.1, "stable": 0.15, "censored": 0.25, "reverting": 0.1, "converter": 0.35, "dementia": 0.45}
PROGRESS_SD = 0.4
VISIT_MONTHS = (0, 6, 12, 18, 24, 36, 48)
CN, MCI, DEMENTIA = 1, 2, 3


@dataclass(frozen=True)
class CohortDesign:
    """Sizes and settings of a simulated cohort. Defaults: the paper's 144 converters and 156 stable, and the rest.

    nuisance_correlation: between the modalities, of what no table records (vascular load, motion). missing_pet: share
    of people without a PET; missing_pet_severity: how many log odds one SD of severity adds to that (0: at random).
    site_imbalance: SD over sites of the log odds of converting and demented people; site_effect: size of what a site's
    scanners do (`preprocessing.simulated.sites`; 0: nothing). visits: 1, or 2 for a second one of everybody.
    disease_seed: which disease; None: that of `seed`. A cohort and people who shall rate what was learned there need
    the same.
    """

    converters: int = 144
    stable: int = 156
    censored: int = 24
    reverting: int = 6
    normal: int = 60
    dementia: int = 60
    raw: int = SIMULATED_RAW
    truncated: int = 1
    severity_correlation: float = 0.3
    nuisance_correlation: float = 0.0
    missing_pet: float = 0.08
    missing_pet_severity: float = 0.0
    site_imbalance: float = 0.0
    site_effect: float = 0.0
    visits: int = 1
    seed: int = 0
    disease_seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("severity_correlation", "nuisance_correlation"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ValueError(f"{name} is {value}; it must lie in [0, 1)")
        if self.visits not in (1, 2):
            raise ValueError(f"visits is {self.visits}; it must be 1 or 2")
        if self.raw > self.converters + self.stable:
            raise ValueError(f"raw is {self.raw}; only {self.converters + self.stable} labeled people can be raw")

    @property
    def disease(self) -> Disease:
        return draw_disease(self.seed if self.disease_seed is None else self.disease_seed)

    @property
    def groups(self) -> dict[str, int]:
        return {name: getattr(self, name if name != "converter" else "converters") for name in POSITION}


@dataclass(frozen=True)
class Person:
    """The generating factors of one person. Severities and nuisances in within-class standard deviations."""

    ptid: str
    group: str
    subtype: str
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
    disease_seed: int
    site_effect: float = 0.0
    month: int = 0

    @property
    def age_z(self) -> float:
        """Age in SDs from the mean of all."""
        return (self.age - AGE_MEAN) / AGE_SD

    @property
    def rid(self) -> int:
        return int(self.ptid.split("_")[-1])

    @property
    def session_id(self) -> str:
        return f"ses-M{self.month:03d}"

    @property
    def participant_id(self) -> str:
        return "sub-ADNI" + self.ptid.replace("_", "")

    def rng(self, stage: int) -> np.random.Generator:
        """A stream of its own for each stage, so that writing a person raw or prepared shows the same brain."""
        return np.random.default_rng([self.seed, self.rid, stage])

    def scan_rng(self, stage: int) -> np.random.Generator:
        """The same for what is new at each visit: pose, noise, errors."""
        return np.random.default_rng([self.seed, self.rid, stage, *([self.month] if self.month else [])])


def draw_people(design: CohortDesign, anatomies: int = 1) -> list[Person]:
    """Everybody in the cohort, in an order that mixes the groups; deterministic from `design.seed`."""
    rng = np.random.default_rng([design.seed, 1])
    groups = np.repeat(list(design.groups), list(design.groups.values()))
    rng.shuffle(groups)
    labeled = np.flatnonzero(np.isin(groups, ["converter", "stable"]))
    raw = set(_raw_people(groups, design.raw, rng).tolist())
    truncated = set(rng.permutation([i for i in labeled if i not in raw])[: design.truncated].tolist())
    disease, r, c = design.disease, design.severity_correlation, design.nuisance_correlation
    sites = _draw_sites(groups, design.site_imbalance, np.random.default_rng([design.seed, 2]))
    subtypes = np.random.default_rng([design.seed, 3]).choice(SUBTYPES, len(groups), p=disease.shares)
    noise = rng.standard_normal((len(groups), 6))
    noise[:, 1] = r * noise[:, 0] + np.sqrt(1 - r**2) * noise[:, 1]
    noise[:, 3] = c * noise[:, 2] + np.sqrt(1 - c**2) * noise[:, 3]
    missing_pet = _without_pet(design, noise[:, 1], np.random.default_rng([design.seed, 4]))
    people = []
    for i, group in enumerate(groups):
        sex = "F" if rng.random() < 0.45 else "M"
        age = AGE_MEAN + AGE_SD * noise[i, 4] + DEMENTIA_OLDER * (group == "dementia")
        conversion, last = _follow_up(group, rng)
        people.append(
            Person(
                ptid=f"{sites[i]:03d}_S_{1000 + i:04d}",
                group=str(group),
                subtype=str(subtypes[i]),
                raw=i in raw or i in truncated,
                truncated=i in truncated,
                has_pet=i not in missing_pet,
                severity_mri=float(disease.center(group, "mri") + noise[i, 0]),
                severity_pet=float(disease.center(group, "pet") + noise[i, 1]),
                nuisance_mri=float(noise[i, 2]),
                nuisance_pet=float(noise[i, 3]),
                age=round(float(np.clip(age, 55, 91)), 1),
                sex=sex,
                site=int(sites[i]),
                log_head_volume=float(0.07 * noise[i, 5] + (0.05 if sex == "M" else -0.06)),
                conversion_month=conversion,
                last_month=last,
                anatomy=int(i % anatomies),
                seed=design.seed,
                disease_seed=design.seed if design.disease_seed is None else design.disease_seed,
                site_effect=design.site_effect,
            )
        )
    return people


def later_visit(person: Person) -> Person:
    """The same person at month 24, or 12 where nobody is followed for longer: older, and more severe."""
    month = 24 if person.last_month >= 24 else 12
    rate, spread = (
        PROGRESS[person.group],
        PROGRESS_SD * np.random.default_rng([person.seed, person.rid, 10]).standard_normal(2),
    )
    steps = month / 12 * np.maximum(rate * (1 + spread), 0)
    return replace(
        person,
        month=month,
        age=round(person.age + month / 12, 1),
        severity_mri=float(person.severity_mri + steps[0]),
        severity_pet=float(person.severity_pet + steps[1]),
        truncated=False,
    )


def _draw_sites(groups: np.ndarray, imbalance: float, rng: np.random.Generator) -> np.ndarray:
    """A site (1, 2, ...) for everybody: 5 to 60 people each, with shares of classes of their own."""
    sizes: list[int] = []
    while sum(sizes) < len(groups):
        sizes.append(int(np.exp(rng.uniform(*np.log(SITE_SIZES)))))
    sizes[-1] -= sum(sizes) - len(groups)
    if len(sizes) > 1 and sizes[-1] < SITE_SIZES[0]:  # the last few join the smallest site
        last = sizes.pop()
        sizes[int(np.argmin(sizes))] += last
    tilt = imbalance * rng.standard_normal(len(sizes))
    ill = np.isin(groups, ["converter", "dementia"])
    places, sites = np.array(sizes), np.zeros(len(groups), int)
    for i in rng.permutation(len(groups)):
        odds = places * np.exp(tilt * (0.5 if ill[i] else -0.5))
        chosen = rng.choice(len(sizes), p=odds / odds.sum())
        places[chosen] -= 1
        sites[i] = chosen + 1
    return sites


def _without_pet(design: CohortDesign, severity: np.ndarray, rng: np.random.Generator) -> set[int]:
    """Who has no PET: a fixed number of people, more of the severe ones where the design says so (Gumbel top k)."""
    odds = design.missing_pet_severity * severity + rng.gumbel(size=len(severity))
    return set(np.argsort(-odds)[: round(design.missing_pet * len(severity))].tolist())


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


def bayes_posteriors(people: list[Person], design: CohortDesign) -> pd.DataFrame:
    """P(converter) given the severities themselves: `p_mri`, `p_pet`, `p_all` per person.

    The class-conditional densities are normal with a common covariance, so the posterior is logistic in the linear
    discriminant. Only converters and stable people are rated; others get nan, and so does everybody where sites differ
    in their shares of classes or PET is missing by severity (there more than severities tells who converts), or where
    one of the two classes has nobody.
    """
    known = design.site_imbalance == 0 and design.missing_pet_severity == 0
    known &= design.converters > 0 and design.stable > 0
    log_odds = np.log(design.converters / design.stable) if known else np.nan
    s = np.array([[p.severity_mri, p.severity_pet] for p in people])
    mean = np.array([design.disease.expressions[name].effect for name in ("mri", "pet")])
    r = design.severity_correlation
    covariance = np.array([[1, r], [r, 1]])
    rated = np.array([known and p.group in ("converter", "stable") for p in people])
    columns = {}
    for name, used in {"mri": [0], "pet": [1], "all": [0, 1]}.items():
        weights = np.linalg.solve(covariance[np.ix_(used, used)], mean[used])
        logit = (s[:, used] - mean[used] / 2) @ weights + log_odds
        columns[f"p_{name}"] = np.where(rated, 1 / (1 + np.exp(-logit)), np.nan)
    return pd.DataFrame({"participant_id": [p.participant_id for p in people], **columns})
