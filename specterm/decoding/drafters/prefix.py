"""What the KV cache of a draft model holds of each row, and bringing it up to date.

Of each row the cache holds `length` true tokens; `pending` true tokens are still to be forwarded. Drafting writes
scratch behind the true prefix. The part of it that was accepted, and stands where the true text has it, is true prefix
from then on; the rest of what a round emitted is pending until the next draft begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from specterm.decoding.ports import Block, Feedback, Runner
from specterm.decoding.prefill import prefill
from specterm.decoding.tree import Topology


@dataclass(slots=True)
class _Row:
    length: int
    pending: list[int]


class DraftPrefix:
    """The prefix bookkeeping of one draft model."""

    def __init__(self, runner: Runner, widest: int) -> None:
        """`widest`: pending tokens that one forward takes; more are prefilled first."""
        self._runner = runner
        self._widest = widest
        self._rows: dict[int, _Row] = {}

    def open(self, rows: int, capacity: int, scratch: int) -> None:
        """Prepare the cache for `capacity` tokens a row and `scratch` slots behind them."""
        longest = min(capacity, self._runner.max_positions)
        self._runner.allocate(rows, longest + scratch + self._widest)
        self._rows.clear()

    def admit(self, row: int, prompt_ids: Tensor, first: int) -> None:
        """Prefill the prompt as far as the model's context goes."""
        fits = min(len(prompt_ids), self._runner.max_positions)
        prefill(self._runner, row, prompt_ids[:fits])
        self._rows[row] = _Row(fits, [*prompt_ids[fits:].tolist(), first])

    def release(self, row: int) -> None:
        """Forget the row."""
        self._rows.pop(row, None)

    def room(self, row: int) -> int:
        """How many tokens can be drafted before the model's own context ends; not negative."""
        state = self._rows[row]
        return max(0, self._runner.max_positions - state.length - len(state.pending) + 1)

    def advance(self, rows: Sequence[int]) -> Tensor:
        """Forward what is pending, the root at the end; returns the logits after the root, [B, V]."""
        states = [self._rows[row] for row in rows]
        for row, state in zip(rows, states, strict=True):
            if (late := len(state.pending) - self._widest) > 0:  # after a pause: more than a round's worth
                prefill(self._runner, row, torch.tensor(state.pending[:late]), state.length)
                state.length += late
                del state.pending[:late]
        width, device = max(len(state.pending) for state in states), self._runner.device
        padded = [state.pending + [0] * (width - len(state.pending)) for state in states]
        block = Block(
            tuple(rows),
            tuple(state.length for state in states),
            torch.tensor(padded, device=device),
            Topology.of_chain(width - 1, device),
        )
        logits = self._runner.forward(block, last=[len(state.pending) - 1 for state in states])[:, 0]
        for state in states:
            state.length += len(state.pending)
            state.pending.clear()
        return logits

    def lengths(self, rows: Sequence[int]) -> tuple[int, ...]:
        """The true tokens in the cache of each row; after `advance` the root is the last of them."""
        return tuple(self._rows[row].length for row in rows)

    def learn(self, told: Feedback, in_place: int) -> None:
        """A round ended: the first `in_place` emitted tokens already stand behind the prefix, the rest is pending."""
        state = self._rows[told.row]
        state.length += in_place
        state.pending.extend(told.emitted[in_place:])
