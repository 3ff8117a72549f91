"""All networks by name: what a configuration calls them, and what a saved model does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from adni_tcgm.nets.densenet3d import DenseNet3DConfig
from adni_tcgm.nets.grid3d import Grid3DConfig
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.nets.sequence import EncoderConfig

# Name in a configuration -> its settings; "mlp" takes more.
NETS: dict[str, Callable[..., Any]] = {
    "paper": DenseNet3DConfig.paper,
    "slim": DenseNet3DConfig.slim,
    "grid": Grid3DConfig,
    "linear": MLPConfig,
    "mlp": MLPConfig,
}
# Name in a saved model -> the kind of its settings.
NET_SETTINGS: dict[str, Any] = {
    "mlp": MLPConfig,
    "densenet3d": DenseNet3DConfig,
    "grid3d": Grid3DConfig,
    "sequence": EncoderConfig,
}
