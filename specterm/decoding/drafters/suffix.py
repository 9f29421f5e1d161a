"""Suffix decoding: as long a draft as the match deserves (Oliaro et al. 2024, arXiv 2411.04975).

Each node is continued by what most often followed the longest end of the text that is known, up to 16 tokens. A long
match promises a long draft, so the depth is at most `suffix_factor` times the length of the match; a path ends where
the product of its frequencies falls below `suffix_min_probability`. With scope `session` the outputs of earlier prompts
are matched too. The paper's suffix tree is replaced by hashed contexts of eight lengths: the match found is less
than a third shorter, and a token costs eight dictionary entries instead of a walk.
"""

from __future__ import annotations

from collections.abc import Hashable

from specterm.decoding.drafters.draft_trie import DraftTrie, grow
from specterm.decoding.drafters.lookup import LookupDrafter, RowText
from specterm.decoding.drafters.ngram_index import NgramIndex
from specterm.decoding.drafters.setup import DraftSetup

ORDERS = (1, 2, 3, 4, 6, 8, 12, 16)
_CAPACITY = 1_000_000  # pairs of a context and a follower: 125,000 tokens


class Suffix(LookupDrafter):
    """Drafts by frequency after the longest match, to a depth that the match sets."""

    def __init__(self, setup: DraftSetup) -> None:
        super().__init__(setup)
        self._factor = float(setup.parameters["suffix_factor"])
        self._floor = float(setup.parameters["suffix_min_probability"])

    @property
    def memory_key(self) -> Hashable:
        return "suffix"

    def new_index(self) -> NgramIndex:
        return NgramIndex(ORDERS, "frequency", _CAPACITY)

    def trie(self, text: RowText, depth: int) -> DraftTrie:
        matched = next((order for order, _ in text.index.matches(text.tail)), 0)
        depth = min(depth, round(self._factor * matched))
        return grow(text.tail, text.index.likeliest, depth=depth, width=self.width, floor=self._floor)
