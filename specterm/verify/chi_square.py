"""Pearson's chi-square test with its power: how many rows it takes to see a law that is wrong by a given distance.

Under the right law the statistic follows the central distribution, under a wrong one the noncentral, with noncentrality
n * sum((wrong - right)^2 / right). Of all laws at total variation d the sum is least, 4 d^2, where right and wrong
differ on halves of equal mass (Cauchy-Schwarz): a sample that is large enough there is large enough everywhere.

Degrees of freedom are whole numbers, so tails are finite sums: Q(1/2, x) = erfc(sqrt(x)), Q(1, x) = exp(-x) and
Q(a + 1, x) = Q(a, x) + x^a exp(-x) / Gamma(a + 1) (Abramowitz and Stegun 6.5.21).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MIN_EXPECTED = 10.0
"""Bins in which fewer rows are expected are merged: the tail of the statistic is trusted to 1e-5 only above that."""

_EARLY = (0.4, 0.65)
"""The shares of all rows at which a test may end early: three quarters of those of a right law end at the first."""
_MISSED_EARLY = 0.2
"""The share of 1 - power that each early look may miss."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How well counts fit a law: the statistic, its degrees of freedom, and how often chance alone exceeds it."""

    statistic: float
    freedom: int
    p_value: float


def upper_tail(statistic: float, freedom: int, noncentrality: float = 0.0) -> float:
    """The probability that a chi-square variable exceeds `statistic`: a mixture of central ones with 2 j more degrees
    of freedom, j following Poisson's law of mean noncentrality / 2."""
    x, mean = statistic / 2.0, noncentrality / 2.0
    if x <= 0.0:
        return 1.0
    half = 0.5 if freedom % 2 else 1.0
    tail = math.erfc(math.sqrt(x)) if freedom % 2 else math.exp(-x)
    while half < freedom / 2.0:
        tail += math.exp(half * math.log(x) - x - math.lgamma(half + 1.0))
        half += 1.0
    total = weight_sum = 0.0
    j = 0
    while True:
        weight = math.exp(j * math.log(mean) - mean - math.lgamma(j + 1.0)) if mean else 1.0
        total += weight * tail
        weight_sum += weight
        if not mean or (j > mean and 1.0 - weight_sum < 1e-13) or (j > mean and weight < 1e-18):
            return min(1.0, total)
        tail += math.exp(half * math.log(x) - x - math.lgamma(half + 1.0))
        half += 1.0
        j += 1


def critical_value(freedom: int, level: float) -> float:
    """What the statistic exceeds with probability `level` under the right law."""
    return _quantile(level, freedom)


def _quantile(tail: float, freedom: int, noncentrality: float = 0.0) -> float:
    """What a chi-square variable exceeds with probability `tail`."""
    low, high = 0.0, float(freedom)
    while upper_tail(high, freedom, noncentrality) > tail:
        high *= 2.0
    for _ in range(80):
        middle = (low + high) / 2.0
        low, high = (middle, high) if upper_tail(middle, freedom, noncentrality) > tail else (low, middle)
    return high


def sample_size(freedom: int, level: float, power: float, distance: float) -> int:
    """The rows with which a test at `level` sees, with probability `power`, any law whose total variation from the
    right one, over the bins, is `distance` or more."""
    critical = critical_value(freedom, level)
    enough = 1
    while upper_tail(critical, freedom, 4.0 * enough * distance**2) < power:
        enough *= 2
    short = enough // 2
    while enough - short > 1:
        middle = (short + enough) // 2
        reached = upper_tail(critical, freedom, 4.0 * middle * distance**2) >= power
        short, enough = (short, middle) if reached else (middle, enough)
    return enough


@dataclass(frozen=True, slots=True)
class Look:
    """A look at the counts after `rows` rows: a statistic of at most `fits` ends the test in favour of the law."""

    rows: int
    fits: float


def looks(freedom: int, level: float, power: float, distance: float) -> tuple[Look, ...]:
    """When to look at a test at `level` that may end early, in favour of the law only: refuted is at the last look.

    Ending early refutes nothing, so false alarms are at most `level`. Each look misses a law at `distance` with a share
    of 1 - `power`, and all together with no more than that (Bonferroni): stopping for futility, binding
    (Jennison and Turnbull 2000, chapter 10).
    """
    miss = (1.0 - power) * _MISSED_EARLY
    rows = sample_size(freedom, level, power + len(_EARLY) * miss, distance)
    critical = critical_value(freedom, level)
    early = []
    for share in _EARLY:
        at = math.ceil(share * rows)
        fits = _quantile(1.0 - miss, freedom, 4.0 * at * distance**2)
        early.append(Look(at, min(fits, critical)))
    return (*early, Look(rows, critical))


def merged(counts: Sequence[int], law: Sequence[float]) -> list[tuple[int, float]]:
    """Count and expectation of each bin, small ones put together."""
    rows = sum(counts)
    bins = [(count, rows * share) for count, share in zip(counts, law, strict=True)]
    large = [own for own in bins if own[1] >= MIN_EXPECTED]
    small = [own for own in bins if own[1] < MIN_EXPECTED]
    if small:
        rest = sum(count for count, _ in small), sum(expected for _, expected in small)
        if rest[1] < MIN_EXPECTED and large:
            least = min(range(len(large)), key=lambda i: large[i][1])
            own = large.pop(least)
            rest = rest[0] + own[0], rest[1] + own[1]
        large.append(rest)
    return large


def fit(counts: Sequence[int], law: Sequence[float]) -> Fit | None:
    """Compare counts with a law over the same bins; None where fewer than two bins are left.

    law: probabilities, with sum 1 up to rounding.
    """
    bins = merged(counts, law)
    if len(bins) < 2:
        return None
    statistic = math.fsum((count - expected) ** 2 / expected for count, expected in bins)
    return Fit(statistic, len(bins) - 1, upper_tail(statistic, len(bins) - 1))


def total_variation(counts: Sequence[int], law: Sequence[float]) -> float:
    """Half the sum of the absolute differences between shares and law."""
    rows = sum(counts)
    return math.fsum(abs(count / rows - share) for count, share in zip(counts, law, strict=True)) / 2.0


def chance_variation(rows: int, law: Sequence[float]) -> float:
    """The total variation that chance alone is expected to show in `rows` draws from `law` (normal approximation)."""
    return math.fsum(math.sqrt(2.0 * share * (1.0 - share) / (math.pi * rows)) for share in law) / 2.0


def binned(outcomes: Mapping[tuple[int, ...], int], beginnings: Sequence[tuple[int, ...]]) -> list[int]:
    """How many outcomes have each of `beginnings` as their longest listed one; the last number is those with none."""
    place = {beginning: i for i, beginning in enumerate(beginnings)}
    counts = [0] * (len(beginnings) + 1)
    for outcome, count in outcomes.items():
        longest = next((place[outcome[:n]] for n in range(len(outcome), 0, -1) if outcome[:n] in place), -1)
        counts[longest] += count
    return counts


def bin_law(beginnings: Mapping[tuple[int, ...], float]) -> list[float]:
    """The probability of each bin of `binned`, from those of the beginnings themselves."""
    law = dict(beginnings)
    rest = 1.0
    for beginning, share in beginnings.items():
        above = next((beginning[:n] for n in range(len(beginning) - 1, 0, -1) if beginning[:n] in law), None)
        if above is None:
            rest -= share
        else:
            law[above] -= share
    return [*(max(0.0, share) for share in law.values()), max(0.0, rest)]
