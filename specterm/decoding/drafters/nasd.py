"""N-gram assisted decoding: a store learned from the text and from what the target thought at every step.

The store counts, for contexts of `ngram_min` to `ngram_max` tokens, the tokens that followed them: those emitted, and
once more each of the target's `filler_top_k` likeliest at every position that it judged, the first token's included. A
node is continued by the most counted follower of the longest known context; where none is known the draft ends. It is
bounded, and may be kept in a file.

The known implementation (romsto) draws a fresh token after a refusal, which makes the drafted token too likely at any
temperature above 0; here the token that refused the draft is the output, as the exact rule has it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path

from specterm.decoding.drafters.draft_trie import DraftTrie, grow
from specterm.decoding.drafters.lookup import LookupDrafter, RowText
from specterm.decoding.drafters.ngram_index import NgramIndex
from specterm.decoding.drafters.ngram_store import check_writable, load_store, save_store
from specterm.decoding.drafters.setup import DraftSetup
from specterm.decoding.ports import Needs


class Nasd(LookupDrafter):
    """Drafts by counts that the target's own alternatives take part in."""

    def __init__(self, setup: DraftSetup) -> None:
        super().__init__(setup)
        self._orders = range(int(setup.parameters["ngram_min"]), int(setup.parameters["ngram_max"]) + 1)
        self._capacity = int(setup.parameters["ngram_capacity"])
        self._vocab_size = setup.target.vocab_size
        self.needs = Needs(top_k=min(int(setup.parameters["filler_top_k"]), setup.target.vocab_size))
        file = setup.parameters["ngram_store"]
        self._file = None if file is None else Path(file).expanduser()

    @property
    def memory_key(self) -> Hashable:
        return ("nasd", self._orders, self._capacity, self._file)

    def new_index(self) -> NgramIndex:
        """An empty store, or the one in the file."""
        index = NgramIndex(self._orders, "frequency", self._capacity)
        if self._file is not None:
            load_store(index, self._file, self._vocab_size)
        return index

    def open(self, rows: int, capacity: int) -> None:
        """Read the store's file, if there is one, and see that it can be written.

        Raises:
            ConfigError: the file is no store, is of another vocabulary, or cannot be read or written.
        """
        if self._file is not None and self._memory.lasting:
            check_writable(self._file)
        super().open(rows, capacity)

    def trie(self, text: RowText, depth: int) -> DraftTrie:
        return grow(text.tail, text.index.likeliest, depth=depth, width=self.width)

    def learn(self, text: RowText, emitted: Sequence[int], top_ids: Sequence[Sequence[int]] | None) -> None:
        """Learn what was emitted, and what the target held likely instead."""
        for token, likely in zip(emitted, top_ids or ((),) * len(emitted), strict=True):
            text.learn()
            for other in reversed(likely):  # the likeliest last: of equal counts the latest leads
                text.index.learn(text.tail, other)
            text.whole.append(token)

    def close(self) -> None:
        """Write the store to its file, unless the run's memory is not to last.

        Raises:
            ConfigError: the file cannot be written.
        """
        if self._file is not None and self._shared is not None and self._memory.lasting:
            save_store(self._shared, self._file, self._vocab_size)
        super().close()
