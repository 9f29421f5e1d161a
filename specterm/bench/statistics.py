"""Means, spreads and 95 % intervals of repeated measurements.

What is sampled is the prompt: repeats of one prompt are averaged first, because they are no independent evidence about
other prompts. With a single prompt the repeats are the sample. Speedup is a ratio of means paired by prompt, as in
Spec-Bench: sum of the method's throughputs over sum of naive's.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping, Sequence

import msgspec

# Student's t, 97.5 %, for 1 to 30 degrees of freedom.
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
_RESAMPLES = 2000
_BOOTSTRAP_SEED = 0  # the interval of a result does not change when it is computed again


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """A figure over a sample: `n` values, their spread (None below two values) and the 95 % interval of the mean."""

    n: int
    mean: float
    std: float | None
    median: float
    low: float | None
    high: float | None


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A ratio with its 95 % interval (None below two pairs) over `n` pairs."""

    n: int
    ratio: float
    low: float | None
    high: float | None


def units(values: Mapping[str, Sequence[float]]) -> list[float]:
    """The sample in `values` (repeats by prompt): one mean a prompt, or the repeats of a single prompt."""
    filled = [list(repeats) for repeats in values.values() if repeats]
    if len(filled) == 1:
        return filled[0]
    return [statistics.fmean(repeats) for repeats in filled]


def t_quantile(degrees: int) -> float:
    """Student's t at 97.5 % for `degrees` of freedom, to about 0.001."""
    if degrees <= len(_T):
        return _T[degrees - 1]
    z = statistics.NormalDist().inv_cdf(0.975)
    # Abramowitz and Stegun 26.7.5: the first terms of the expansion around the normal distribution.
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def describe(sample: Sequence[float]) -> Statistics | None:
    """Statistics of a sample, with the t interval of its mean; None where it is empty."""
    if not sample:
        return None
    mean = statistics.fmean(sample)
    median = float(statistics.median(sample))
    if len(sample) == 1:
        return Statistics(n=1, mean=mean, std=None, median=median, low=None, high=None)
    std = statistics.stdev(sample)
    margin = t_quantile(len(sample) - 1) * std / len(sample) ** 0.5
    return Statistics(n=len(sample), mean=mean, std=std, median=median, low=mean - margin, high=mean + margin)


def paired_ratio(pairs: Sequence[tuple[float, float]]) -> Interval | None:
    """Sum of the first over sum of the second of each pair, with a percentile bootstrap over pairs.

    None where there is no pair. The second of each pair must be above zero.
    """
    if not pairs:
        return None
    ratio = _ratio(pairs)
    if len(pairs) == 1:
        return Interval(n=1, ratio=ratio, low=None, high=None)
    draw = random.Random(_BOOTSTRAP_SEED)
    ratios = [_ratio(draw.choices(pairs, k=len(pairs))) for _ in range(_RESAMPLES)]
    cuts = statistics.quantiles(ratios, n=40, method="inclusive")
    return Interval(n=len(pairs), ratio=ratio, low=cuts[0], high=cuts[-1])


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    return math.fsum(a for a, _ in pairs) / math.fsum(b for _, b in pairs)
