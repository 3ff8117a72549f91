"""Make posteriors mean what they say: each modality first, then their combination once more.

With two modalities and two classes the gain leaves the relative scale of the modalities open, and severity that they
share counts twice in the combination; so scales come from labeled validation samples, before and after combining.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, logit

# A posterior of exactly 0 has no logarithm to rescale; e^-30 is far below anything that 60 labels can tell.
SMALLEST_LOG_POSTERIOR = -30.0
# The split under which `predictions.tsv` lists what models trained without them say of visible labels.
CROSS_FITTED = "cross_fitted"


@dataclass(frozen=True)
class Rescaling:
    """log-posterior -> log_softmax(log-posterior / temperature + intercept). `samples` is how many it was fitted on.

    >>> Rescaling(2.0, (0.0, 0.0), samples=60).apply(np.log([[0.9, 0.1]])).round(3).tolist()  # less sure
    [[-0.288, -1.386]]
    """

    temperature: float
    intercept: tuple[float, ...]
    samples: int

    def apply(self, log_posterior: np.ndarray) -> np.ndarray:
        """(B, C) log-posteriors in and out."""
        log_posterior = np.maximum(np.asarray(log_posterior, dtype=float), SMALLEST_LOG_POSTERIOR)
        return log_softmax(log_posterior / self.temperature + np.array(self.intercept), axis=1)


def fit_rescaling(
    log_posterior: np.ndarray, labels: np.ndarray, ridge: float = 1.0, only_soften: bool = False
) -> Rescaling:
    """The temperature and intercepts that minimize the summed log-loss + ridge/2 (log^2 temperature + |intercept|^2).

    log_posterior: (B, C); labels: (B,) class indices. The ridge is a normal prior of variance 1/ridge around "leave it
    as it is", so that few labels change little and none change nothing. only_soften: a temperature of at least 1, and
    no intercept: a handful of labels that happen to be right would otherwise make anybody sure of everything.

    >>> sure = np.log([[0.99, 0.01], [0.99, 0.01], [0.01, 0.99], [0.01, 0.99]])
    >>> fit_rescaling(sure, np.array([0, 1, 1, 0])).temperature > 1  # half of them are wrong
    True
    """
    log_posterior = np.maximum(np.asarray(log_posterior, dtype=float), SMALLEST_LOG_POSTERIOR)
    classes = log_posterior.shape[1]
    targets = np.eye(classes)[np.asarray(labels)].reshape(-1, classes)

    def objective(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scale, intercept = np.exp(parameters[0]), parameters[1:]
        fitted = log_softmax(log_posterior * scale + intercept, axis=1)
        error = np.exp(fitted) - targets
        slope = np.concatenate([[(error * log_posterior).sum() * scale], error.sum(0)])
        return -(fitted * targets).sum() + ridge / 2 * parameters @ parameters, slope + ridge * parameters

    # Six natural-log units of scale either way are far outside anything useful and keep exp() finite.
    bounds = [(-6.0, 0.0)] + [(0.0, 0.0)] * classes if only_soften else [(-6.0, 6.0)] + [(None, None)] * classes
    found = minimize(objective, np.zeros(1 + classes), jac=True, method="L-BFGS-B", bounds=bounds)
    return Rescaling(float(np.exp(-found.x[0])), tuple(map(float, found.x[1:])), len(targets))


@dataclass(frozen=True)
class Calibration:
    """One rescaling for each modality and one for "all", with the log-prior that combines the modalities.

    >>> same = Rescaling(1.0, (0.0, 0.0), 0)
    >>> calibration = Calibration({"mri": same, "all": same}, tuple(np.log([0.5, 0.5])))
    >>> np.exp(calibration.apply({"mri": np.log([[0.8, 0.2]])}, np.ones((1, 1), bool))["all"]).round(3).tolist()
    [[0.8, 0.2]]
    """

    rescalings: dict[str, Rescaling]
    log_prior: tuple[float, ...]

    @property
    def modalities(self) -> list[str]:
        return [name for name in self.rescalings if name != "all"]

    def apply(self, log_posteriors: Mapping[str, np.ndarray], present: np.ndarray) -> dict[str, np.ndarray]:
        """Calibrated (B, C) log-posteriors for each modality and "all"; `present` is (B, M) bool in modality order.

        Where a single modality is present, "all" is that modality: nothing was counted twice.
        """
        if not self.modalities:
            return {"all": self.rescalings["all"].apply(_array(log_posteriors["all"]))}
        calibrated = {name: self.rescalings[name].apply(_array(log_posteriors[name])) for name in self.modalities}
        combined = _combine(calibrated, self.log_prior, present)
        several = _several(present)[:, None]
        return calibrated | {"all": np.where(several, self.rescalings["all"].apply(combined), combined)}

    def to_json(self) -> dict:
        return {
            "log_prior": list(self.log_prior),
            "rescalings": {
                name: {"temperature": r.temperature, "intercept": list(r.intercept), "samples": r.samples}
                for name, r in self.rescalings.items()
            },
        }

    @staticmethod
    def from_json(content: Mapping) -> Calibration:
        return Calibration(
            {
                name: Rescaling(r["temperature"], tuple(r["intercept"]), r["samples"])
                for name, r in content["rescalings"].items()
            },
            tuple(content["log_prior"]),
        )


def fit_calibration(
    log_posteriors: Mapping[str, np.ndarray],
    labels: np.ndarray,
    present: np.ndarray,
    log_prior: np.ndarray,
    ridge: float = 1.0,
    only_soften: bool = False,
) -> Calibration:
    """Fit on the validation split: modality by modality, then on the combination of the calibrated modalities.

    log_posteriors: modality -> (B, C), in the order of the columns of `present` (B, M); an entry "all" is used only by
    methods that have no posterior per modality. labels: (B,), negative where unknown; log_prior: (C,). ridge,
    only_soften: as in `fit_rescaling`.

    >>> p = np.log([[0.8, 0.2], [0.3, 0.7]] * 10)
    >>> calibration = fit_calibration({"mri": p}, np.array([0, 1] * 10), np.ones((20, 1), bool), np.log([0.5, 0.5]))
    >>> sorted(calibration.rescalings)
    ['all', 'mri']
    """
    labels, present = _array(labels).astype(int), _array(present).astype(bool)
    log_prior = tuple(float(value) for value in log_prior)
    modalities = [name for name in log_posteriors if name != "all"]
    if modalities and present.shape != (len(labels), len(modalities)):
        raise ValueError(
            f"present has shape {present.shape}; expected {(len(labels), len(modalities))} for {modalities}"
        )
    rescalings = {}
    for column, name in enumerate(modalities):
        rows = (labels >= 0) & present[:, column]
        rescalings[name] = fit_rescaling(_array(log_posteriors[name])[rows], labels[rows], ridge, only_soften)
    if modalities:
        calibrated = {name: rescalings[name].apply(_array(log_posteriors[name])) for name in modalities}
        combined, rows = _combine(calibrated, log_prior, present), (labels >= 0) & _several(present)
    else:
        combined, rows = _array(log_posteriors["all"]), labels >= 0
    of_all = fit_rescaling(combined[rows], labels[rows], ridge, only_soften)
    return Calibration(rescalings | {"all": of_all}, log_prior)


def draw_calibrations(
    log_posteriors: Mapping[str, np.ndarray],
    labels: np.ndarray,
    present: np.ndarray,
    log_prior: np.ndarray,
    draws: int = 200,
    seed: int = 0,
    ridge: float = 1.0,
) -> list[Calibration]:
    """Calibrations that the labels leave open: `fit_calibration`, each rescaling drawn from the normal approximation of
    its posterior (Laplace; MacKay, Information Theory, Inference, and Learning Algorithms, 2003, chapter 27), for which
    the ridge is the prior; "all" is fitted and drawn anew for each draw of the modalities.

    Arguments as there. Without a labeled sample: an empty list.

    >>> p, y, present = np.log([[0.8, 0.2], [0.3, 0.7]] * 10), np.array([0, 1] * 10), np.ones((20, 1), bool)
    >>> len(draw_calibrations({"mri": p}, y, present, np.log([0.5, 0.5]), draws=3))
    3
    """
    labels, present = _array(labels).astype(int), _array(present).astype(bool)
    if not (labels >= 0).any():
        return []
    rng = np.random.default_rng(seed)
    fitted = fit_calibration(log_posteriors, labels, present, log_prior, ridge)
    values = {name: _array(log_posteriors[name]) for name in fitted.modalities}
    modalities = {}
    for column, name in enumerate(values):
        rows = (labels >= 0) & present[:, column]
        modalities[name] = _draw_rescalings(
            fitted.rescalings[name], values[name][rows], labels[rows], ridge, draws, rng
        )
    found = []
    for draw in range(draws):
        drawn = {name: rescalings[draw] for name, rescalings in modalities.items()}
        if modalities:
            applied = {name: drawn[name].apply(values[name]) for name in drawn}
            combined, rows = _combine(applied, fitted.log_prior, present), (labels >= 0) & _several(present)
        else:
            combined, rows = _array(log_posteriors["all"]), labels >= 0
        of_all = fit_rescaling(combined[rows], labels[rows], ridge)
        drawn["all"] = _draw_rescalings(of_all, combined[rows], labels[rows], ridge, 1, rng)[0]
        found.append(Calibration(drawn, fitted.log_prior))
    return found


def _draw_rescalings(
    fitted: Rescaling, log_posterior: np.ndarray, labels: np.ndarray, ridge: float, draws: int, rng: np.random.Generator
) -> list[Rescaling]:
    """From a normal distribution of (log scale, intercepts) around `fitted`, with the curvature of its objective."""
    log_posterior = np.maximum(log_posterior, SMALLEST_LOG_POSTERIOR)
    classes, scaled = log_posterior.shape[1], log_posterior / fitted.temperature
    p = np.exp(fitted.apply(log_posterior))
    slopes = np.concatenate([scaled[:, :, None], np.broadcast_to(np.eye(classes), (len(p), classes, classes))], axis=2)
    spread = p[:, :, None] * np.eye(classes) - p[:, :, None] * p[:, None, :]
    curvature = np.einsum("nci,ncd,ndj->ij", slopes, spread, slopes) + ridge * np.eye(1 + classes)
    curvature[0, 0] += ((p - np.eye(classes)[labels]) * scaled).sum()
    precision, axes = np.linalg.eigh(curvature)
    # The symmetric root: the sign of an axis hangs on last bits, and would make other draws of the same numbers.
    root = axes / np.sqrt(np.maximum(precision, ridge)) @ axes.T
    steps = rng.normal(size=(draws, 1 + classes)) @ root
    center = np.array([-np.log(fitted.temperature), *fitted.intercept])
    return [
        Rescaling(float(np.exp(-theta[0])), tuple(map(float, theta[1:])), fitted.samples) for theta in center + steps
    ]


def probability_intervals(
    calibrations: Sequence[Calibration],
    log_posteriors: Mapping[str, np.ndarray],
    present: np.ndarray,
    level: float = 0.95,
) -> dict[str, np.ndarray]:
    """Modality or "all" -> (B, C, 2): interval of each posterior over drawn calibrations, between percentiles.

    It holds what few calibration labels leave open, not what another training would have given.

    >>> p, present = {"mri": np.log([[0.8, 0.2], [0.3, 0.7]] * 10)}, np.ones((20, 1), bool)
    >>> drawn = draw_calibrations(p, np.array([0, 1] * 10), present, np.log([0.5, 0.5]), draws=3)
    >>> probability_intervals(drawn, p, present)["all"].shape
    (20, 2, 2)
    """
    tails = [(1 - level) / 2, (1 + level) / 2]
    applied = [calibration.apply(log_posteriors, present) for calibration in calibrations]
    return {
        name: np.moveaxis(np.quantile(np.exp([found[name] for found in applied]), tails, axis=0), 0, -1)
        for name in applied[0]
    }


def shift_prevalence(probability: np.ndarray, base_rate: float, prevalence: float) -> np.ndarray:
    """The same evidence where another share has the outcome: posterior odds times the ratio of the prior odds.

    It presumes that people of one outcome look alike in both populations (prior shift; Saerens et al., Neural
    Computation 2002). Raises ValueError for a share that is not strictly between 0 and 1.

    >>> shift_prevalence(np.array([0.5]), base_rate=0.5, prevalence=0.17).round(2).tolist()
    [0.17]
    """
    for name, value in (("base_rate", base_rate), ("prevalence", prevalence)):
        if not 0 < value < 1:
            raise ValueError(f"{name} is {value}; a share strictly between 0 and 1 is needed")
    return expit(logit(probability) + logit(prevalence) - logit(base_rate))


def _combine(log_posteriors: Mapping[str, np.ndarray], log_prior: tuple[float, ...], present: np.ndarray) -> np.ndarray:
    """The aggregator (paper section 4.2) as in `tcgm.aggregator`, in NumPy: reports apply it, too, without torch."""
    evidence = np.stack(list(log_posteriors.values())) - np.array(log_prior)
    seen = _array(present).astype(bool).T[:, :, None]
    return log_softmax(np.where(seen, evidence, 0.0).sum(0) + np.array(log_prior), axis=1)


def _several(present: np.ndarray) -> np.ndarray:
    """(B,) bool: who has more than one modality."""
    return _array(present).astype(bool).sum(1) > 1


def _array(values: np.ndarray) -> np.ndarray:
    """An array of an array or of a tensor on the CPU."""
    return np.asarray(values)
