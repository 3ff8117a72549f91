"""How often the remaining loss flags a good alignment (at most 5 % is asked) and one that cannot succeed."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from adni_tcgm.alignment.gaussian import monge_map
from adni_tcgm.alignment.mixture import fit_mixture
from adni_tcgm.alignment.moments import fit_gaussian, match_moments
from adni_tcgm.alignment.remaining import remaining_loss

# Name -> people of the site and of the reference, features, modes of the site and of the reference.
CASES = {
    "one mode, 60 + 60, 9 features": (60, 60, 9, 1, 1),
    "two modes, 100 + 100, 2 features": (100, 100, 2, 2, 2),
    "one mode onto two, 100 + 100, 2 features": (100, 100, 2, 1, 2),
    "one mode onto two, 60 + 60, 9 features": (60, 60, 9, 1, 2),
}
APART = 8.0


def draw(count: int, width: int, modes: int, generator: torch.Generator) -> Tensor:
    """Modes APART SDs from each other along the first feature, each as often as chance will have it."""
    x = torch.randn(count, width, generator=generator, dtype=torch.float64)
    x[:, 0] += APART * (torch.randint(modes, (count,), generator=generator) - (modes - 1) / 2)
    return x


def run(out: Path, draws: int) -> None:
    """Writes OUT/alarms.tsv and prints the share that is flagged."""
    torch.set_num_threads(1)
    rows = []
    for case, (n, m, width, of_site, of_reference) in CASES.items():
        for seed in range(draws):
            generator = torch.Generator().manual_seed(seed)
            a, b = 2 * draw(n, width, of_site, generator) + 3, draw(m, width, of_reference, generator)
            found = remaining_loss(
                a, b, lambda a, b: monge_map(fit_gaussian(a), fit_gaussian(b)), fit_mixture, match_moments, seed=seed
            )
            rows.append({"case": case, "seed": seed, "loss": found.loss, "flagged": found.failed})
        pd.DataFrame(rows).to_csv(out / "alarms.tsv", sep="\t", index=False)
        print(
            pd.DataFrame(rows).groupby("case", sort=False)[["loss", "flagged"]].mean().round(3).to_string(), flush=True
        )
