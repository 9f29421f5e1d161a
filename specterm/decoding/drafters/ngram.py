"""Prompt lookup: what followed the end of the text the last time (Saxena 2023; Hugging Face's and vLLM's `ngram`).

The longest end of the text, between `ngram_min` and `ngram_max` tokens, that came before is looked up, and the token
that followed it last is drafted; then the same for the text with that token, so a loop is drafted to any length. With
more than one branch the alternatives at each node are the followers of the longest match, most recent first, then those
of shorter matches; the fewer times a path leaves the first choice, the earlier it is taken.
"""

from __future__ import annotations

from collections.abc import Hashable

from specterm.decoding.drafters.draft_trie import DraftTrie, grow
from specterm.decoding.drafters.lookup import LookupDrafter, RowText
from specterm.decoding.drafters.ngram_index import NgramIndex
from specterm.decoding.drafters.setup import DraftSetup
from specterm.decoding.stride_ports import Drafting, Lookup

_CAPACITY = 1_000_000  # pairs of a context and a follower: 250,000 tokens at four orders


class Ngram(LookupDrafter):
    """Drafts the most recent continuation of the longest match."""

    confident = False  # recency says nothing of probability

    def __init__(self, setup: DraftSetup) -> None:
        super().__init__(setup)
        self._orders = range(int(setup.parameters["ngram_min"]), int(setup.parameters["ngram_max"]) + 1)

    @property
    def memory_key(self) -> Hashable:
        return ("ngram", self._orders)

    def new_index(self) -> NgramIndex:
        return NgramIndex(self._orders, "recency", _CAPACITY)

    def drafting(self, row: int, limit: int) -> Drafting | None:
        """See `Strider`."""
        depth = min(self.max_depth, limit)
        if not depth or self.width > 1 or self._shared is not None or not self._orders:
            return super().drafting(row, limit)
        lookup = Lookup(self._texts[row].whole, self._orders[-1], self._orders[0])
        return Drafting(depth=depth, most=depth, lookup=lookup)

    def trie(self, text: RowText, depth: int) -> DraftTrie:
        def candidates(before: tuple[int, ...]) -> list[tuple[int, float]]:
            found: list[int] = []
            for _, followers in text.index.matches(before):
                found.extend(token for token in followers.ranked if token not in found)
                if len(found) >= self.width:
                    break
            return [(token, 0.5**rank) for rank, token in enumerate(found)]

        return grow(text.tail, candidates, depth=depth, width=self.width)
