"""The learner: total correlation gain maximization over any modalities and classes.

>>> import adni_tcgm as at
>>> at.MLP(hidden=(64,))
MLPConfig(hidden=(64,), dropout=0.0, bias=True)
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.2.0"

# Loaded when first asked for: what only reads a calibration, as reports do, needs no torch.
_PUBLIC = {
    "TCGM": "estimators:TCGM",
    "MultimodalClassifier": "estimators:MultimodalClassifier",
    "MultimodalData": "data:MultimodalData",
    "TrainedModel": "model:TrainedModel",
    "load": "model:load",
    "MLP": "nets.mlp:MLPConfig",
    "DenseNet3D": "nets.densenet3d:DenseNet3DConfig",
}
__all__ = [*_PUBLIC, "__version__"]  # noqa: PLE0604 (names as text)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PUBLIC[name].split(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
