"""What a run has shown so far of its drafts and of its costs; old evidence fades exponentially.

Both estimates begin from a prior, so that they say something sensible about what has not been tried.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import exp, log, log2

_KEPT = 0.98  # of all evidence at each new one: what is 50 observations old counts about a third
_PRIOR_SHAPE = 2.0  # observations that the prior proportions of a curve are worth
_PRIOR_LEVEL = 0.1  # and its prior height: a busy machine is ten times slower everywhere
_PRIOR_ACCEPTANCE = 3.0  # trials that the depth above is worth to the one below
_FIRST_ACCEPTANCE = 0.6  # believed of the first draft token before there was one
_FARTHEST = log(2.0)  # how far from what is expected one observation may pull: a pause of the machine is no cost
_SURE = 4.0  # observations after which one may no longer pull farther than that


class Curve:
    """A positive quantity over whole numbers from 1, known in shape and corrected by what is observed.

    The correction is a factor: the mean (of logarithms) of observed over prior, near observations counting most and all
    of them a little. So a machine slower than when it was calibrated is noticed from one width for every width.
    """

    def __init__(self, prior: Callable[[int], float]) -> None:
        self._prior = lru_cache(maxsize=256)(prior)
        self._evidence: dict[int, tuple[float, float]] = {}  # weight, mean log of observed over prior
        self.weight = 0.0  # how many observations there are, the faded ones counted less
        self._everywhere = 0.0  # the correction where nothing near was observed

    def at(self, x: int) -> float:
        """The expected value at `x`."""
        return self._prior(x) * exp(self._correction(x))

    def least(self) -> float:
        """No expected value is less than this times its prior."""
        return exp(min((self._everywhere, *(mean for _, mean in self._evidence.values()))))

    def observe(self, x: int, value: float) -> None:
        """It was `value` at `x`; a value of 0 teaches nothing."""
        if value <= 0.0:
            return
        own, expected = log(value / self._prior(x)), self._correction(x)
        if self.weight >= _SURE:
            own = min(max(own, expected - _FARTHEST), expected + _FARTHEST)
        self.fade(_KEPT)
        weight, mean = self._evidence.get(x, (0.0, 0.0))
        self._evidence[x] = weight + 1.0, mean + (own - mean) / (weight + 1.0)
        self.weight += 1.0
        total = sum(weight * mean for weight, mean in self._evidence.values())
        self._everywhere = total / (self.weight + _PRIOR_LEVEL)

    def seen(self, x: int) -> float:
        """How many of the observations are of `x` itself."""
        return self._evidence.get(x, (0.0, 0.0))[0]

    def fade(self, kept: float) -> None:
        """Trust only the share `kept` of what was observed."""
        self._evidence = {there: (weight * kept, mean) for there, (weight, mean) in self._evidence.items()}
        self.weight *= kept

    def _correction(self, x: int) -> float:
        near_weight, near, closeness = _PRIOR_SHAPE, _PRIOR_SHAPE * self._everywhere, _closeness(x)
        for there, (weight, mean) in self._evidence.items():
            near_weight += (close := weight * closeness[there])
            near += close * mean
        return near / near_weight


class _Closeness(dict[int, float]):
    """How much an observation elsewhere says of one place: a quarter for each factor of two between them."""

    def __init__(self, x: int) -> None:
        self._x = x

    def __missing__(self, there: int) -> float:
        self[there] = found = float(0.25 ** abs(log2(self._x / there)))
        return found


_closeness = lru_cache(maxsize=1024)(_Closeness)


@lru_cache(maxsize=64)
def spaced(most: int) -> tuple[int, ...]:
    """The sizes from 1 to `most` that are told apart: all up to 8, then a fifth apart or so; `most` is one of them."""
    sizes, size = [], 1
    while size < most:
        sizes.append(size)
        size += max(1, size // 4) if size >= 8 else 1
    return (*sizes, most)


class Acceptance:
    """How likely each further depth of a draft is kept, given that the depths above it were.

    A depth believes what the one above it shows until it has been tried itself. A round in which a row had no draft at
    all (an n-gram without a match) says nothing of acceptance and lowers `share`.
    """

    def __init__(self, most: int) -> None:
        """most: the greatest depth."""
        self._tried = [0.0] * most
        self._kept = [0.0] * most
        self._asked, self._drafted = 1.0, 1.0

    def observe(self, limit: int, nodes: int, accepted: int) -> None:
        """A row that was allowed `limit` levels (at least one) drafted `nodes` nodes, of which `accepted` were kept."""
        self._asked, self._drafted = self._asked * _KEPT + 1.0, self._drafted * _KEPT + (nodes > 0)
        if not nodes:
            return
        self.fade(_KEPT)
        for depth in range(min(limit, accepted + 1, len(self._tried))):
            self._tried[depth] += 1.0
            self._kept[depth] += depth < accepted

    def fade(self, kept: float) -> None:
        """Trust only the share `kept` of what was seen of acceptance."""
        self._tried = [tried * kept for tried in self._tried]
        self._kept = [each * kept for each in self._kept]

    @property
    def share(self) -> float:
        """The share of rounds in which a row that may draft has a draft."""
        return self._drafted / self._asked

    def lengths(self) -> list[float]:
        """Draft tokens kept of a draft of 0, 1, ... levels, on average."""
        lengths, above, reached = [0.0], _FIRST_ACCEPTANCE, 1.0
        for tried, kept in zip(self._tried, self._kept, strict=True):
            above = (kept + _PRIOR_ACCEPTANCE * above) / (tried + _PRIOR_ACCEPTANCE)
            reached *= above
            lengths.append(lengths[-1] + reached)
        return lengths
