"""What the n-gram methods share: drafting from an index of what was seen, at a cost that does not grow with the text.

A method decides what is indexed and how followers are ranked; this file keeps the rows. The trees are a function of
what was seen before, so their children are *fixed*, and the exact rule is lossless at any temperature.

The scope of the memory is one of three. `none`: an index for each row, of its output. `prompt`: an index for each row,
of its prompt and output. `session`: one index for all rows of all runs while the models stay loaded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections.abc import Hashable, Sequence
from typing import Self

from specterm.decoding.drafters.draft_trie import DraftTrie, to_draft_tree
from specterm.decoding.drafters.ngram_index import NgramIndex
from specterm.decoding.drafters.setup import DraftSetup
from specterm.decoding.ports import Admission, Feedback, Needs, ProposeRow
from specterm.decoding.stride_ports import Drafting, Step
from specterm.decoding.tree import DraftTree


class RowText:
    """A row's text, the root last, and the index that learns it, when it is asked and not before."""

    def __init__(self, index: NgramIndex) -> None:
        self.index = index
        self.whole = array("q")
        self._learned = 0  # tokens

    @property
    def tail(self) -> list[int]:
        """The end of the text: as much of it as the index looks at."""
        return self.whole[-self.index.longest :].tolist()

    def learn(self) -> None:
        """The index learns what came since it was asked last."""
        longest, whole = self.index.longest, self.whole
        for place in range(self._learned, len(whole)):
            self.index.learn(whole[max(0, place - longest) : place].tolist(), whole[place])
        self._learned = len(whole)


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
        text = self._texts[admission.row] = RowText(self.new_index() if self._shared is None else self._shared)
        if self._scope != "none":
            text.whole.extend(admission.prompt_ids.tolist())
        self.learn(text, (admission.first,), None if admission.top_ids is None else (admission.top_ids,))

    def propose(self, rows: Sequence[ProposeRow]) -> DraftTree:
        """A trie for each row."""
        texts = [self._texts[row.row] for row in rows]
        for text in texts:
            text.learn()
        tries = [self.trie(text, min(self.max_depth, row.limit)) for text, row in zip(texts, rows, strict=True)]
        return to_draft_tree(tries, self._device, self._show_confidence)

    def drafting(self, row: int, limit: int) -> Drafting | None:
        """See `Strider`. Nothing is looked up where nothing may be drafted."""
        return Drafting() if not min(self.max_depth, limit) and not self.needs.top_k else None

    def strode(self, row: int, step: Step) -> None:  # noqa: B027  # methods need not have anything to do
        """All that there is to learn is what was kept."""

    def catch_up(self, feedback: Sequence[Feedback]) -> None:
        """The texts go on."""
        for told in feedback:
            self.learn(self._texts[told.row], told.emitted, told.top_ids)

    def learn(self, text: RowText, emitted: Sequence[int], top_ids: Sequence[Sequence[int]] | None) -> None:
        """The text goes on with `emitted`; `top_ids`, where the method asked for them, are what the target held
        likeliest in the place of each."""
        text.whole.extend(emitted)

    def release(self, row: int) -> None:
        """Forget the row; what a session's index learns from it stays."""
        text = self._texts.pop(row, None)
        if text is not None and text.index is self._shared:
            text.learn()

    def close(self) -> None:
        """Forget the rows."""
        self._texts.clear()
