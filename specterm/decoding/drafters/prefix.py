"""What the KV cache of a drafting model holds of each row, and bringing it up to date.

Of each row the cache holds `length` true tokens; `pending` true tokens are still to be forwarded. Drafting writes
scratch behind the true prefix. What a round emitted is pending until the next draft begins, but for scratch of a draft
model that was accepted and stands where the true text has it: it is true prefix from then on.

What row 0 holds when its text ends stays there for the next prompt (see `kept_prefix`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from specterm.decoding.kept_prefix import shared
from specterm.decoding.ports import Beam, Beams, Block, Chains, Feedback, Gate, LanguageModel, Runner, TokenSteps
from specterm.decoding.prefill import prefill
from specterm.decoding.sampling import Warps
from specterm.decoding.stride_ports import Ahead
from specterm.decoding.tree import Topology

_Made = TypeVar("_Made")


def token_steps(model: LanguageModel) -> TokenSteps | None:
    """The steps of a model that has them, where the host has the tokens anyway; elsewhere it would wait for them."""
    return model if isinstance(model, TokenSteps) and model.device.type == "cpu" else None


def chains_of(model: LanguageModel) -> Chains | None:
    """Those of a model that makes them in one piece."""
    return model if isinstance(model, Chains) and model.device.type == "cpu" else None


def beams_of(model: LanguageModel) -> Beams | None:
    """Likewise."""
    return model if isinstance(model, Beams) and model.device.type == "cpu" else None


class Prefix(Protocol):
    """What a drafting model has of the true text of each row. See `DraftPrefix`, which has a cache of its own."""

    def open(self, rows: int, capacity: int, scratch: int) -> None: ...
    def recall(self, row: int, prompt_ids: Sequence[int]) -> int | None: ...
    def admit(self, row: int, prompt_ids: Tensor, first: int) -> None: ...
    def release(self, row: int) -> None: ...
    def room(self, row: int) -> int: ...
    def advance(self, rows: Sequence[int]) -> Tensor: ...
    def lengths(self, rows: Sequence[int]) -> tuple[int, ...]: ...
    def learn(self, told: Feedback, in_place: int) -> None: ...
    def ahead(self, row: int) -> Ahead | None: ...
    def took(self, row: int) -> None: ...
    def greedy_chain(
        self, row: int, most: int, least: float, vocab_size: int
    ) -> tuple[list[int], list[float], Tensor] | None: ...
    def sampled_chain(
        self, row: int, most: int, vocab_size: int, warps: Warps, key: int, index: int
    ) -> tuple[list[int], Tensor] | None: ...
    def beam(self, row: int, ranks: int, depth: int, found: int, vocab_size: int, gate: Gate | None) -> Beam | None: ...


@dataclass(slots=True)
class PrefixRow:
    """One row; see above. `text` is all that is known of it, from the prompt's first token on."""

    length: int
    pending: list[int]
    text: list[int]


class CachedModel(Protocol):
    """A model with a KV cache of its own."""

    max_positions: int

    def allocate(self, rows: int, capacity: int) -> None: ...
    def kept(self) -> Sequence[Hashable]: ...
    def keep(self, contents: Sequence[Hashable]) -> None: ...


class CachePrefix:
    """The bookkeeping of one model's cache, whatever it is fed with."""

    def __init__(self, model: CachedModel, widest: int) -> None:
        """`widest`: pending tokens that one forward takes; more are prefilled first."""
        self._model = model
        self._widest = widest
        self._rows: dict[int, PrefixRow] = {}
        self._recalled: dict[int, int] = {}  # of rows that a prompt is about to take: what is there of it already

    def open(self, rows: int, capacity: int, scratch: int) -> None:
        """Prepare the cache for `capacity` tokens a row and `scratch` slots behind them."""
        longest = min(capacity, self._model.max_positions)
        self._model.allocate(rows, longest + scratch + self._widest)
        self._rows.clear()
        self._recalled.clear()

    def recall(self, row: int, prompt_ids: Sequence[int]) -> int | None:
        """A prompt is about to take `row`, and what the cache has of it is to be used: how many tokens at its beginning
        need not be forwarded; None where there is no cache of one's own."""
        self._recalled[row] = shared(self._model.kept(), self.contents(prompt_ids)) if row == 0 else 0
        return self._recalled[row]

    def release(self, row: int) -> None:
        """Forget the row, but for what its cache holds of row 0."""
        state = self._rows.pop(row, None)
        if state is not None and row == 0:
            self._model.keep(self.contents(state.text)[: state.length])

    def contents(self, text: Sequence[int]) -> Sequence[Hashable]:
        """What the slots of a row with this text hold, or will, one after the other."""
        return text

    def room(self, row: int) -> int:
        """How many tokens can be drafted before the model's own context ends; not negative."""
        state = self._rows[row]
        return max(0, self._model.max_positions - state.length - len(state.pending) + 1)

    def lengths(self, rows: Sequence[int]) -> tuple[int, ...]:
        """The true tokens in the cache of each row; once brought up to date, the root is the last of them."""
        return tuple(self._rows[row].length for row in rows)

    def _pending_block(self, rows: Sequence[int], device: torch.device) -> tuple[Block, list[int]]:
        """What is pending of `rows`, padded to the longest, and the place of the root in each; no longer pending."""
        states = [self._rows[row] for row in rows]
        width = max(len(state.pending) for state in states)
        padded = [state.pending + [0] * (width - len(state.pending)) for state in states]
        starts = tuple(state.length for state in states)
        ids = torch.from_numpy(np.array(padded, dtype=np.int64)).to(device)  # sooner there than by torch itself
        block = Block(tuple(rows), starts, ids, Topology.of_chain(width - 1, device))
        last = [len(state.pending) - 1 for state in states]
        for state in states:
            state.length += len(state.pending)
            state.pending.clear()
        return block, last


class InOnePiece:
    """Chains and beams of a model, from what is pending on: see `Chains` and `Beams`. None also where it has none."""

    chains: Chains | None
    beams: Beams | None

    def greedy_chain(
        self, row: int, most: int, least: float, vocab_size: int
    ) -> tuple[list[int], list[float], Tensor] | None:
        """See `Chains`."""
        if (chains := self.chains) is None:
            return None
        return self._ahead(row, lambda start, tokens: chains.greedy_chain(row, start, tokens, most, least, vocab_size))

    def sampled_chain(
        self, row: int, most: int, vocab_size: int, warps: Warps, key: int, index: int
    ) -> tuple[list[int], Tensor] | None:
        """Likewise."""
        if (chains := self.chains) is None:
            return None
        return self._ahead(
            row,
            lambda start, tokens: chains.sampled_chain(row, start, tokens, most, vocab_size, warps, key, index),
        )

    def beam(self, row: int, ranks: int, depth: int, found: int, vocab_size: int, gate: Gate | None) -> Beam | None:
        """See `Beams`."""
        if (beams := self.beams) is None:
            return None
        return self._ahead(
            row, lambda start, tokens: beams.beam(row, start, tokens, ranks, depth, found, vocab_size, gate)
        )

    @abstractmethod
    def _ahead(self, row: int, make: Callable[[int, list[int]], _Made | None]) -> _Made | None:
        """make(first slot, pending tokens), which writes those."""


class DraftPrefix(CachePrefix, InOnePiece):
    """The prefix of a draft model."""

    def __init__(self, runner: Runner, widest: int) -> None:
        super().__init__(runner, widest)
        self._runner = runner
        self._steps = token_steps(runner)
        self.chains, self.beams = chains_of(runner), beams_of(runner)

    def admit(self, row: int, prompt_ids: Tensor, first: int) -> None:
        """Prefill the prompt as far as the model's context goes."""
        text, fits = [*prompt_ids.tolist(), first], min(len(prompt_ids), self._runner.max_positions)
        if (there := self._recalled.pop(row, 0)) < fits:
            prefill(self._runner, row, prompt_ids[there:fits], there)
        self._rows[row] = PrefixRow(fits, text[fits:], text)

    def _catch_up(self, row: int) -> None:
        """Forward what is pending but for a round's worth: there is more after a pause."""
        state = self._rows[row]
        if (late := len(state.pending) - self._widest) > 0:
            prefill(self._runner, row, torch.tensor(state.pending[:late]), state.length)
            state.length += late
            del state.pending[:late]

    def advance(self, rows: Sequence[int]) -> Tensor:
        """Forward what is pending, the root at the end; returns the logits after the root, [B, V]."""
        if self._steps is not None and len(rows) == 1 and len(self._rows[rows[0]].pending) == 1:
            alone = self._rows[rows[0]]
            logits = self._steps.step(rows[0], alone.length, alone.pending.pop())
            alone.length += 1
            return logits.unsqueeze(0)
        for row in rows:
            self._catch_up(row)
        block, last = self._pending_block(rows, self._runner.device)
        return self._runner.forward(block, last)[:, 0]

    def _ahead(self, row: int, make: Callable[[int, list[int]], _Made | None]) -> _Made | None:
        """See `InOnePiece`."""
        self._catch_up(row)
        state = self._rows[row]
        found = make(state.length, state.pending)
        if found is not None:
            self.took(row)
        return found

    def ahead(self, row: int) -> Ahead | None:
        """See `Drafting`; None where the model makes nothing in one piece."""
        if self.chains is None:
            return None
        self._catch_up(row)
        state = self._rows[row]
        return Ahead(self._runner, state.length, state.pending, self._widest)

    def took(self, row: int) -> None:
        """What is pending was forwarded."""
        state = self._rows[row]
        state.length += len(state.pending)
        state.pending.clear()

    def learn(self, told: Feedback, in_place: int) -> None:
        """A round ended: the first `in_place` emitted tokens already stand behind the prefix, the rest is pending."""
        state = self._rows[told.row]
        state.length += in_place
        state.pending.extend(told.emitted[in_place:])
        state.text.extend(told.emitted)
