"""Every alignment: what is aligned, what stays, who is left as they are, and what is said of a failure."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from adni_tcgm.alignment import ALIGNMENTS, LSGAN, GaussianFlow, MeansAndScales, RealNVPFlow, restore_alignment
from adni_tcgm.alignment.onto_reference import FEWEST_FOR_A_MAP

ONTO_REFERENCE = [name for name in ALIGNMENTS if name != "site"]
WIDTH = 4


def draw_sites(sizes: dict[str, int], seed: int = 0) -> tuple[Tensor, list[str], Tensor]:
    """Values, sites and age (N, 1); each year adds .1, b is older by ten years and measures 2 more of everything."""
    generator = torch.Generator().manual_seed(seed)
    sites = [site for site, count in sizes.items() for _ in range(count)]
    older = torch.tensor([10.0 * (site == "b") for site in sites], dtype=torch.float64)
    age = 70 + older + 5 * torch.randn(len(sites), generator=generator, dtype=torch.float64)
    noise = torch.randn(len(sites), WIDTH, generator=generator, dtype=torch.float64)
    scanner = torch.tensor([2.0 * (site == "b") for site in sites], dtype=torch.float64)
    factor = torch.tensor([1.0 + 0.5 * (site == "b") for site in sites], dtype=torch.float64)
    return factor[:, None] * noise + 0.1 * age[:, None] + scanner[:, None], sites, age[:, None]


def of(sites: list[str], name: str) -> Tensor:
    return torch.tensor([site == name for site in sites])


@pytest.fixture(scope="module", params=ALIGNMENTS)
def fitted(request):
    values, sites, age = draw_sites({"a": 80, "b": 60, "small": 3})
    kind = ALIGNMENTS[request.param]
    few = {"steps": 20} if request.param in ("real_nvp_flow", "dual") else {}
    return kind(**few).fit(values, sites, age), values, sites, age


def test_a_scanner_goes_while_what_age_explains_stays(fitted):
    alignment, values, sites, age = fitted
    aligned = alignment.transform(values, sites, age)
    apart = (aligned[of(sites, "b")] - aligned[of(sites, "a")].mean(0)).mean()
    assert (values[of(sites, "b")].mean() - values[of(sites, "a")].mean()) > 2.6
    assert apart == pytest.approx(1.0, abs=0.4)  # ten years


def test_somebody_new_gets_what_a_training_person_of_the_same_values_got(fitted):
    alignment, values, sites, age = fitted
    everybody = alignment.transform(values, sites, age)
    for row in (0, 100, 142):
        alone = alignment.transform(values[row : row + 1], sites[row : row + 1], age[row : row + 1])
        assert torch.allclose(alone[0], everybody[row], atol=1e-9)


def test_people_of_small_and_unknown_sites_stay_as_they_are(fitted):
    alignment, values, _, age = fitted
    for name in ("small", "elsewhere", ""):
        assert torch.equal(alignment.transform(values, [name] * len(values), age), values)


def test_what_is_stored_aligns_in_the_same_way(fitted):
    alignment, values, sites, age = fitted
    again = restore_alignment(alignment.name, alignment.describe(), alignment.tensors())
    assert again == alignment
    assert torch.equal(again.transform(values, sites, age), alignment.transform(values, sites, age))


def test_a_missing_value_stays_missing_and_moves_no_other_person(fitted):
    alignment, values, sites, age = fitted
    holed = values.clone()
    holed[90, 1] = torch.nan
    aligned = alignment.transform(holed, sites, age)
    assert aligned[90].isnan().tolist() == [False, True, False, False]
    kept = torch.arange(len(values)) != 90
    assert torch.equal(aligned[kept], alignment.transform(values, sites, age)[kept])


@pytest.mark.parametrize("name", ONTO_REFERENCE)
def test_the_reference_is_the_largest_site_or_the_named_one_and_stays_as_it_is(name):
    values, sites, age = draw_sites({"a": 10, "b": 12})
    for reference, expected in (("", "b"), ("a", "a")):
        alignment = ALIGNMENTS[name]().fit(values, sites, age, reference=reference)
        assert alignment.reference == expected
        rows = of(sites, expected)
        assert torch.equal(alignment.transform(values, sites, age)[rows], values[rows])


def test_a_reference_that_is_too_small_is_refused():
    values, sites, age = draw_sites({"a": 10, "b": 12, "c": 2})
    with pytest.raises(ValueError, match=r"reference is 'c'; .*\['a', 'b'\]"):
        MeansAndScales().fit(values, sites, age, reference="c")


@pytest.mark.parametrize("name", ONTO_REFERENCE)
def test_a_site_below_twenty_people_gets_means_and_scales_only(name):
    values, sites, age = draw_sites({"a": 40, "b": FEWEST_FOR_A_MAP - 1})
    found = ALIGNMENTS[name]().fit(values, sites, age)
    plain = MeansAndScales().fit(values, sites, age)
    assert torch.equal(found.transform(values, sites, age), plain.transform(values, sites, age))
    assert found.remaining == {}


def test_the_same_seed_gives_the_same_alignment_whatever_was_drawn_before():
    values, sites, age = draw_sites({"a": 30, "b": 25})
    one = LSGAN(steps=3).fit(values, sites, age)
    torch.rand(7)
    assert LSGAN(steps=3).fit(values, sites, age) == one


def test_sites_with_unequal_covariances_are_equal_after_the_gaussian_flow_in_both_moments():
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(2, WIDTH, WIDTH, generator=generator, dtype=torch.float64)
    a, b = (torch.randn(60, WIDTH, generator=generator, dtype=torch.float64) @ m for m in mixing)
    sites = ["a"] * 60 + ["b"] * 60
    values = torch.cat([a, b])
    aligned = GaussianFlow(shrink=False).fit(values, sites, reference="a").transform(values, sites)
    assert torch.allclose(aligned[60:].mean(0), a.mean(0), atol=1e-9)
    assert torch.allclose(torch.cov(aligned[60:].T), torch.cov(a.T), atol=1e-9)


def test_the_remaining_loss_is_reported_for_each_site_that_has_a_map_of_its_own():
    values, sites, age = draw_sites({"a": 50, "b": 40, "c": 25, "few": 10})
    found = RealNVPFlow(steps=2).fit(values, sites, age)
    assert found.remaining.keys() == {"b", "c"}
    assert not any(remaining.failed for remaining in found.remaining.values())


def test_a_site_of_another_number_of_modes_is_flagged_and_the_flag_is_stored():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(300, 2, generator=generator, dtype=torch.float64)
    values[150:, 0] += 10 * (torch.arange(150) % 2)
    sites = ["a"] * 150 + ["b"] * 150
    assert GaussianFlow().fit(values, sites, reference="a").describe()["flagged"] == ["b"]
