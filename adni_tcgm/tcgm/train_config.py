"""How long and how fast to train."""

from __future__ import annotations

from dataclasses import dataclass

from adni_tcgm.choices import check_choices, choice
from adni_tcgm.tcgm.precision import PRECISIONS

SCHEDULES = ("joint", "alternating")


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast to train; batch size and rates default to the paper's for ADNI.

    schedule: "joint", each step one update by labeled loss + ridge + unlabeled loss, with the rate lr_labeled; or the
        paper's "alternating", a labeled and an unlabeled update a step, with their own rates and Adam moments, so that
        a factor of the unlabeled loss hardly counts.
    steps: with an unlabeled loss after the first `supervised_steps`, which are there because classifiers that still
        output the prior have a gain of zero with zero gradient.
    lr_labeled, lr_unlabeled: learning rates of the labeled and the unlabeled update, γ_l and γ_u of the paper.
    ridge: τ in τ/n Σ (w - w0)² over all weights that are no biases, n visible labels; a part of the labeled loss, so
        that it fades as labels grow.
    orientation: where a modality names the signs of its features (`Modality.signs`) and its classifier is linear, w0 is
        not 0, but the rule that needs no label: log odds of so many times the mean of the signed features. Classes are
        then not exchanged where labels are very few. Training begins there. 0: off.
    source_weight: what the labeled loss of source samples (`Splits.source`) counts beside that of the visible labels.
        Its classes count by the class prior of the visible labels, since theirs says nothing of this population.
    patience: validations without improvement before training stops; None: never.
    prior_smoothing: what `label_prior` adds to the count of each class.
    device: "auto", "cpu" or "cuda".
    precision: of the networks: "float32", "bfloat16" (autocast; losses, gain and weights stay float32) or "auto",
        bfloat16 on a GPU. On a CPU, bfloat16 is tried in every layer first, and float32 takes its place, with a
        warning, where the processor computes it wrongly. Predictions are made in float32.
    deterministic: the same bits in every run on a GPU, too, where that costs time.
    compile: compile the networks first; pays in long trainings on a GPU.
    cuda_graphs: replay each network's forward and backward pass as a CUDA graph: large networks on small batches else
        wait for Python. Each graph keeps its activations, so it takes more memory. Only on a GPU, in one process and
        without micro-batches.
    micro_batch: samples that go through a network at once; losses are still those of the whole batch, exactly. Saves
        memory for a second forward pass. Batch normalization then normalizes by micro-batches. Halved by itself where a
        GPU runs out of memory. Counts in losses made of `ModalityClassifiers.logits`: ce, tcgm, pairwise, mean_teacher.

    >>> TrainConfig(schedule="joint", steps=150, lr_labeled=5e-2, ridge=10).steps
    150
    >>> TrainConfig(schedule="sometimes")
    Traceback (most recent call last):
        ...
    ValueError: schedule is 'sometimes'; choose one of joint, alternating
    """

    schedule: str = choice("alternating", SCHEDULES)
    steps: int = 300
    batch_size_labeled: int = 12
    batch_size_unlabeled: int = 12
    lr_labeled: float = 1e-3
    lr_unlabeled: float = 1e-3
    weight_decay: float = 0.0
    ridge: float = 0.0
    orientation: float = 0.0
    source_weight: float = 1.0
    supervised_steps: int = 20
    validate_every: int = 10
    patience: int | None = None
    prior_smoothing: float = 1.0
    device: str = "auto"
    precision: str = choice("auto", ("auto", *PRECISIONS))
    deterministic: bool = False
    compile: bool = False
    cuda_graphs: bool = False
    micro_batch: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size_labeled", "batch_size_unlabeled", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        check_choices(self)
        for name in ("ridge", "orientation", "source_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")
        if self.compile and self.cuda_graphs:
            raise ValueError("compile and cuda_graphs are both on; a network is either compiled or captured")
        if self.micro_batch is not None and self.micro_batch < 1:
            raise ValueError(f"micro_batch is {self.micro_batch}; it must be at least 1")
