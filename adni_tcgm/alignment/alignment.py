"""What every alignment of sites is: fitted on training people without labels, applied to new people, and stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from adni_tcgm.alignment.remaining import Remaining

# A site with fewer training people than this is left as it is: its spread is not to be learned from so few.
SMALLEST_SITE = 5


@dataclass(frozen=True, eq=False)
class LinearPart:
    """What P covariates explain of D features: `slopes` (P, D) per unit of each covariate minus its `center` (P,).

    >>> part = LinearPart(center=torch.tensor([70.0]), slopes=torch.tensor([[0.5, -1.0]]))
    >>> part.explain(torch.tensor([[72.0], [70.0]]), 2).tolist()
    [[1.0, -2.0], [0.0, -0.0]]
    """

    center: Tensor
    slopes: Tensor

    def explain(self, covariates: Tensor | None, count: int) -> Tensor:
        """(N, D). Somebody whose covariate is unknown (NaN) stands at the mean of the training people."""
        if covariates is None:
            return self.slopes.new_zeros(count, self.slopes.shape[1])
        return _centered(covariates, self.center) @ self.slopes

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, LinearPart) and torch.equal(self.center, other.center)
        return same and torch.equal(self.slopes, other.slopes)


def fit_linear(values: Tensor, covariates: Tensor | None, groups: Tensor) -> tuple[LinearPart, Tensor]:
    """Least squares of each feature on covariates and an intercept of each group, over the people who have it.

    values: (N, D), NaN where missing. covariates: (N, P), NaN where unknown. groups: (N, G), 1 where a person belongs.
    Returns the part of the covariates and the intercepts (G, D).

    >>> age = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    >>> part, intercepts = fit_linear(2 * age + 5, age, torch.ones(4, 1))
    >>> round(part.slopes.item(), 3)
    2.0
    """
    covariates = values.new_zeros(len(values), 0) if covariates is None else covariates.to(values)
    center = covariates.nanmean(0).nan_to_num()
    design = torch.cat([groups.to(values), _centered(covariates, center)], 1)
    found = values.new_zeros(design.shape[1], values.shape[1])
    for column in range(values.shape[1]):
        rows = ~values[:, column].isnan()
        # By singular values: a group without anybody, or a covariate that never varies, gets zero.
        found[:, column] = torch.linalg.lstsq(design[rows], values[rows, column], driver="gelsd").solution
    count = groups.shape[1]
    return LinearPart(center, found[count:]), found[:count]


def _centered(covariates: Tensor, center: Tensor) -> Tensor:
    return (covariates.to(center) - center).nan_to_num()


@dataclass(eq=False)
class Alignment(ABC):
    """Takes out of vectors what sites add, while what named covariates explain stays.

    The fields of a subclass are its settings. After `fit`: `sites`, how many training people each aligned site has;
    `linear`, what the covariates explain; `remaining`, of each site what is left to explain (`Remaining`).
    """

    name: ClassVar[str]
    sites: dict[str, int] = field(init=False, default_factory=dict)
    linear: LinearPart | None = field(init=False, default=None)
    remaining: dict[str, Remaining] = field(init=False, default_factory=dict)

    @abstractmethod
    def fit(
        self,
        values: Tensor,
        sites: Sequence[str],
        covariates: Tensor | None = None,
        *,
        reference: str = "",
        seed: int = 0,
    ) -> Self:
        """values: (N, D) of training people, NaN where one is missing. sites: (N,), "" where unknown. covariates:
        (N, P), what must stay, such as age and sex, NaN where unknown; never a label. reference: the site onto which
        the others are mapped, where the method has one; the largest if not named.

        Raises ValueError where fewer than two sites have SMALLEST_SITE people.
        """

    @abstractmethod
    def transform(self, values: Tensor, sites: Sequence[str], covariates: Tensor | None = None) -> Tensor:
        """(N, D) aligned, NaN where it was NaN; people of a site not in `sites` are left as they are."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What was fitted, by name."""

    @abstractmethod
    def set_tensors(self, tensors: Mapping[str, Tensor]) -> None: ...

    def describe(self) -> dict:
        """What was fitted apart from the tensors, as JSON; "flagged": sites that still differ from the reference."""
        remaining = {site: asdict(value) for site, value in self.remaining.items()}
        about = {"settings": self.settings(), "sites": self.sites, "remaining": remaining}
        return about | {"flagged": [site for site, value in self.remaining.items() if value.failed]}

    def restore(self, content: Mapping, tensors: Mapping[str, Tensor]) -> Self:
        """As it was when `describe` and `tensors` gave these."""
        self.sites = dict(content["sites"])
        self.remaining = {site: Remaining(**value) for site, value in content["remaining"].items()}
        self.linear = LinearPart(tensors["linear.center"].double(), tensors["linear.slopes"].double())
        self.set_tensors(tensors)
        return self

    def settings(self) -> dict:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.init}

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other) or self.describe() != other.describe():
            return False
        mine, others = self.tensors(), other.tensors()
        return mine.keys() == others.keys() and all(torch.equal(value, others[key]) for key, value in mine.items())

    def _choose_sites(self, sites: Sequence[str]) -> None:
        counts = Counter(site for site in sites if site)
        self.sites = {site: counts[site] for site in sorted(counts) if counts[site] >= SMALLEST_SITE}
        if len(self.sites) < 2:
            largest = [count for _, count in counts.most_common(2)]
            raise ValueError(
                f"{len(self.sites)} sites have at least {SMALLEST_SITE} training people; two are needed (the largest "
                f"have {largest})"
            )


def rows_of(sites: Sequence[str], site: str) -> Tensor:
    """(N,) bool

    >>> rows_of(["011", "027", "011"], "011").tolist()
    [True, False, True]
    """
    return torch.tensor([name == site for name in sites], dtype=torch.bool)


class Affine(nn.Module):
    """x -> (x - center) matrixᵀ + shift; (N, D).

    >>> turn = Affine(2).set(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.zeros(2), torch.tensor([10.0, 0.0]))
    >>> turn(torch.tensor([[1.0, 2.0]])).tolist()
    [[12.0, 1.0]]
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.eye(width, dtype=torch.float64))
        self.register_buffer("center", torch.zeros(width, dtype=torch.float64))
        self.register_buffer("shift", torch.zeros(width, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.center) @ self.matrix.T + self.shift

    def set(self, matrix: Tensor, center: Tensor, shift: Tensor) -> Self:
        for name, value in (("matrix", matrix), ("center", center), ("shift", shift)):
            getattr(self, name).copy_(value)
        return self


def take_step(optimizer: Optimizer, loss: Tensor) -> None:
    """One step down the gradient of `loss`, a scalar.

    >>> x = torch.tensor([3.0], requires_grad=True)
    >>> take_step(torch.optim.SGD([x], lr=0.5), x.square().sum())
    >>> x.tolist()
    [0.0]
    """
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def match_means_and_scales(a: Tensor, b: Tensor) -> Affine:
    """The map that gives each feature of a (N, D) its mean and SD in b; a feature that never varies keeps its scale.

    >>> a, b = torch.tensor([[0.0], [2.0]]), torch.tensor([[10.0], [14.0]])
    >>> match_means_and_scales(a, b)(a).tolist()
    [[10.0], [14.0]]
    """
    ratio = b.std(0) / a.std(0)
    ratio = torch.where(ratio.isfinite() & (ratio > 0), ratio, torch.ones_like(ratio))
    return Affine(a.shape[1]).set(ratio.diag(), a.mean(0), b.mean(0))
