"""Counts against what they should be."""

import torch


def chi_square(counts: torch.Tensor, expected: torch.Tensor) -> tuple[float, float]:
    """The statistic with bins of small expectation merged, and the threshold df + 10 sqrt(2 df)."""
    small = expected < 5
    counts = torch.cat([counts[~small], counts[small].sum().view(1)])
    expected = torch.cat([expected[~small], expected[small].sum().view(1)])
    keep = expected > 0
    assert float(counts[~keep].sum()) == 0.0, "a token of probability zero came out"
    counts, expected = counts[keep], expected[keep]
    freedom = len(expected) - 1
    return float(((counts - expected) ** 2 / expected).sum()), freedom + 10 * (2 * freedom) ** 0.5
