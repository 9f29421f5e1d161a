"""How many draft nodes are worth verifying: from what the drafter believes and what the passes cost.

A node's score, the drafter's probability of its whole path, estimates the chance that the target keeps it, so the
expected length of a round with the n best nodes is 1 + the sum of their scores. Drafters are surer than they are right,
by a factor that is learned as the run goes. The number of nodes is chosen to maximise expected tokens a second, given
the calibrated cost of a target forward of n + 1 tokens and of the draft; it is chosen before the target sees anything
and depends on fixed children only, so it does not bias the output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol

from specterm.events import Calibration

_MOST_NODES = 64
_PRIOR = 8.0  # accepted tokens that the belief "scores are right" is worth at the start


class Budget(Protocol):
    """How many nodes to verify, `most` at most."""

    most: int

    def choose(self, scores: Sequence[Sequence[float]]) -> int: ...
    def learn(self, expected: float, accepted: int) -> None: ...


class FixedBudget:
    """The same number of nodes in every round."""

    def __init__(self, nodes: int) -> None:
        self.most = nodes

    def choose(self, scores: Sequence[Sequence[float]]) -> int:
        """Nodes to verify in each row."""
        return self.most

    def learn(self, expected: float, accepted: int) -> None:
        """Nothing to learn."""


class CalibratedBudget:
    """The number of nodes that maximises expected tokens a second."""

    def __init__(self, costs: Calibration, draft_s: float, most: int) -> None:
        """draft_s: seconds that drafting takes, whatever is verified."""
        self.most = most
        self._pass_s = [forward_seconds(costs, nodes + 1) + draft_s for nodes in range(most + 1)]
        self._expected = self._accepted = _PRIOR

    def choose(self, scores: Sequence[Sequence[float]]) -> int:
        """Nodes to verify in each row of the batch; `scores` are each row's candidates, falling. At least one."""
        right = min(1.0, self._accepted / self._expected)
        best, best_rate, gained = 1, 0.0, float(len(scores))
        for nodes in range(1, min(self.most, max(len(row) for row in scores)) + 1):
            gained += right * sum(row[nodes - 1] for row in scores if len(row) >= nodes)
            if (rate := gained / self._pass_s[nodes]) > best_rate:
                best, best_rate = nodes, rate
        return best

    def learn(self, expected: float, accepted: int) -> None:
        """A row kept `accepted` nodes where the scores of those verified promised `expected`."""
        self._expected += expected
        self._accepted += accepted


def tree_budget(
    costs: Calibration | None, nodes: int | None, every: int, draft_s: Callable[[], float], unmeasured: int
) -> Budget:
    """`nodes` where a person set them, else what the measured `costs` say, else `unmeasured`; not more than `every`
    candidate. draft_s: see `CalibratedBudget`; asked for only where it matters."""
    if nodes is None and costs is not None:
        return CalibratedBudget(costs, draft_s(), min(_MOST_NODES, every))
    return FixedBudget(min(unmeasured if nodes is None else nodes, every))


def forward_seconds(costs: Calibration, tokens: int) -> float:
    """The cost of a target forward of `tokens` tokens: between the calibrated widths by straight lines, beyond the last
    one by its last slope."""
    known = sorted(costs.target_forward_s.items())
    if len(known) == 1:
        return known[0][1]
    for (low, low_s), (high, high_s) in pairwise(known):
        if tokens <= high or high == known[-1][0]:
            return max(low_s, low_s + (high_s - low_s) * (tokens - low) / (high - low))
    raise AssertionError("the last pair always matches")
