"""A small classifier for vectors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class MLPConfig:
    """`hidden=()` is a linear classifier. No batch normalization, so a batch may hold a single sample.

    bias: of the last layer. Without it, inputs of small norm and few labels of unequal classes (documents as tf-idf
        weights of norm 1) do not end in a classifier that knows the shares of the classes and nothing else.

    >>> MLPConfig(hidden=(16,)).build((5,), 2).head
    Linear(in_features=16, out_features=2, bias=True)
    >>> MLPConfig().build((4, 4, 4), 2)
    Traceback (most recent call last):
        ...
    ValueError: input shape (4, 4, 4); the MLP takes vectors, shape (k,)
    """

    hidden: tuple[int, ...] = ()
    dropout: float = 0.0
    bias: bool = True

    def build(self, shape: tuple[int, ...], classes: int) -> MLP:
        if len(shape) != 1:
            raise ValueError(f"input shape {shape}; the MLP takes vectors, shape (k,)")
        return MLP(self, shape[0], classes)


class MLP(nn.Module):
    """(B, k) vectors -> (B, classes) logits.

    >>> import torch
    >>> MLPConfig(hidden=(16,)).build((5,), 2)(torch.zeros(3, 5)).shape
    torch.Size([3, 2])
    """

    def __init__(self, config: MLPConfig, inputs: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = inputs
        for hidden in config.hidden:
            layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(config.dropout)]
            width = hidden
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(width, classes, bias=config.bias)

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))
