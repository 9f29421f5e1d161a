"""The statistics of verification on known laws: tails against tables and sums, false alarms, and power."""

import itertools
import random

import numpy
import pytest
import torch

from specterm.verify.chi_square import (
    bin_law,
    binned,
    chance_variation,
    critical_value,
    fit,
    looks,
    merged,
    sample_size,
    total_variation,
    upper_tail,
)

LEVEL, POWER, DISTANCE = 1e-3, 0.95, 0.03


@pytest.mark.parametrize(
    ("statistic", "freedom", "tail"),
    [(3.841459, 1, 0.05), (18.307038, 10, 0.05), (29.588298, 10, 0.001), (20.515006, 5, 0.001), (0.0, 4, 1.0)],
)
def test_tails_are_those_of_the_tables(statistic, freedom, tail):
    assert upper_tail(statistic, freedom) == pytest.approx(tail, rel=1e-5)


@pytest.mark.parametrize(("freedom", "noncentrality"), [(1, 3.0), (4, 10.0), (7, 54.0), (12, 0.5)])
def test_a_noncentral_tail_is_that_of_shifted_normals(freedom, noncentrality):
    generator = torch.Generator().manual_seed(freedom)
    normals = torch.randn(200_000, freedom, generator=generator, dtype=torch.float64)
    normals[:, 0] += noncentrality**0.5
    squares = (normals**2).sum(dim=1)
    for at in (0.5, 1.0, 1.5):
        statistic = at * (freedom + noncentrality)
        share = float((squares > statistic).double().mean())
        assert upper_tail(statistic, freedom, noncentrality) == pytest.approx(share, abs=0.005)


def test_far_tails_and_sizes_are_consistent():
    for freedom, level in itertools.product((1, 7, 20), (1e-2, 1e-4, 1e-7)):
        critical = critical_value(freedom, level)
        assert upper_tail(critical, freedom) == pytest.approx(level, rel=1e-6)
        rows = sample_size(freedom, level, POWER, DISTANCE)
        reached, missed = (upper_tail(critical, freedom, 4 * n * DISTANCE**2) for n in (rows, rows - 1))
        assert missed < POWER <= reached


def shifted(law: list[float], distance: float) -> list[float]:
    """A law at that total variation from `law`, the hardest to see: mass moves between halves in proportion."""
    half, mass = set(), 0.0
    for place in sorted(range(len(law)), key=lambda i: -law[i]):
        if mass + law[place] <= 0.5 + 1e-9:
            half.add(place)
            mass += law[place]
    return [
        share * (1 + distance / mass) if place in half else share * (1 - distance / (1 - mass))
        for place, share in enumerate(law)
    ]


def rejections(law: list[float], drawn_from: list[float], trials: int, level: float) -> float:
    rows = sample_size(len(law) - 1, level, POWER, DISTANCE)
    fits = [fit(counts, law) for counts in numpy.random.default_rng(3).multinomial(rows, drawn_from, trials).tolist()]
    assert None not in fits
    return sum(fitted.p_value < level for fitted in fits) / trials


LAWS = [[0.3, 0.2, 0.2, 0.15, 0.1, 0.05], [0.5, 0.25, 0.125, 0.0625, 0.0625], [0.5, 0.5]]


@pytest.mark.parametrize("law", LAWS, ids=len)
def test_false_alarms_come_as_often_as_stated(law):
    share = rejections(law, law, 4000, 0.01)
    assert share == pytest.approx(0.01, abs=4 * (0.01 / 4000) ** 0.5)


@pytest.mark.parametrize("law", LAWS, ids=len)
def test_a_wrong_law_is_seen_as_often_as_stated(law):
    wrong = shifted(law, DISTANCE)
    assert sum(abs(a - b) for a, b in zip(law, wrong)) / 2 == pytest.approx(DISTANCE)
    seen = rejections(law, wrong, 600, LEVEL)
    assert seen >= POWER - 0.03
    assert rejections(law, shifted(law, 2 * DISTANCE), 100, LEVEL) == 1.0


def refuted(law: list[float], drawn_from: list[float], trials: int, level: float) -> tuple[float, float]:
    """How often a test with early looks refutes `law`, and how many rows it takes, as a share of one look's."""
    stages = looks(len(law) - 1, level, POWER, DISTANCE)
    more = numpy.diff([0, *(look.rows for look in stages)])
    parts = numpy.random.default_rng(4).multinomial(more, drawn_from, (trials, len(stages)))
    wrong = rows = 0
    for trial in parts.cumsum(axis=1).tolist():
        fits = ((fit(counts, law), look.fits) for counts, look in zip(trial, stages))
        ended = next((i for i, (own, most) in enumerate(fits) if own.statistic <= most), None)
        wrong += ended is None
        rows += stages[-1 if ended is None else ended].rows
    return wrong / trials, rows / trials / sample_size(len(law) - 1, level, POWER, DISTANCE)


@pytest.mark.parametrize("law", LAWS, ids=len)
def test_early_looks_keep_level_and_power_and_spare_rows(law):
    alarms, _ = refuted(law, law, 4000, 0.01)
    assert 0 < alarms <= 0.01 + 4 * (0.01 / 4000) ** 0.5
    _, share = refuted(law, law, 400, LEVEL / 8)
    assert share < 0.65
    seen, _ = refuted(law, shifted(law, DISTANCE), 600, LEVEL / 8)
    assert seen >= POWER - 0.02


def test_small_bins_are_merged_and_a_single_bin_is_no_test():
    assert merged([50, 44, 5, 1], [0.5, 0.42, 0.07, 0.01]) == [(50, 50.0), (50, pytest.approx(50.0))]
    assert [count for count, _ in merged([500, 300, 8, 8], [0.6, 0.38, 0.01, 0.01])] == [500, 300, 16]
    assert fit([100], [1.0]) is None
    assert fit([99, 1], [0.999, 0.001]) is None


def test_bins_are_the_longest_listed_beginnings():
    law = {(1,): 0.5, (1, 2): 0.3, (4,): 0.2, (1, 2, 3): 0.1}
    assert bin_law(law) == pytest.approx([0.2, 0.2, 0.2, 0.1, 0.3])
    outcomes = {(1, 7, 7): 3, (1, 2, 9): 5, (4, 4, 4): 2, (1, 2, 3): 1, (8, 1, 2): 4}
    assert binned(outcomes, list(law)) == [3, 5, 2, 1, 4]


def test_the_distance_that_chance_shows():
    numbers, law = random.Random(1), [0.4, 0.3, 0.2, 0.1]
    found = []
    for _ in range(200):
        drawn = numbers.choices(range(4), law, k=2000)
        found.append(total_variation([drawn.count(i) for i in range(4)], law))
    assert sum(found) / len(found) == pytest.approx(chance_variation(2000, law), rel=0.1)
