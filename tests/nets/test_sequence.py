"""Classifiers of utterances: what they must not depend on, and the published sizes."""

from __future__ import annotations

import pytest
import torch

from adni_tcgm.nets.sequence import EncoderConfig


def utterances(lengths: tuple[int, ...], steps: int, front: bool = False, fill: float = 0.0) -> torch.Tensor:
    """(B, steps, 1 + 4): the same words for a length whatever the padding, which holds `fill`."""
    x = torch.full((len(lengths), steps, 5), fill)
    for row, length in enumerate(lengths):
        first = steps - length if front else 0
        words = torch.randn((length, 4), generator=torch.Generator().manual_seed(row))
        x[row, :, 0] = 0
        x[row, first : first + length] = torch.cat([torch.ones(length, 1), words], 1)
    return x


@pytest.mark.parametrize(("steps", "front", "fill"), [(7, False, 0.0), (40, False, 9.0), (12, True, -3.0)])
def test_the_output_is_the_same_whatever_the_padding(steps: int, front: bool, fill: float) -> None:
    torch.manual_seed(0)
    net = EncoderConfig(hidden=8).build((7, 5), 2).eval()
    lengths = (3, 7, 1, 5)
    alone = torch.cat([net(utterances(lengths, 7)[row : row + 1, :length]) for row, length in enumerate(lengths)])
    torch.testing.assert_close(net(utterances(lengths, steps, front, fill)), alone)


def test_no_gradient_reaches_padding() -> None:
    x = utterances((3, 5), 9, fill=2.0).requires_grad_()
    EncoderConfig(hidden=8).build((9, 5), 2)(x).sum().backward()
    assert x.grad[0, 3:, 1:].abs().max() == 0 and x.grad[0, :3, 1:].abs().min() > 0


def test_the_order_of_words_matters() -> None:
    net = EncoderConfig(hidden=8).build((6, 5), 2).eval()
    x = utterances((6,), 6)
    assert not torch.allclose(net(x), net(x.flip(1)))


def test_sizes_are_those_published() -> None:
    """Liu et al. 2018: three layers of `hidden`; text is projected to half the width of its LSTM."""
    vector, text = EncoderConfig(hidden=8).build((74,), 2), EncoderConfig(hidden=64).build((20, 301), 2)
    count = [sum(p.numel() for p in net.parameters()) for net in (vector, text)]
    assert count[0] == 2 * 74 + (74 * 8 + 8) + 2 * (8 * 8 + 8) + (8 * 2 + 2)
    assert count[1] == 4 * (300 * 64 + 64 * 64 + 2 * 64) + (64 * 32 + 32) + (32 * 2 + 2)


def test_a_batch_of_one_sample_trains_and_leaves_the_statistics_alone() -> None:
    net = EncoderConfig(hidden=8).build((5,), 2).train()
    before = net.norm.running_mean.clone()
    net(torch.randn(1, 5)).sum().backward()
    torch.testing.assert_close(net.norm.running_mean, before)
    assert net.norm.weight.grad is not None


@pytest.mark.parametrize("shape", [(), (5, 1), (2, 3, 4)])
def test_other_inputs_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"vectors \(k,\) or sequences"):
        EncoderConfig().build(shape, 2)


def test_an_utterance_without_a_word_has_an_output() -> None:
    net = EncoderConfig(hidden=8).build((4, 5), 2).eval()
    assert net(torch.zeros(2, 4, 5)).isfinite().all()
