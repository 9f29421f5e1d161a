"""How many draft nodes are worth verifying: from what the drafter believes and what the passes cost.

A node's score, the drafter's probability of its whole path, estimates the chance that the target keeps it, so the
expected length of a round with the n best nodes is 1 + the sum of their scores. Drafters are more or less often right
than they say (a greedy target takes its likeliest token whatever its probability), by a factor that is learned as the
run goes. The number of nodes is chosen to maximise expected tokens a second, given
the cost of a target pass of n + 1 tokens and of the draft: the calibrated ones to begin with, then those of the run. It
is chosen before the target sees anything and depends on fixed children only, so it does not bias the output.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from specterm.decoding.estimates import Curve, spaced
from specterm.events import Calibration

_MOST_NODES = 64
_PRIOR = 8.0  # accepted tokens that the belief "scores are right" is worth at the start
_KEPT = 0.99  # of what was learned of the scores, at each row and round


class Budget(Protocol):
    """How many nodes to verify, `most` at most. A round: `begin`, `choose` (not where nothing was drafted), `learn`."""

    most: int

    def begin(self) -> None: ...
    def choose(self, scores: Sequence[Sequence[float]]) -> int: ...
    def learn(self, expected: float, accepted: int) -> None: ...


class FixedBudget:
    """The same number of nodes in every round."""

    def __init__(self, nodes: int) -> None:
        self.most = nodes

    def begin(self) -> None:
        """Nothing to measure."""

    def choose(self, scores: Sequence[Sequence[float]]) -> int:
        """Nodes to verify in each row."""
        return self.most

    def learn(self, expected: float, accepted: int) -> None:
        """Nothing to learn."""


class CalibratedBudget:
    """The number of nodes that maximises expected tokens a second."""

    def __init__(self, costs: Calibration, draft_s: float, most: int, clock: Callable[[], float] | None = None) -> None:
        """draft_s: seconds that drafting takes, whatever is verified, as far as is known beforehand."""
        self.most = most
        self._clock = clock or time.perf_counter
        self._pass_s = Curve(lambda width: costs.forward_s(width))
        self._draft_s = Curve(lambda _: draft_s)
        self._expected = self._accepted = _PRIOR
        self._began: float | None = None
        self._judging: tuple[int, float] | None = None  # the width of the pass that is under way, and when it began

    def begin(self) -> None:
        """Drafting begins."""
        self._began, self._judging = self._clock(), None

    def choose(self, scores: Sequence[Sequence[float]]) -> int:
        """Drafting is over. Nodes to verify in each row of the batch, at least one; `scores` are each row's candidates,
        falling."""
        now = self._clock()
        if self._began is not None:
            self._draft_s.observe(1, now - self._began)
        right, draft_s = self._accepted / self._expected, self._draft_s.at(1)
        best, best_rate, gained, at = 1, 0.0, float(len(scores)), 0
        for nodes in spaced(min(self.most, max(len(row) for row in scores))):
            gained += sum(min(1.0, right * score) for row in scores for score in row[at:nodes])
            at = nodes
            if (rate := gained / (draft_s + self._pass_s.at(nodes + 1))) > best_rate:
                best, best_rate = nodes, rate
        self._judging = (best + 1, now)
        return best

    def learn(self, expected: float, accepted: int) -> None:
        """A row kept `accepted` nodes where the scores of those verified promised `expected`."""
        if self._judging is not None:  # the first row that hears of this round
            width, began = self._judging
            self._pass_s.observe(width, self._clock() - began)
            self._judging = None
        self._expected = _KEPT * self._expected + expected
        self._accepted = _KEPT * self._accepted + accepted


def tree_budget(
    costs: Calibration | None,
    nodes: int | None,
    every: int,
    draft_s: Callable[[], float],
    unmeasured: int,
    *,
    adaptive: bool = False,
) -> Budget:
    """`nodes` where a person set them, else what the measured `costs` say, else `unmeasured`; not more than `every`
    candidate. With an adaptive length the costs choose in any case, up to `nodes`. draft_s: see `CalibratedBudget`;
    asked for only where it matters."""
    if costs is not None and (nodes is None or adaptive):
        return CalibratedBudget(costs, draft_s(), min(_MOST_NODES if nodes is None else nodes, every))
    return FixedBudget(min(unmeasured if nodes is None else nodes, every))
