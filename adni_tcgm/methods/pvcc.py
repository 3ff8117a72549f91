"""PVCC, also called SLIM: linear ridge regressions that share one label matrix, which must also explain similarities.

Reference: Yang et al., Semi-Supervised Multi-Modal Learning with Incomplete Modalities, IJCAI 2018. The authors define

    min_{W_k, b_k, F}  Σ_k ½‖X_k W_k + 1 b_kᵀ - F_k‖² + λ₁/2 ‖W_k‖² + λ₂/2 L(S_k, F_k)

with F_k the rows of F whose modality k is present, and L the loss of a transformed factorization of the similarities
S_k of that modality by F, minimized by projected gradient. Read here, from their public summary and not from the paper,
as ‖S_k - F_k T_k F_kᵀ‖² / n_k with S_k the cosines between inputs and T_k (C, C) free, so that similarities need not
lie on the scale of labels. Nothing is trained by stochastic gradients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adni_tcgm.methods.method import ClassifierConfig
from adni_tcgm.tcgm.aggregator import label_prior
from adni_tcgm.tcgm.batch import UNLABELED, Modality, MultimodalBatch, Splits
from adni_tcgm.tcgm.trainer import Fitted, Spec, TrainConfig

SCALES = torch.logspace(-1, 4, 51)


@dataclass(frozen=True)
class PVCC:
    """Partial view consistency; inputs of any shape are read as vectors.

    classifier: not used, since every view is linear.
    ridge: values of λ₁ to choose from by the log-loss of "all" on validation, for inputs scaled to mean square norm 1.
        Without validation labels, by that of visible labels, each predicted by regressions that leave it out.
    consistency: values of λ₂, chosen together with λ₁. 0 leaves the shared labels alone.
    iterations: projected gradient steps of the label matrix. This and both grids are ours; with λ₂ > 0 the search has
        not settled after 100 steps, and going on did not help on the toys tried.

    >>> PVCC(ridge=(0.1, 1.0)).consistency
    (0.0, 0.1, 1.0, 10.0)
    """

    classifier: ClassifierConfig | Mapping[str, ClassifierConfig] | None = None
    ridge: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0)
    consistency: tuple[float, ...] = (0.0, 0.1, 1.0, 10.0)
    iterations: int = 100

    def build(self, spec: Spec) -> LinearViews:
        """For weights that were solved before."""
        return LinearViews(spec.modalities, spec.log_prior)

    def fit(self, splits: Splits, config: TrainConfig) -> Fitted:
        """Solve for every λ₁ and λ₂ and keep the pair with the lowest log-loss on validation, or left out."""
        prior = label_prior(splits.train.labels, len(splits.classes), config.prior_smoothing).log()
        validation = splits.validation.select(splits.validation.labels != UNLABELED)
        best, lowest = None, float("inf")
        for ridge in self.ridge:
            views = [View(splits.train, modality.name, ridge) for modality in splits.modalities]
            for consistency in self.consistency:
                labels = optimize_labels(views, splits.train.labels, prior.exp(), consistency, self.iterations)
                model = LinearViews(splits.modalities, prior)
                model.solve(views, labels)
                if len(validation):
                    loss = model.choose_scales(model.scores(validation), validation.labels)
                else:
                    loss = model.choose_scales(*_left_out(views, labels, splits.train))
                if loss < lowest:
                    best, lowest = model, loss
        return Fitted(self, best.eval(), splits.classes, splits.modalities, prior, [], config, 0)

    def predict(self, model: LinearViews, batch: MultimodalBatch) -> dict[str, Tensor]:
        return model(batch)


class View:
    """What one modality contributes: the samples that have it, scaled and centered, and how alike they are.

    index: (n,) positions in the training set. inputs: (n, D). cosines: (n, D) inputs as they came, of norm 1, so that
    S = cosines · cosinesᵀ. dual: (K + λ₁ I)⁻¹ (n, n) of their inner products K; solving among samples costs n³ however
    long the inputs are.

    >>> from adni_tcgm.datasets.gaussian import GaussianConfig, load
    >>> train = load(GaussianConfig(samples=12, test_samples=4), 0).train
    >>> loss, gradient = View(train, "m1", ridge=1.0).ridge_loss(torch.full((12, 4), 0.25).double())
    >>> gradient.shape
    torch.Size([12, 4])
    """

    def __init__(self, train: MultimodalBatch, name: str, ridge: float) -> None:
        self.index = train.present[:, list(train.inputs).index(name)].nonzero().squeeze(1)
        inputs = train.inputs[name][self.index].flatten(1).double()
        self.cosines = F.normalize(inputs)
        self.center = inputs.mean(0)
        self.scale = (inputs - self.center).square().sum(1).mean().sqrt().clamp(min=1e-12)
        self.inputs = (inputs - self.center) / self.scale
        identity = torch.eye(len(inputs), dtype=torch.float64)
        self.dual = torch.linalg.inv(self.inputs @ self.inputs.T + ridge * identity)
        self.ridge = ridge

    def ridge_loss(self, labels: Tensor) -> tuple[float, Tensor]:
        """The least of ½‖XW + 1bᵀ - F‖² + λ₁/2 ‖W‖² over W and b for F (n, C), and its gradient (n, C)."""
        residual = self.ridge * self.dual @ (labels - labels.mean(0))
        return 0.5 * (labels * residual).sum().item(), residual

    def left_out(self, labels: Tensor) -> Tensor:
        """(n, C) scores of the regression onto F (n, C), each of one that was not fitted on that sample's own row."""
        rows = labels - labels.mean(0)
        return rows - self.dual @ rows / self.dual.diagonal().unsqueeze(1)

    def similarity_loss(self, labels: Tensor) -> tuple[float, Tensor]:
        """The least of ½‖S - F T Fᵀ‖² / n over T for F (n, C), up to a constant, and its gradient (n, C)."""
        inverse = torch.linalg.pinv(labels.T @ labels, rtol=1e-9, hermitian=True)
        alike = self.cosines @ (self.cosines.T @ labels)
        transform = inverse @ labels.T @ alike @ inverse
        explained = labels @ (transform @ (labels.T @ labels))
        loss = -0.5 * (labels.T @ alike * transform).sum().item() / len(labels)
        return loss, 2 * (explained - alike) @ transform / len(labels)


def optimize_labels(
    views: Sequence[View], labels: Tensor, prior: Tensor, consistency: float, iterations: int
) -> Tensor:
    """The label matrix F (N, C): known rows one-hot, all others on the simplex, by projected gradient descent.

    labels: (N,), UNLABELED where unknown; those rows start at the prior. For each F the best W_k, b_k and T_k are known
    in closed form, so only F is searched.

    >>> from adni_tcgm.datasets.gaussian import GaussianConfig, load
    >>> train = load(GaussianConfig(samples=12, test_samples=4), 0).train
    >>> views = [View(train, name, 1.0) for name in train.inputs]
    >>> matrix = optimize_labels(views, train.labels, torch.full((4,), 0.25), consistency=0.0, iterations=2)
    >>> matrix.shape, matrix.sum(1).round(decimals=3).unique().tolist()
    (torch.Size([12, 4]), [1.0])
    """
    known = labels != UNLABELED
    matrix = prior.double().repeat(len(labels), 1)
    matrix[known] = F.one_hot(labels[known], len(prior)).double()
    rate, loss, gradient = 1.0, *objective(matrix, views, consistency)
    for _ in range(iterations):
        step = torch.where(known.unsqueeze(1), matrix, project_to_simplex(matrix - rate * gradient))
        next_loss, next_gradient = objective(step, views, consistency)
        if next_loss > loss:
            rate /= 2
            continue
        matrix, loss, gradient, rate = step, next_loss, next_gradient, 1.5 * rate
    return matrix


def objective(matrix: Tensor, views: Sequence[View], consistency: float) -> tuple[float, Tensor]:
    """The loss with the best W_k, b_k and T_k for F (N, C), up to a constant, and its gradient (N, C).

    >>> from adni_tcgm.datasets.gaussian import GaussianConfig, load
    >>> train = load(GaussianConfig(samples=12, test_samples=4), 0).train
    >>> value, gradient = objective(torch.full((12, 4), 0.25).double(), [View(train, "m1", 1.0)], consistency=0.0)
    >>> gradient.shape
    torch.Size([12, 4])
    """
    total, gradient = 0.0, torch.zeros_like(matrix)
    for view in views:
        if not len(view.index):
            continue
        loss, slope = view.ridge_loss(matrix[view.index])
        if consistency > 0:
            more, further = view.similarity_loss(matrix[view.index])
            loss, slope = loss + consistency * more, slope + consistency * further
        total += loss
        gradient.index_add_(0, view.index, slope)
    return total, gradient


def project_to_simplex(rows: Tensor) -> Tensor:
    """The nearest point of the probability simplex to each row of (N, C) (Duchi et al., ICML 2008).

    >>> project_to_simplex(torch.tensor([[2.0, 0.0], [0.25, 0.75]])).tolist()
    [[1.0, 0.0], [0.25, 0.75]]
    """
    ordered = rows.sort(1, descending=True).values
    excess = (ordered.cumsum(1) - 1) / torch.arange(1, rows.shape[1] + 1, dtype=rows.dtype)
    last = (ordered > excess).sum(1, keepdim=True) - 1
    return (rows - excess.gather(1, last)).clamp(min=0)


class LinearViews(nn.Module):
    """One linear regression for each modality, and how its scores become posteriors.

    Few labels among many samples shrink the scores towards their mean. So a score counts relative to its mean over the
    training samples, times a scale chosen on validation, on top of the log prior. "all" is the mean score of the
    modalities that are present.
    """

    def __init__(self, modalities: Sequence[Modality], log_prior: Tensor) -> None:
        super().__init__()
        self.views = nn.ModuleDict()
        for modality in modalities:
            size = torch.Size(modality.shape).numel()
            # No first weights, and so no draw from the caller's random state.
            self.views[modality.name] = nn.utils.skip_init(nn.Linear, size, len(log_prior))
        self.scales = nn.ParameterDict({name: torch.ones(()) for name in [*self.views, "all"]})
        self.register_buffer("log_prior", log_prior.clone())
        self.requires_grad_(False)

    def solve(self, views: Sequence[View], labels: Tensor) -> None:
        """The ridge regressions onto the label matrix (N, C), with a mean score of 0."""
        for view, linear in zip(views, self.views.values(), strict=True):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
            if len(view.index):
                rows = labels[view.index]
                weights = view.inputs.T @ (view.dual @ (rows - rows.mean(0))) / view.scale
                linear.weight.copy_(weights.T)
                linear.bias.copy_(-view.center @ weights)

    @torch.no_grad()
    def choose_scales(self, found: Mapping[str, tuple[Tensor, Tensor]], labels: Tensor) -> float:
        """Set each scale to the one of `SCALES` with the lowest log-loss; returns that of "all". found: of `scores`."""
        lowest = 0.0
        for name, (scores, present) in found.items():
            if present.any():
                logits = SCALES.view(-1, 1, 1) * scores[present] + self.log_prior
                losses = F.cross_entropy(
                    logits.transpose(1, 2), labels[present].expand(len(SCALES), -1), reduction="none"
                ).mean(1)
                self.scales[name].copy_(SCALES[losses.argmin()])
                lowest = losses.min().item()
        return lowest

    def forward(self, batch: MultimodalBatch) -> dict[str, Tensor]:
        """Log-posteriors (B, C) by modality and "all"; the log prior where a modality is absent."""
        scores = self.scores(batch)
        return {name: (self.scales[name] * s + self.log_prior).log_softmax(-1) for name, (s, _) in scores.items()}

    def scores(self, batch: MultimodalBatch) -> dict[str, tuple[Tensor, Tensor]]:
        """(B, C) scores, zeros where absent, and (B,) presence, for each modality and last for "all"."""
        found = {}
        for column, (name, inputs) in enumerate(batch.inputs.items()):
            present = batch.present[:, column]
            scores = self.log_prior.new_zeros(len(batch), len(self.log_prior))
            scores[present] = self.views[name](inputs[present].flatten(1))
            found[name] = scores, present
        return found | {"all": _mean_score(found)}


def _mean_score(found: Mapping[str, tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Of the modalities that are present."""
    counts = torch.stack([present for _, present in found.values()]).sum(0)
    return sum(scores for scores, _ in found.values()) / counts.unsqueeze(1), counts > 0


def _left_out(
    views: Sequence[View], labels: Tensor, train: MultimodalBatch
) -> tuple[dict[str, tuple[Tensor, Tensor]], Tensor]:
    """Scores as of `LinearViews.scores`, of samples with a visible label, none fitted on its own; and their labels."""
    known, found = train.labels != UNLABELED, {}
    for view, name in zip(views, train.inputs, strict=True):
        scores, present = torch.zeros_like(labels), torch.zeros(len(labels), dtype=torch.bool)
        if len(view.index):
            scores[view.index], present[view.index] = view.left_out(labels[view.index]), True
        found[name] = scores[known].float(), present[known]
    return found | {"all": _mean_score(found)}, train.labels[known]
