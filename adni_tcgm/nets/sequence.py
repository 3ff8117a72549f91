"""The sub-networks of low-rank multimodal fusion, each a classifier of its own with a linear head.

Reference: Liu et al., Efficient Low-rank Multimodal Fusion with Modality-Specific Factors, ACL 2018
(arXiv 1806.00064), section 4: a network on one vector per utterance for audio and video, an LSTM for text.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence


@dataclass(frozen=True)
class EncoderConfig:
    """The network follows from the input: vectors (k,) or sequences (T, 1 + D), see `SequenceEncoder`.

    batch_norm: of vectors, as published. Its statistics come from labeled samples alone; where those are a dozen, false
        is far better, with inputs that all training samples standardized before.

    >>> type(EncoderConfig().build((5,), 2)).__name__, type(EncoderConfig().build((20, 6), 2)).__name__
    ('VectorEncoder', 'SequenceEncoder')
    """

    hidden: int = 32
    dropout: float = 0.0
    batch_norm: bool = True

    def __post_init__(self) -> None:
        if self.hidden < 2:
            raise ValueError(f"hidden is {self.hidden}; it must be at least 2")

    def build(self, shape: tuple[int, ...], classes: int) -> VectorEncoder | SequenceEncoder:
        if len(shape) == 1:
            return VectorEncoder(self, shape[0], classes)
        if len(shape) == 2 and shape[1] > 1:
            return SequenceEncoder(self, shape[1] - 1, classes)
        raise ValueError(f"input shape {shape}; the encoder takes vectors (k,) or sequences (T, 1 + D)")


class VectorEncoder(nn.Module):
    """(B, k) -> (B, classes): batch normalization, dropout, three layers of ReLU, head.

    >>> import torch
    >>> EncoderConfig(hidden=8).build((5,), 2)(torch.randn(4, 5)).shape
    torch.Size([4, 2])
    """

    def __init__(self, config: EncoderConfig, inputs: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(inputs) if config.batch_norm else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        widths = (inputs, config.hidden, config.hidden, config.hidden)
        layers = [(nn.Linear(a, b), nn.ReLU()) for a, b in zip(widths, widths[1:], strict=False)]
        self.body = nn.Sequential(*(layer for pair in layers for layer in pair))
        self.head = nn.Linear(config.hidden, classes)

    def features(self, x: Tensor) -> Tensor:
        """(B, k) -> (B, hidden)."""
        return self.body(self.dropout(self._normalize(x)))

    def _normalize(self, x: Tensor) -> Tensor:
        norm = self.norm
        if self.training and len(x) == 1 and isinstance(norm, nn.BatchNorm1d):
            # One sample has no variance; with few labels and missing modalities a batch may hold no more.
            return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        return norm(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class SequenceEncoder(nn.Module):
    """(B, T, 1 + D) -> (B, classes): last state of a one-layer LSTM, dropout, linear layer to half the width, head.

    Column 0 marks the real steps, wherever they lie; only they reach the LSTM, so padding changes nothing.

    >>> import torch
    >>> EncoderConfig(hidden=8).build((20, 6), 2)(torch.ones(4, 20, 6)).shape  # 20 steps of a mark and 5 features
    torch.Size([4, 2])
    """

    def __init__(self, config: EncoderConfig, inputs: int, classes: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, config.hidden, batch_first=True)
        self.dropout = nn.Dropout(config.dropout)
        self.body = nn.Linear(config.hidden, config.hidden // 2)
        self.head = nn.Linear(config.hidden // 2, classes)

    def features(self, x: Tensor) -> Tensor:
        """(B, T, 1 + D) -> (B, hidden // 2). An utterance without a step counts as one step of zeros."""
        real = x[:, :, 0] > 0.5
        lengths = real.sum(1).clamp(min=1)
        order = (~real).to(torch.uint8).argsort(dim=1, stable=True)[:, : int(lengths.max())]
        steps = x[:, :, 1:].gather(1, order.unsqueeze(-1).expand(-1, -1, x.shape[2] - 1))
        packed = pack_padded_sequence(steps, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, (last, _) = self.lstm(packed)
        return self.body(self.dropout(last[0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))
