"""What a run will cost, before it starts: counts times seconds, from figures of `benchmarks/RESULTS.md`."""

from __future__ import annotations

from dataclasses import dataclass

from adni_tcgm.evaluation.cross_fitting import FOLDS
from pipelines.config import AUSTERE, NO_PRETRAINING, Settings

# Seconds of one core of a small virtual machine. For orientation only: nothing depends on them.
SIMULATE_RAW, SIMULATE_PREPARED = 4.0, 0.5
PREPARE_RAW = 29.0
# A training step of the slim DenseNet, per sample and modality; evaluation takes about a third.
SLIM_SAMPLE = 0.09
# The same of the grid. After pretraining, all steps together take seconds: frozen encoders are asked once.
GRID_SAMPLE = 0.001
REPORT = 1.5
PEAK_GIB = 4.0
MODALITIES = 2


@dataclass(frozen=True)
class Plan:
    """How many of each kind of work are asked for."""

    raw: int
    prepared: int
    simulated: bool
    reports: int
    jobs: int

    def seconds(self, settings: list[Settings], methods: list[str]) -> dict[str, float]:
        """Wall seconds by stage on `jobs` cores like those of RESULTS.md, without a GPU."""
        simulate = self.simulated * (self.raw * SIMULATE_RAW + self.prepared * SIMULATE_PREPARED)
        return {
            "preprocessing": (simulate + self.raw * PREPARE_RAW) / self.jobs,
            "training": sum(_training(s, method) for s in settings for method in methods),
            "reports": self.reports * REPORT / self.jobs,
        }


def _training(settings: Settings, method: str) -> float:
    """Regions take seconds. One thread or two make little difference to a step this small. By the austere protocol the
    steps on labels run once more for each fold of cross-fitting."""
    trainings = 1 + FOLDS * (settings.protocol == AUSTERE)
    if settings.data.features != "voxels":
        return 5.0 * trainings
    if settings.pretraining != NO_PRETRAINING:
        pretraining = settings.chosen_pretraining()
        each = GRID_SAMPLE if settings.network == "grid" else SLIM_SAMPLE
        return 10.0 * trainings + pretraining.steps * pretraining.batch_size * MODALITIES * each
    train = settings.train_for(method)
    samples = train.steps * train.batch_size_labeled
    if method != "ce":
        samples += (train.steps - train.supervised_steps) * train.batch_size_unlabeled
    return trainings * samples * MODALITIES * SLIM_SAMPLE
