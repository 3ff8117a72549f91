"""The learner: total correlation gain maximization over any modalities and classes."""

__version__ = "0.1.0"
