"""What the n-gram methods share: drafting from an index of what was seen, at a cost that does not grow with the text.

A method decides what is indexed and how followers are ranked; this file keeps the rows. The trees are a function of
what was seen before, so their children are *fixed*, and the exact rule is lossless at any temperature.

The scope of the memory is one of three. `none`: an index for each row, of its output. `prompt`: an index for each row,
of its prompt and output. `session`: one index for all rows of all runs while the models stay loaded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Self

from specterm.decoding.drafters.draft_trie import DraftTrie, to_draft_tree
from specterm.decoding.drafters.ngram_index import NgramIndex
from specterm.decoding.drafters.setup import DraftSetup
from specterm.decoding.ports import Admission, Feedback, Needs, ProposeRow
from specterm.decoding.tree import DraftTree


@dataclass(slots=True)
class RowText:
    """The end of a row's text, the root last, and the index that it is learned into."""

    index: NgramIndex
    tail: list[int]

    def append(self, token: int) -> None:
        """The text goes on: learn the token and keep as much of the end as the index looks at."""
        self.index.learn(self.tail, token)
        self.tail.append(token)
        del self.tail[: -self.index.longest]


class LookupDrafter(ABC):
    """Tries of up to `tree_width` branches of `num_draft_tokens` tokens, looked up in an index."""

    confident = True  # whether a node's weight estimates its probability

    def __init__(self, setup: DraftSetup) -> None:
        """Draft models and warps take no part; the memory does at scope `session` only."""
        parameters = setup.parameters
        self.max_depth = int(parameters["num_draft_tokens"])
        self.width = int(parameters["tree_width"])
        self.max_nodes = self.max_depth * self.width
        self.needs = Needs()
        self._scope = str(parameters["draft_memory"])
        self._device = setup.target.device
        self._show_confidence = self.confident and setup.record.shows_nodes
        self._memory = setup.memory
        self._texts: dict[int, RowText] = {}
        self._shared: NgramIndex | None = None  # the session's

    @classmethod
    def build(cls, setup: DraftSetup) -> Self:
        """See `DRAFTERS`."""
        return cls(setup)

    @property
    @abstractmethod
    def memory_key(self) -> Hashable:
        """Under which key the session's index is kept: what makes one index unlike another."""

    @abstractmethod
    def new_index(self) -> NgramIndex:
        """An index that has seen nothing of this run."""

    @abstractmethod
    def trie(self, text: RowText, depth: int) -> DraftTrie:
        """The draft below the end of `text`, at most `depth` deep."""

    def open(self, rows: int, capacity: int) -> None:
        """At scope `session` make or recall the index."""
        if self._scope == "session":
            self._shared = self._memory.recall(self.memory_key, self.new_index)

    def admit(self, admission: Admission) -> None:
        """Learn the prompt, if the scope says so, and the first token."""
        text = self._texts[admission.row] = RowText(self.new_index() if self._shared is None else self._shared, [])
        for token in [] if self._scope == "none" else admission.prompt_ids.tolist():
            text.append(token)
        self.learn(text, (admission.first,), None if admission.top_ids is None else (admission.top_ids,))

    def propose(self, rows: Sequence[ProposeRow]) -> DraftTree:
        """A trie for each row."""
        tries = [self.trie(self._texts[row.row], min(self.max_depth, row.limit)) for row in rows]
        return to_draft_tree(tries, self._device, self._show_confidence)

    def catch_up(self, feedback: Sequence[Feedback]) -> None:
        """Learn what was emitted."""
        for told in feedback:
            self.learn(self._texts[told.row], told.emitted, told.top_ids)

    def learn(self, text: RowText, emitted: Sequence[int], top_ids: Sequence[Sequence[int]] | None) -> None:
        """The text goes on with `emitted`; `top_ids`, where the method asked for them, are what the target held
        likeliest in the place of each."""
        for token in emitted:
            text.append(token)

    def release(self, row: int) -> None:
        """Forget where the row stands; what a session's index learned from it stays."""
        self._texts.pop(row, None)

    def close(self) -> None:
        """Forget the rows."""
        self._texts.clear()
