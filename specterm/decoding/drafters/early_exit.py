"""Early exit: the target's own first layers, its final norm and its head draft; no second model.

LayerSkip (Elhoushi et al. 2024, arXiv 2404.16710) and self-speculative decoding (Zhang et al. 2023, arXiv 2309.08168).
The draft shares the target's KV: what the first layers have of the true prefix, verification has written. Drafting
writes their keys and values of the root and the draft behind it, and the verifying pass writes the same slots again
with the same values, so nothing is rolled back, and nothing is ever brought up to date.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from specterm.decoding.drafters.budget import tree_budget
from specterm.decoding.drafters.cost import median_seconds
from specterm.decoding.drafters.draft_model import DraftModel, draft_warps
from specterm.decoding.drafters.multi_draft import MultiDraft
from specterm.decoding.drafters.prefix import InOnePiece, beams_of, chains_of
from specterm.decoding.drafters.setup import DraftSetup
from specterm.decoding.drafters.side_by_side import InTurn
from specterm.decoding.ports import Block, Drafter, Feedback, LanguageModel, Runner
from specterm.decoding.stride_ports import Ahead
from specterm.decoding.tree import Topology
from specterm.errors import ConfigError, ModelError

_Made = TypeVar("_Made")


def build_early_exit(setup: DraftSetup) -> Drafter:
    """See `DRAFTERS`. A chain as of a draft model; with a `tree_width` above 1 beams, whose children are fixed.

    Raises:
        ConfigError: `exit_layer` is not below the target's number of layers, or two parameters do not go together.
        ModelError: the target cannot be left early.
    """
    parameters, target = setup.parameters, setup.target
    model = target.early_exit(exit_layer(parameters["exit_layer"], target.layers))
    gamma, width = int(parameters["num_draft_tokens"]), int(parameters["tree_width"])
    nodes, temperature = parameters["tree_nodes"], parameters["draft_temperature"]
    if width == 1:
        if nodes is not None:
            raise ConfigError(f"--tree-nodes is {nodes}; with early-exit it needs a --tree-width above 1")
        prefix = SharedPrefix(target, model)
        return DraftModel(model, prefix, target.vocab_size, gamma, draft_warps(setup.warps, temperature), setup.record)
    if temperature is not None:
        raise ConfigError(f"--draft-temperature is {temperature}; with early-exit it needs --tree-width 1")
    every = width + (gamma - 1) * width * width
    budget = tree_budget(
        setup.costs,
        nodes,
        every,
        lambda: gamma * _level_s(target, model, width),
        unmeasured=width * gamma,
        levels=gamma,
        adaptive=parameters["adaptive"],
    )
    prefix = SharedPrefix(target, model)
    return MultiDraft((model,), (prefix,), target.vocab_size, width, gamma, budget, setup.record, InTurn())


def exit_layer(given: int | None, layers: int) -> int:
    """How many of the target's `layers` draft; the lower half where nothing is given.

    Raises:
        ConfigError: `given` is not below `layers`.
        ModelError: there is but one layer.
    """
    if layers < 2:
        raise ModelError(f"early-exit needs a target of at least 2 layers; this one has {layers}")
    if given is not None and given >= layers:
        raise ConfigError(
            f"--exit-layer is {given}; the target has {layers} layers, so it must be at most {layers - 1}"
        )
    return layers // 2 if given is None else given


class SharedPrefix(InOnePiece):
    """The prefix of a draft that shares the target's cache: always up to date, but for the root. See `Prefix`."""

    def __init__(self, target: Runner, model: LanguageModel) -> None:
        self._target, self._model = target, model
        self._committed: dict[int, int] = {}  # by row, the tokens before the root
        self._roots: dict[int, int] = {}
        self.chains, self.beams = chains_of(model), beams_of(model)

    def open(self, rows: int, capacity: int, scratch: int) -> None:
        """Make room in the target's cache for the root and `scratch` slots behind it."""
        self._target.allocate(rows, capacity + scratch + 1)
        self._committed.clear()
        self._roots.clear()

    def recall(self, row: int, prompt_ids: Sequence[int]) -> int | None:
        """There is no cache of one's own."""
        return None

    def admit(self, row: int, prompt_ids: Tensor, first: int) -> None:
        """The target has the prompt already."""
        self._committed[row], self._roots[row] = len(prompt_ids), first

    def release(self, row: int) -> None:
        """Forget the row."""
        self._committed.pop(row, None)
        self._roots.pop(row, None)

    def room(self, row: int) -> int:
        """How many tokens can be drafted before the context ends."""
        return max(0, self._model.max_positions - self._committed[row])

    def advance(self, rows: Sequence[int]) -> Tensor:
        """Forward the roots; returns the logits after them, [B, V]."""
        ids = torch.tensor([[self._roots[row]] for row in rows], device=self._model.device)
        starts = tuple(self._committed[row] for row in rows)
        return self._model.forward(Block(tuple(rows), starts, ids, Topology.of_chain(0, self._model.device)))[:, 0]

    def lengths(self, rows: Sequence[int]) -> tuple[int, ...]:
        """The true tokens in the first layers' slots of each row, the root included."""
        return tuple(self._committed[row] + 1 for row in rows)

    def _ahead(self, row: int, make: Callable[[int, list[int]], _Made | None]) -> _Made | None:
        """See `InOnePiece`."""
        return make(self._committed[row], [self._roots[row]])

    def ahead(self, row: int) -> Ahead | None:
        """See `Drafting`."""
        if self.chains is None:
            return None
        return Ahead(self._model, self._committed[row], (self._roots[row],), 1, shared=True)

    def took(self, row: int) -> None:
        """Nothing is ever pending but the root."""

    def learn(self, told: Feedback, in_place: int) -> None:
        """A round ended: the target wrote what was emitted, but for the last token, the next root."""
        self._committed[told.row] += len(told.emitted)
        self._roots[told.row] = told.emitted[-1]


def _level_s(target: Runner, model: LanguageModel, width: int) -> float:
    """Median seconds of one level of drafting, behind what the cache has kept."""
    start = len(target.kept())
    target.allocate(1, start + width)
    ids = torch.zeros((1, width), dtype=torch.int64, device=model.device)
    block = Block((0,), (start,), ids, Topology.of_chain(width - 1, model.device))
    return median_seconds(lambda: model.forward(block)[0, :, 0])
