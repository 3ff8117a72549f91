"""How severity shows: the regional pattern of atrophy and of hypometabolism, and how strongly.

Volumes change by a log factor, uptake too. For each region: `severity` is the change per within-class standard
deviation of severity, `nuisance` the same for the factor that does not lie along the label (aging, mostly),
`own` the standard deviation of what belongs to this region and person alone (shared by both sides), `side` that of
each side. Magnitudes are set so that hippocampal volume and the meta-ROI separate stable from converting MCI by
d = .75 and 1.1; `benchmarks/simulated_cohort.py` measures what comes out.
"""

from __future__ import annotations

from dataclasses import dataclass

from preprocessing.simulated.people import Person


@dataclass(frozen=True)
class Expression:
    """One region's log change per standard deviation of each factor (dimensionless; -.105 is 10 % less)."""

    region: str
    severity: float
    nuisance: float
    own: float
    side: float


# Order of involvement: hippocampus first, then amygdala and entorhinal, parahippocampal, temporal neocortex.
ATROPHY = (
    Expression("hippocampus", -0.105, -0.045, 0.060, 0.035),
    Expression("amygdala", -0.090, -0.035, 0.056, 0.036),
    Expression("entorhinal", -0.100, -0.020, 0.062, 0.040),
    Expression("parahippocampal", -0.080, -0.020, 0.050, 0.035),
    Expression("inferior_temporal", -0.062, -0.020, 0.032, 0.025),
    Expression("middle_temporal", -0.062, -0.020, 0.032, 0.025),
    Expression("fusiform", -0.056, -0.020, 0.036, 0.025),
    # What the temporal lobe loses, the ventricles gain.
    Expression("lateral_ventricle", 0.100, 0.150, 0.220, 0.050),
    Expression("inferior_lateral_ventricle", 0.120, 0.120, 0.200, 0.080),
)
# Isthmus and precuneus first, then parietotemporal cortex; pons, vermis and sensorimotor cortex are spared.
HYPOMETABOLISM = (
    Expression("isthmus_cingulate", -0.108, -0.010, 0.055, 0.025),
    Expression("precuneus", -0.108, -0.010, 0.055, 0.025),
    Expression("inferior_parietal", -0.114, -0.010, 0.060, 0.030),
    Expression("inferior_temporal", -0.096, -0.010, 0.060, 0.030),
    Expression("middle_temporal", -0.096, -0.010, 0.060, 0.030),
    Expression("hippocampus", -0.050, -0.010, 0.055, 0.030),
)
# Frontal and sensorimotor uptake follow the nuisance alone; all cortex shares a level relative to the pons.
CORTEX_LEVEL = 0.040
FRONTAL = ("superior_frontal", "rostral_middle_frontal", "caudal_middle_frontal", "precentral", "postcentral")
FRONTAL_NUISANCE = -0.05
SIDES = ("left", "right")


def regional_changes(pattern: tuple[Expression, ...], person: Person, modality: str) -> dict[tuple[str, str], float]:
    """Log change of every (region, side) in this person; `modality` is "mri" or "pet"."""
    severity = getattr(person, f"severity_{modality}")
    nuisance = getattr(person, f"nuisance_{modality}")
    rng = person.rng({"mri": 1, "pet": 2}[modality])
    changes = {}
    for e in pattern:
        shared = e.severity * severity + e.nuisance * nuisance + e.own * rng.standard_normal()
        for side in SIDES:
            changes[e.region, side] = shared + e.side * rng.standard_normal()
    return changes
