"""A model as a function of the text alone: rows that say the same share one forward pass.

Ten thousand rows with one prompt and random numbers of their own are in few different places: what the model says there
is computed once, by the model itself, and remembered. So the decode loop, the drafters and the rules can be tried often
enough for statistics. What a slot cache holds is *not* tried here: a pass is computed from the row's own tokens,
whatever was compacted or rolled back before. Runs on the model itself have to be compared with these.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from specterm.decoding.ports import Block, LanguageModel, Runner
from specterm.decoding.tree import Topology

_ROWS = 64  # cache rows of the model that compute
_BYTES = 1 << 29  # of logits that are remembered of one model

Text: TypeAlias = tuple[int, ...]


class _Slots:
    """The token in each slot of each row."""

    def __init__(self) -> None:
        self.rows: list[list[int]] = []

    def allocate(self, rows: int, capacity: int) -> None:
        kept = self.rows + [[]] * (rows - len(self.rows))
        self.rows = [row + [0] * (capacity - len(row)) for row in kept]


class Remembered:
    """A `LanguageModel` for rows that all begin with `prompt`."""

    def __init__(self, model: LanguageModel, runner: Runner, prompt: Sequence[int], slots: _Slots) -> None:
        """`model` lives on the cache of `runner`."""
        self.vocab_size = model.vocab_size
        self.max_positions = model.max_positions
        self.device = model.device
        self._model, self._cached, self._slots = model, runner, slots
        self._base = tuple(prompt[:-1])
        self._places: dict[Text, int] = {}
        self._logits: Tensor | None = None  # [capacity, V]
        self._based = 0  # of the model's own cache rows, how many hold the beginning of the prompt

    def forward(self, block: Block, last: Sequence[int] | None = None) -> Tensor:
        """See `LanguageModel`."""
        rows = self._texts(block)
        if last is not None:
            rows = [row[at : at + 1] for row, at in zip(rows, last, strict=True)]
        return self.after([text for row in rows for text in row]).view(len(rows), len(rows[0]), -1)

    def after(self, texts: Sequence[Text]) -> Tensor:
        """Logits after each text, [n, V]; each begins with the prompt.

        Raises:
            ValueError: one does not.
        """
        missing = [text for text in dict.fromkeys(texts) if text not in self._places]
        if missing and (len(self._places) + len(missing)) * self.vocab_size * 4 > _BYTES:
            self._places.clear()
            missing = list(dict.fromkeys(texts))
        for begin in range(0, len(missing), _ROWS):
            self._add(missing[begin : begin + _ROWS])
        assert self._logits is not None, "there is at least one text"
        index = torch.tensor([self._places[text] for text in texts], device=self.device)
        return self._logits.index_select(0, index)

    def lose_cache(self) -> None:
        """Somebody else wrote to the model's own cache."""
        self._based = 0

    def _texts(self, block: Block) -> list[list[Text]]:
        """The text up to each token of the block, [B][T]; writes the block's tokens to their slots."""
        parents = block.topology.parents.tolist()
        found = []
        for i, (row, start, ids) in enumerate(zip(block.rows, block.starts, block.ids.tolist(), strict=True)):
            slots, nodes = self._slots.rows[row], block.first + len(ids)
            slots[start + block.first : start + nodes] = ids
            if block.topology.chain:
                whole = tuple(slots[: start + nodes])
                found.append([whole[: start + node + 1] for node in range(block.first, nodes)])
                continue
            paths: list[Text] = [tuple(slots[: start + 1])]
            for node, parent in enumerate(parents[i if len(parents) > 1 else 0][1:nodes], start=1):
                paths.append((*paths[parent], slots[start + node]))
            found.append(paths[block.first :])
        return found

    @torch.inference_mode()
    def _add(self, texts: Sequence[Text]) -> None:
        """Let the model compute what follows `texts`, at most as many as it has cache rows for."""
        base = len(self._base)
        if any(len(text) <= base or text[:base] != self._base for text in texts):
            raise ValueError("a row does not begin with the prompt that is remembered")
        width = max(map(len, texts)) - base
        self._cached.allocate(_ROWS, base + width)
        self._write_base(len(texts))
        last = [len(text) - base - 1 for text in texts]
        ids = [[*text[base:], *[0] * (width - 1 - end)] for text, end in zip(texts, last, strict=True)]
        logits = self._model.forward(self._block(ids, base), last)[:, 0]
        first, size = len(self._places), len(self._places) + len(texts)
        held = 0 if self._logits is None else len(self._logits)
        if self._logits is None or size > held:
            grown = logits.new_empty((max(2 * held, size, _ROWS), logits.shape[1]))
            if self._logits is not None:
                grown[:held] = self._logits
            self._logits = grown
        self._logits[first:size] = logits
        self._places.update((text, first + i) for i, text in enumerate(texts))

    def _write_base(self, rows: int) -> None:
        """Give the model's first `rows` cache rows the beginning of the prompt, where they have it not."""
        missing = tuple(range(self._based, rows))
        if self._base and missing:
            self._model.forward(self._block([list(self._base)] * len(missing), 0, missing[0]), [0] * len(missing))
        self._based = max(self._based, rows)

    def _block(self, ids: list[list[int]], start: int, first_row: int = 0) -> Block:
        chain = Topology.of_chain(len(ids[0]) - 1, self.device)
        rows = tuple(range(first_row, first_row + len(ids)))
        return Block(rows, (start,) * len(ids), torch.tensor(ids, device=self.device), chain)


class RememberedRunner(Remembered):
    """A `Runner` for rows that all begin with `prompt`. Hidden states are not remembered."""

    def __init__(self, runner: Runner, prompt: Sequence[int]) -> None:
        super().__init__(runner, runner, prompt, _Slots())
        self.hidden_size, self.layers, self.dtype = runner.hidden_size, runner.layers, runner.dtype
        self._prompt = tuple(prompt)
        self._exits: dict[int, Remembered] = {}

    def head_weight(self) -> Tensor:
        """See `Runner`."""
        return self._cached.head_weight()

    def through_head(self, states: Tensor) -> Tensor:
        """See `Runner`."""
        return self._cached.through_head(states)

    def embedding_weight(self) -> Tensor:
        """See `Runner`."""
        return self._cached.embedding_weight()

    def kv_token_bytes(self) -> int | None:
        """See `Runner`."""
        return self._cached.kv_token_bytes()

    def allocate(self, rows: int, capacity: int) -> None:
        """See `Runner`."""
        self._slots.allocate(rows, capacity)

    def lose_cache(self) -> None:
        """Somebody else wrote to the runner's cache."""
        for model in self._exits.values():
            model.lose_cache()
        super().lose_cache()

    def kept(self) -> Sequence[Hashable]:
        """See `Runner`: nothing is."""
        return ()

    def remark(self) -> str | None:
        """See `Runner`."""
        return self._cached.remark()

    def keep(self, contents: Sequence[Hashable]) -> None:
        """See `Runner`."""

    def release(self) -> None:
        """Give back what is remembered."""
        self._exits.clear()
        self._places.clear()
        self._logits = None

    def forward_tapped(
        self, block: Block, taps: Sequence[int], last: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """See `Runner`.

        Raises:
            ValueError: always.
        """
        raise ValueError("hidden states are not remembered")

    def early_exit(self, layers: int) -> Remembered:
        """See `Runner`."""
        if layers not in self._exits:
            model = self._cached.early_exit(layers)
            self._exits[layers] = Remembered(model, self._cached, self._prompt, self._slots)
        return self._exits[layers]

    def compact(self, rows: Sequence[int], starts: Sequence[int], path: Tensor) -> None:
        """See `Runner`."""
        for row, start, nodes in zip(rows, starts, path.tolist(), strict=True):
            slots = self._slots.rows[row]
            slots[start : start + len(nodes)] = [slots[start + node] for node in nodes]
