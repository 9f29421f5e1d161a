"""Means, spreads, intervals and ratios."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specterm.bench.statistics import describe, paired_ratio, t_quantile, units

values = st.lists(st.floats(0.01, 1e4), min_size=2, max_size=20)
pairs = st.lists(st.tuples(st.floats(0.01, 1e3), st.floats(0.01, 1e3)), min_size=2, max_size=8)


@pytest.mark.parametrize(
    ("degrees", "expected"), [(1, 12.706), (10, 2.228), (31, 2.0395), (60, 2.0003), (1000, 1.9623)]
)
def test_t_quantiles(degrees: int, expected: float) -> None:
    assert t_quantile(degrees) == pytest.approx(expected, abs=1e-3)


def test_t_quantiles_fall() -> None:
    quantiles = [t_quantile(degrees) for degrees in range(1, 200)]
    assert quantiles == sorted(quantiles, reverse=True)
    assert quantiles[-1] > 1.9599


@given(values)
def test_describe(sample: list[float]) -> None:
    got = describe(sample)
    assert got is not None
    assert got.std is not None
    assert got.low is not None
    assert got.high is not None
    assert got.n == len(sample)
    assert got.mean == pytest.approx(sum(sample) / len(sample))
    assert got.median == statistics.median(sample)
    assert got.low <= got.mean <= got.high
    assert got.high - got.mean == pytest.approx(t_quantile(len(sample) - 1) * got.std / len(sample) ** 0.5, abs=1e-6)


def test_small_samples_claim_no_spread() -> None:
    assert describe([]) is None
    one = describe([3.0])
    assert one is not None
    assert (one.n, one.mean, one.std, one.low, one.high) == (1, 3.0, None, None, None)


def test_the_interval_covers_the_true_mean_about_95_times_in_100() -> None:
    draw = random.Random(1)
    covered = 0
    for _ in range(1000):
        got = describe([draw.gauss(10, 2) for _ in range(5)])
        assert got is not None
        assert got.low is not None
        assert got.high is not None
        covered += got.low <= 10 <= got.high
    assert 930 <= covered <= 970  # three standard errors of a binomial


@given(pairs)
def test_ratio_lies_in_its_interval_and_between_the_extreme_pairs(sample: list[tuple[float, float]]) -> None:
    got = paired_ratio(sample)
    assert got is not None
    assert got.low is not None
    assert got.high is not None
    assert got.ratio == pytest.approx(sum(a for a, _ in sample) / sum(b for _, b in sample))
    extremes = [a / b for a, b in sample]
    assert min(extremes) * (1 - 1e-9) <= got.low <= got.high <= max(extremes) * (1 + 1e-9)


@given(values, st.floats(0.1, 10))
def test_a_constant_ratio_has_no_width(base: list[float], factor: float) -> None:
    got = paired_ratio([(factor * value, value) for value in base])
    assert got is not None
    assert got.low == pytest.approx(factor)
    assert got.high == pytest.approx(factor)


def test_pairing_removes_what_prompts_have_in_common() -> None:
    # Throughput differs tenfold between prompts, the speedup does not.
    draw = random.Random(2)
    sample = [(2 * base * draw.uniform(0.98, 1.02), base) for base in (10.0, 30.0, 50.0, 70.0, 100.0)]
    got = paired_ratio(sample)
    assert got is not None
    assert got.low is not None
    assert got.high is not None
    assert 1.95 < got.low < got.ratio < got.high < 2.05


def test_one_pair_has_a_ratio_and_no_interval() -> None:
    got = paired_ratio([(3.0, 2.0)])
    assert got is not None
    assert (got.ratio, got.low, got.high) == (1.5, None, None)
    assert paired_ratio([]) is None


def test_the_sample_is_the_prompt() -> None:
    assert units({"a": [1.0, 3.0], "b": [5.0], "c": []}) == [2.0, 5.0]
    assert units({"a": [1.0, 3.0]}) == [1.0, 3.0]
    assert units({}) == []
