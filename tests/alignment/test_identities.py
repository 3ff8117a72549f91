"""What must hold exactly: moments, inverses, duality; and the size of the test of what remains."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import LBFGS

from adni_tcgm.alignment.dual import dual_distance, kernel
from adni_tcgm.alignment.gaussian import monge_map
from adni_tcgm.alignment.mixture import fit_mixture
from adni_tcgm.alignment.moments import Gaussian, fit_gaussian, match_moments
from adni_tcgm.alignment.real_nvp import FlowDensity, RealNVP, RealNVPFlow
from adni_tcgm.alignment.remaining import likelihood_ratio, remaining_loss


def draw(count: int, width: int, seed: int) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def fit_plain_gaussian(x: Tensor):
    return fit_gaussian(x, shrink=False).log_density


def minimize(loss, parameters: list[Tensor]) -> float:
    optimizer = LBFGS(
        parameters, max_iter=2000, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
    return loss().item()


def test_minimizing_the_gaussian_loss_over_affine_maps_and_shared_densities_matches_both_moments():
    """The paper's loss, minimized by gradients alone, ends at 0 and where the closed form is."""
    a, b = 1.5 * draw(60, 3, 0) + 1, draw(50, 3, 1) @ torch.tensor([[1, 0.5, 0], [0, 1, 0.3], [0, 0, 0.7]]).double()
    matrix, shift = torch.eye(3).double().requires_grad_(), torch.zeros(3).double().requires_grad_()
    root, mean = torch.eye(3).double().requires_grad_(), torch.zeros(3).double().requires_grad_()
    constant = fit_plain_gaussian(a)(a).mean() + fit_plain_gaussian(b)(b).mean()

    def loss() -> Tensor:
        aligned = a @ matrix.T + shift
        shared = Gaussian(mean, root @ root.T)
        return constant - matrix.slogdet().logabsdet - shared.log_density(aligned).mean() - shared.log_density(b).mean()

    assert minimize(loss, [matrix, shift, root, mean]) == pytest.approx(0, abs=1e-6)
    found = (a @ matrix.T + shift).detach()
    closed = monge_map(fit_gaussian(a, shrink=False), fit_gaussian(b, shrink=False))(a)
    for aligned in (found, closed):
        assert torch.allclose(aligned.mean(0), b.mean(0), atol=1e-5)
        assert torch.allclose(torch.cov(aligned.T, correction=0), torch.cov(b.T, correction=0), atol=1e-5)
    assert likelihood_ratio(closed, b, fit_plain_gaussian) == pytest.approx(0, abs=1e-9)


def test_the_monge_map_is_symmetric_positive_and_its_covariance_that_of_the_reference():
    a, b = fit_gaussian(draw(40, 5, 0)), fit_gaussian(draw(40, 5, 1) * torch.arange(1, 6))
    matrix = monge_map(a, b).matrix
    assert torch.allclose(matrix, matrix.T, atol=1e-10)
    assert torch.linalg.eigvalsh(matrix).min() > 0
    assert torch.allclose(matrix @ a.covariance @ matrix, b.covariance, atol=1e-9)


def test_many_samples_at_once_are_matched_as_each_alone():
    a, b = draw(60, 3, 0).reshape(2, 30, 3) * 2, draw(50, 3, 1).reshape(2, 25, 3) + 1
    both = match_moments(a, b)
    for i in range(2):
        alone = monge_map(fit_gaussian(a[i]), fit_gaussian(b[i]))(a[i])
        assert torch.allclose(both[i], alone, atol=1e-9)


def bent(width: int) -> RealNVP:
    torch.manual_seed(0)
    flow = RealNVP(width, couplings=4, hidden=8)
    with torch.no_grad():
        flow.last.normal_(), flow.last_bias.normal_()
    return flow


@pytest.mark.parametrize("width", [1, 2, 7])
def test_a_flow_is_undone_by_its_inverse(width):
    x, flow = draw(20, width, 0), bent(width)
    y = flow(x)
    assert (y - x).abs().max() > 0.1
    assert torch.allclose(flow.inverse(y), x, atol=1e-5)


def test_the_log_determinant_of_a_flow_is_that_of_its_jacobian():
    x, flow = draw(3, 4, 0), bent(4)
    logs = flow.flow(x)[1]
    for row in range(3):
        jacobian = torch.autograd.functional.jacobian(lambda v: flow(v[None])[0], x[row])
        assert logs[row].item() == pytest.approx(jacobian.slogdet().logabsdet.item(), abs=1e-9)


def test_the_density_of_a_flow_integrates_to_one():
    density = FlowDensity(draw(30, 1, 0), couplings=2, hidden=4)
    density.net = bent(1)
    grid = torch.linspace(-200, 200, 400_001, dtype=torch.float64)[:, None]
    with torch.no_grad():
        assert float(density(grid).exp().sum() * 1e-3) == pytest.approx(1, abs=1e-3)


def test_the_density_of_a_mixture_integrates_to_one():
    x = torch.cat([draw(30, 1, 0), draw(30, 1, 1) + 6])
    grid = torch.linspace(-60, 60, 120_001, dtype=torch.float64)[:, None]
    assert float(fit_mixture(x)(grid).exp().sum() * 1e-3) == pytest.approx(1, abs=1e-6)


def test_a_flow_aligns_what_moments_cannot():
    """One feature that is the square of the other: the map begun from matched moments bends it straight."""
    x = draw(150, 2, 0)
    a, b = torch.stack([x[:, 0], x[:, 1] * 0.3 + x[:, 0] ** 2], 1), draw(150, 2, 1)
    moments = monge_map(fit_gaussian(a), fit_gaussian(b))(a)
    aligned = RealNVPFlow(steps=30).fit_map(a, b, 0)(a)

    def bend(y: Tensor) -> float:
        return abs(float(torch.corrcoef(torch.stack([y[:, 0] ** 2, y[:, 1]]))[0, 1]))

    assert bend(moments) > 0.8 and bend(aligned) < 0.4


# ---- what remains


def test_the_loss_of_two_samples_of_one_distribution_is_not_zero_but_what_chance_gives():
    values = [likelihood_ratio(draw(60, 16, 2 * s), draw(60, 16, 2 * s + 1), fit_plain_gaussian) for s in range(30)]
    assert torch.tensor(values).mean().item() == pytest.approx(1.5, abs=0.15)


def fit_monge(a: Tensor, b: Tensor):
    return monge_map(fit_gaussian(a), fit_gaussian(b))


def modes(count: int, k: int, seed: int) -> Tensor:
    """k modes along the first of two features, 8 SDs apart."""
    x = draw(count, 2, seed)
    x[:, 0] += 8 * (torch.arange(count) % k - (k - 1) / 2)
    return x


def test_what_remains_of_aligned_samples_of_one_distribution_lies_inside_its_permutation_null():
    for seed in range(4):
        a, b = 2 * modes(80, 2, seed) + 3, modes(60, 2, seed + 100)
        assert not remaining_loss(a, b, fit_monge, fit_mixture, match_moments, seed=seed).failed


def test_another_number_of_modes_is_flagged_by_the_held_out_likelihood_and_not_by_the_gaussian_one():
    a, b = modes(200, 1, 0), modes(200, 2, 1)
    found = remaining_loss(a, b, fit_monge, fit_mixture, match_moments)
    assert found.failed and found.loss > 0.05
    blind = remaining_loss(a, b, fit_monge, lambda x: fit_gaussian(x).log_density, match_moments)
    assert not blind.failed and blind.loss < 0.05


# ---- duality


def primal_distance(a: Tensor, b: Tensor, penalty: float, bandwidth: float | None) -> float:
    """The discriminator's own maximum, over w in the span of the samples and the bias."""
    x = torch.cat([a, b])
    y = torch.cat([torch.ones(len(a)), -torch.ones(len(b))]).double()
    inner = kernel(x, x, bandwidth)
    weights, bias = torch.zeros(len(x)).double().requires_grad_(), torch.zeros(1).double().requires_grad_()

    def loss() -> Tensor:
        scores = inner @ weights
        return 0.5 * penalty * weights @ scores - F.logsigmoid(y * (scores + bias)).sum()

    return -minimize(loss, [weights, bias])


@pytest.mark.parametrize("penalty", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("bandwidth", [None, 1.0])
def test_the_dual_distance_is_the_discriminators_maximum(penalty, bandwidth):
    a, b = draw(12, 3, 0), draw(9, 3, 1) + 0.7
    expected = primal_distance(a, b, penalty, bandwidth)
    assert dual_distance(a, b, penalty, bandwidth) == pytest.approx(expected, abs=1e-5)


def test_the_dual_distance_of_equal_samples_is_that_of_a_discriminator_that_knows_nothing():
    a = draw(10, 2, 0)
    assert dual_distance(a, a, 1.0, 1.0) == pytest.approx(-20 * math.log(2), abs=1e-9)
