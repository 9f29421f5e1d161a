"""How many levels are worth drafting and how many nodes worth verifying: from what the drafter believes and what the
passes cost.

A node's score, the drafter's probability of its whole path, estimates the chance that the target keeps it, so the
expected length of a round with the n best nodes is 1 + the sum of their scores. Drafters are more or less often right
than they say (a greedy target takes its likeliest token whatever its probability), by a factor that is learned as the
run goes. The number of nodes is chosen to maximise expected tokens a second, given
the cost of a target pass of n + 1 tokens and of the draft: the calibrated ones to begin with, then those of the run. It
is chosen before the target sees anything and depends on fixed children only, so it does not bias the output.

A level more is worth its time while it is expected to bring tokens faster than the rounds do as they are: of the paths
that reach it, as large a share is taken to be kept as was in the level before. So with each path of a level.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Protocol

from specterm.decoding.estimates import Curve, spaced
from specterm.decoding.ports import Gate
from specterm.decoding.stride_ports import Grown, Plan
from specterm.events import Calibration

_MOST_NODES = 64
_PRIOR = 8.0  # accepted tokens that the belief "scores are right" is worth at the start
_KEPT = 0.99  # of what was learned of the scores, at each row and round
_NEW = 0.05  # the weight of a round in the rate
_FIRST, _WEIGHED = 8, 4  # after so many rounds by a plan it is made anew only every so many
_PATH = 0.2  # of a level's time, what each of its paths takes but the first: 0.16 to 0.24 were measured on CPUs


class Budget(Protocol):
    """How many nodes to verify, `most` at most. A round: `begin`, `paths` before each further level of a draft that
    grows, or `gate` and `grew` where one row grows in one piece, `choose` (not where nothing was drafted), `learn`."""

    most: int

    def begin(self, drafters: int = 1) -> None: ...
    def paths(self, above: Sequence[float], reached: Sequence[Sequence[float]]) -> int: ...
    def gate(self, further: int) -> Gate | None: ...
    def grew(self, further: int) -> None: ...
    def choose(self, scores: Sequence[Iterable[float]]) -> int: ...
    def learn(self, expected: float, accepted: int) -> None: ...
    def plan(self, levels: int) -> Plan | None: ...
    def strode(self, grown: Grown, draft_s: float, nodes: int, pass_s: float) -> None: ...


class FixedBudget:
    """The same number of nodes in every round."""

    def __init__(self, nodes: int) -> None:
        self.most = nodes

    def begin(self, drafters: int = 1) -> None:
        """Nothing to measure."""

    def paths(self, above: Sequence[float], reached: Sequence[Sequence[float]]) -> int:
        """All, always."""
        return len(reached[0])

    def gate(self, further: int) -> Gate | None:
        """None: all, always."""

    def grew(self, further: int) -> None:
        """Nothing to count."""

    def choose(self, scores: Sequence[Iterable[float]]) -> int:
        """Nodes to verify in each row."""
        return self.most

    def learn(self, expected: float, accepted: int) -> None:
        """Nothing to learn."""

    def plan(self, levels: int) -> Plan | None:
        """None: all, always."""

    def strode(self, grown: Grown, draft_s: float, nodes: int, pass_s: float) -> None:
        """Nothing to learn."""


class CalibratedBudget:
    """The levels and the number of nodes that maximise expected tokens a second."""

    def __init__(
        self,
        costs: Calibration,
        draft_s: float,
        most: int,
        levels: int = 1,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """draft_s: seconds that drafting takes, whatever is verified, as far as is known beforehand; levels: of all
        drafters together, as many as it then has."""
        self.most = most
        self._clock = clock or time.perf_counter
        self._pass_s = Curve(costs.forward_s)
        measured = (width - 1 for width in costs.target_forward_s)  # where a step of the costs may end
        self._sizes = sorted({*spaced(most), *(nodes for nodes in measured if 1 <= nodes <= most)})
        self._known_s = [(size, costs.forward_s(size + 1)) for size in self._sizes]
        self._draft_s = Curve(lambda grown: draft_s * grown / levels)
        self._levels = 1  # of this round
        self._rate = 1.0 / costs.forward_s(1)  # tokens a second as rounds are; naive's, before there was one
        self._expected = self._accepted = _PRIOR
        self._began: float | None = None
        self._plan: Plan | None = None
        self._rounds = 0  # that went by a plan
        self._judging: tuple[int, float] | None = None  # the width of the pass that is under way, and when it began

    def begin(self, drafters: int = 1) -> None:
        """Drafting begins; each of `drafters` makes a level at least."""
        self._began, self._judging, self._levels = self._clock(), None, drafters

    def paths(self, above: Sequence[float], reached: Sequence[Sequence[float]]) -> int:
        """How many paths a drafter takes a level further, the likeliest of them; of each row, the summed scores of the
        paths that went on from the level above, and the scores, falling, of those that were `reached`."""
        right, worth, rows = self._accepted / self._expected, self._worth(self._levels), []
        for before, scores in zip(above, reached, strict=True):
            now = sum(scores)  # a row's long unlikely paths may have no score that is left
            rows.append((min(1.0, now / before) if now else 0.0, scores))
        most = count = len(reached[0])
        while count and _gain(right, rows, count - 1, count) <= worth * _PATH:
            count -= 1
        spared = _PATH * (most - count)
        if not count or _gain(right, rows, 0, count) <= worth * (1.0 - spared):
            return 0
        self._levels += 1
        return count

    def gate(self, further: int) -> Gate | None:
        """What `paths` says of one row's draft of up to `further` levels more, beforehand; `grew` tells how many there
        were."""
        worths = tuple([self._worth(self._levels + level) for level in range(further)])
        return Gate(self._accepted / self._expected, worths, _PATH)

    def grew(self, further: int) -> None:
        """See `gate`."""
        self._levels += further

    def _worth(self, levels: int) -> float:
        """The tokens that another level must bring, behind so many in this round."""
        return self._rate * self._draft_s.at(levels) / levels

    def choose(self, scores: Sequence[Iterable[float]]) -> int:
        """Drafting is over. Nodes to verify in each row of the batch, at least one; `scores` are each row's candidates,
        falling, of which none is asked for that could not be worth it."""
        now = self._clock()
        if self._began is not None:
            self._draft_s.observe(self._levels, now - self._began)
        right, draft_s = self._accepted / self._expected, self._draft_s.at(self._levels)
        rows, cheapest = [iter(row) for row in scores], self._pass_s.least()
        best, best_rate, gained, at = 1, 0.0, float(len(rows)), 0
        for place, nodes in enumerate(self._sizes, start=1):
            wanted, longest, last = nodes - at, 0, 0.0
            for row in rows:
                new = list(islice(row, wanted))
                for score in new:
                    gained += min(1.0, right * score)
                if len(new) == wanted:
                    last += min(1.0, right * new[-1])
                longest = max(longest, len(new))
            if not longest:
                break
            at += longest
            if (rate := gained / (draft_s + self._pass_s.at(at + 1))) > best_rate:
                best, best_rate = at, rate
            # Were all that follow as likely as the last, and passes as much cheaper than known as they ever were:
            if at < nodes or not any(
                gained + last * (more - at) > best_rate * (draft_s + cheapest * known_s)
                for more, known_s in self._known_s[place:]
            ):
                break
        self._judging = (best + 1, now)
        self._rate += _NEW * (best_rate - self._rate)
        return best

    def plan(self, levels: int) -> Plan:
        """What is decided by in the next rounds of a single row, of at most so many levels of all drafters together."""
        if self._plan is None or len(self._plan.draft_s) <= levels:
            made = range(1, levels + 1)
            right, worths = self._accepted / self._expected, [self._worth(level) for level in made]
            draft_s, pass_s = [self._draft_s.at(level) for level in made], [self._pass_s.at(n + 1) for n in self._sizes]
            self._plan = Plan(right, _PATH, (0.0, *worths), (0.0, *draft_s), pass_s, self._sizes)
        return self._plan

    def strode(self, grown: Grown, draft_s: float, nodes: int, pass_s: float) -> None:
        """A round went by the plan, which is made anew from time to time: it verified so many nodes; drafting took
        draft_s seconds, all else pass_s."""
        self._rounds += 1
        self._rate += _NEW * (grown.rate - self._rate)
        self._judging = None
        if self._rounds <= _FIRST or not self._rounds % _WEIGHED:
            self._draft_s.observe(grown.levels, draft_s)
            self._pass_s.observe(nodes + 1, pass_s)
            self._plan = None

    def learn(self, expected: float, accepted: int) -> None:
        """A row kept `accepted` nodes where the scores of those verified promised `expected`."""
        if self._judging is not None:  # the first row that hears of this round
            width, began = self._judging
            self._pass_s.observe(width, self._clock() - began)
            self._judging = None
        self._expected = _KEPT * self._expected + expected
        self._accepted = _KEPT * self._accepted + accepted


def _gain(right: float, rows: Sequence[tuple[float, Sequence[float]]], first: int, end: int) -> float:
    """The tokens that the next level brings below paths `first` to `end` of the rows; of each row, the share of what
    reaches the level that is kept, and the scores of its paths."""
    gain = 0.0
    for share, scores in rows:
        gain += share * min(1.0, right * sum(scores[first:end]))
    return gain


def tree_budget(
    costs: Calibration | None,
    nodes: int | None,
    every: int,
    draft_s: Callable[[], float],
    unmeasured: int,
    *,
    levels: int = 1,
    adaptive: bool = False,
) -> Budget:
    """`nodes` where a person set them, else what the measured `costs` say, else `unmeasured`; not more than `every`
    candidate. With an adaptive length the costs choose in any case, up to `nodes`. draft_s, levels: see
    `CalibratedBudget`; the former is asked for only where it matters."""
    if costs is not None and (nodes is None or adaptive):
        return CalibratedBudget(costs, draft_s(), min(_MOST_NODES if nodes is None else nodes, every), levels)
    return FixedBudget(min(unmeasured if nodes is None else nodes, every))
