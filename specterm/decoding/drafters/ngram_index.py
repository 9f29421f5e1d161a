"""An incremental index of n-grams: which tokens followed a context, best first.

A *context* is the last n tokens before a position, for each n of a few *orders*; its *followers* are the tokens that
came next. Learning a token costs one dictionary entry an order, and finding the longest known context one look-up an
order, however long the text is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

Ranking: TypeAlias = Literal["recency", "frequency"]
Context: TypeAlias = tuple[int, ...]

RANKED = 8  # followers of a context that are kept in order; no tree is wider


class Followers:
    """The tokens that followed one context. `counts` says how often each did, and `total` all of them together.

    `ranked` are the best `RANKED`, best first: those that came last, or by frequency those that came most often (of two
    that came equally often the one that came last). Counts only grow, so a token outside overtakes when it is counted.
    """

    __slots__ = ("counts", "ranked", "total")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.ranked: list[int] = []
        self.total = 0

    def add(self, token: int, ranking: Ranking, times: int = 1) -> None:
        """Count `token` so many times more."""
        count = self.counts[token] = self.counts.get(token, 0) + times
        self.total += times
        ranked = self.ranked
        if token in ranked:
            ranked.remove(token)
        place = 0
        if ranking == "frequency":
            while place < len(ranked) and self.counts[ranked[place]] > count:
                place += 1
        ranked.insert(place, token)
        del ranked[RANKED:]

    def share(self, token: int) -> float:
        """The part of all continuations that `token` was: an estimate of its probability."""
        return self.counts[token] / self.total


class NgramIndex:
    """Followers of every context of the given orders, bounded in size.

    `capacity` bounds the pairs of a context and a follower; beyond it the contexts that were learned from longest ago
    are forgotten.
    """

    def __init__(self, orders: Sequence[int], ranking: Ranking, capacity: int) -> None:
        self.orders = tuple(sorted(set(orders)))
        self.ranking: Ranking = ranking
        self._capacity = capacity
        # Most contexts have one follower, seen once: that is kept as the bare token, in a fifth of the memory.
        self._contexts: OrderedDict[Context, int | Followers] = OrderedDict()
        self._pairs = 0

    def __len__(self) -> int:
        """How many pairs of a context and a follower are known."""
        return self._pairs

    @property
    def longest(self) -> int:
        """The highest order: no more tokens of a text are looked at."""
        return self.orders[-1]

    def learn(self, before: Sequence[int], token: int) -> None:
        """Count `token` as following the end of `before`, in every order that `before` is long enough for."""
        length = len(before)
        for order in self.orders:
            if order > length:
                break
            self.add(tuple(before[length - order :]), token)

    def add(self, context: Context, token: int, times: int = 1) -> None:
        """Count `token` as following exactly `context`, so many times."""
        contexts = self._contexts
        known = contexts.get(context)
        if known is None:
            self._pairs += 1
            if times == 1:
                contexts[context] = token
            else:
                contexts[context] = followers = Followers()
                followers.add(token, self.ranking, times)
        else:
            if isinstance(known, int):
                known = contexts[context] = self._unpacked(known)
            self._pairs -= len(known.counts)
            known.add(token, self.ranking, times)
            self._pairs += len(known.counts)
            contexts.move_to_end(context)
        while self._pairs > self._capacity:
            _, gone = contexts.popitem(last=False)
            self._pairs -= 1 if isinstance(gone, int) else len(gone.counts)

    def matches(self, before: Sequence[int]) -> Iterator[tuple[int, Followers]]:
        """The order and the followers of every known context that ends `before`, the longest first."""
        length = len(before)
        for order in reversed(self.orders):
            if order <= length:
                known = self._contexts.get(tuple(before[length - order :]))
                if known is not None:
                    yield order, self._unpacked(known) if isinstance(known, int) else known

    def likeliest(self, before: Sequence[int]) -> list[tuple[int, float]]:
        """The ranked followers of the longest match, each with its share; empty where nothing matches."""
        followers = next((followers for _, followers in self.matches(before)), None)
        return [] if followers is None else [(token, followers.share(token)) for token in followers.ranked]

    def items(self) -> Iterator[tuple[Context, Followers]]:
        """Every context and its followers, those learned from longest ago first."""
        for context, known in self._contexts.items():
            yield context, self._unpacked(known) if isinstance(known, int) else known

    def _unpacked(self, token: int) -> Followers:
        followers = Followers()
        followers.add(token, self.ranking)
        return followers
