"""Is a person like those that were trained on? A distance in measurements, judged by the training people's own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.covariance import LedoitWolf

# A person further out than this share of the training people is flagged.
FLAGGED_SHARE = 0.99
SMALLEST_TRAINING = 20


@dataclass(frozen=True)
class OutOfDistribution:
    """`share`: the training people who lie nearer to the center than this person; `n` of them were compared.

    >>> OutOfDistribution(share=0.995, n=200, flagged=True).flagged
    True
    """

    share: float
    n: int
    flagged: bool


def score_out_of_distribution(training: np.ndarray, person: np.ndarray) -> OutOfDistribution | None:
    """Mahalanobis distance (shrunken covariance, Ledoit & Wolf 2004) of one person among training people.

    training: (N, K) measurements, person: (K,); NaN where one is missing. Only what the person has is compared, with
    the training people who have all of it. No label enters. None with fewer than 20 of them or nothing to compare.

    >>> training = np.random.default_rng(0).normal(size=(100, 2))
    >>> score_out_of_distribution(training, np.array([9.0, -9.0])).flagged
    True
    """
    measured = np.isfinite(person)
    training = training[:, measured]
    training = training[np.isfinite(training).all(1)]
    if not measured.any() or len(training) < SMALLEST_TRAINING:
        return None
    mean, sd = training.mean(0), training.std(0)
    varies = sd > 0
    if not varies.any():
        return None
    standard = ((training - mean) / np.where(varies, sd, 1))[:, varies]
    fitted = LedoitWolf(assume_centered=True).fit(standard)
    own = fitted.mahalanobis(((person[measured] - mean) / np.where(varies, sd, 1))[varies][None])[0]
    share = float((fitted.mahalanobis(standard) < own).mean())
    return OutOfDistribution(share, len(training), share >= FLAGGED_SHARE)
