"""MLP speculator: a small recurrence on the target's hidden state drafts beams (Wertheimer et al. 2024).

It begins from the state at the last accepted node, which the verifying pass computes anyway, and reads the root; each
further level reads the token that went on, so unlike Medusa's heads it knows its own choice. Growth is that of a draft
model's beams. It keeps nothing of the text: what it needs is in the target's state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from specterm.decoding.drafters.beams import add_levels, grow, of_paths
from specterm.decoding.drafters.budget import Budget, tree_budget
from specterm.decoding.drafters.candidates import Candidates, worth_verifying
from specterm.decoding.drafters.cost import median_seconds
from specterm.decoding.drafters.draft_trie import to_draft_tree
from specterm.decoding.drafters.levels import Levels, Paths, Step
from specterm.decoding.drafters.setup import DraftSetup
from specterm.decoding.ports import FINAL_NORM, Admission, Feedback, Needs, ProposeRow, Recording
from specterm.decoding.tree import DraftTree


class Speculator(Protocol):
    """What is needed of the speculator: its levels are the tokens that it can look ahead."""

    levels: int

    @property
    def hidden_size(self) -> int: ...
    @property
    def dtype(self) -> torch.dtype: ...
    def begin(self, hidden: Tensor) -> Tensor: ...  # the target's states [..., hidden] -> first states
    def __call__(self, states: Tensor, ids: Tensor, level: int) -> tuple[Tensor, Tensor]: ...  # -> logits, next states


class MLP:
    """Beams of `width` paths and `depth` levels from the speculator of the target."""

    needs = Needs(taps=(FINAL_NORM,))

    def __init__(
        self, speculator: Speculator, device: torch.device, width: int, depth: int, budget: Budget, record: Recording
    ) -> None:
        """depth: at most the speculator's levels."""
        self.max_nodes = budget.most
        self._speculator, self._device = speculator, device
        self._width, self.max_depth = width, depth
        self._budget, self._record = budget, record
        self._states: dict[int, Tensor] = {}  # row -> [hidden], the target's state before the root
        self._roots: dict[int, int] = {}
        self._promised: dict[int, float] = {}  # row -> the sum of the scores of its verified nodes

    @classmethod
    def build(cls, setup: DraftSetup) -> MLP:
        """See `DRAFTERS`. The tree is no deeper than the speculator has levels."""
        speculator: Speculator = setup.heads["mlp"]
        device, width, nodes = setup.target.device, int(setup.parameters["tree_width"]), setup.parameters["tree_nodes"]
        depth = min(int(setup.parameters["tree_depth"]), speculator.levels)
        every = width + (depth - 1) * width * width
        hidden, root = torch.zeros((1, speculator.hidden_size), device=device), torch.tensor([0], device=device)

        def draft_s() -> float:
            return median_seconds(lambda: beams(speculator, hidden, root, width, depth)[-1].rows())

        adaptive = setup.parameters["adaptive"]
        budget = tree_budget(
            setup.costs, nodes, every, draft_s, unmeasured=width * depth, levels=depth, adaptive=adaptive
        )
        return cls(speculator, device, width, depth, budget, setup.record)

    def open(self, rows: int, capacity: int) -> None:
        """Nothing to prepare: there is no cache."""
        self._states.clear()
        self._roots.clear()

    def recall(self, row: int, prompt_ids: Sequence[int]) -> tuple[int, ...]:
        """The state at the last prompt token is enough, and that token is never reused."""
        return ()

    def admit(self, admission: Admission) -> None:
        """The state at the last prompt token is the one before the first root."""
        assert admission.taps is not None, "taps are needed"
        self._states[admission.row], self._roots[admission.row] = admission.taps[-1], admission.first

    def propose(self, rows: Sequence[ProposeRow]) -> DraftTree:
        """Grow beams for all rows at once, and keep the most promising nodes of each."""
        self._budget.begin()
        depths = [min(self.max_depth, row.limit) for row in rows]
        merged = [Candidates() for _ in rows]
        if any(depths):
            hidden = torch.stack([self._states[row.row] for row in rows])
            roots = torch.tensor([self._roots[row.row] for row in rows], device=self._device)
            shown = self._record.alternatives
            levels = beams(
                self._speculator, hidden, roots, self._width, max(depths), paths=self._budget.paths, shown=shown
            )
            add_levels(merged, levels, depths)
        tries, promised = zip(*worth_verifying(merged, self._budget), strict=True)
        self._promised = {row.row: tokens for row, tokens in zip(rows, promised, strict=True)}
        return to_draft_tree(tries, self._device, self._record.shows_nodes)

    def catch_up(self, feedback: Sequence[Feedback]) -> None:
        """Keep the state at the last accepted node, and the root that follows it."""
        for told in feedback:
            assert told.taps is not None, "taps are needed"
            self._budget.learn(self._promised[told.row], told.accepted)
            self._states[told.row], self._roots[told.row] = told.taps[told.accepted], told.emitted[-1]

    def release(self, row: int) -> None:
        """Forget the row."""
        self._states.pop(row, None)
        self._roots.pop(row, None)

    def close(self) -> None:
        """Nothing outlasts the run."""


@torch.inference_mode()
def beams(
    speculator: Speculator, hidden: Tensor, roots: Tensor, width: int, depth: int, *, paths: Paths | None = None,
    shown: int = 0,
) -> Levels:  # fmt: skip
    """Beams below `roots`, int64 [B], each of which follows the target's state in `hidden`, [B, hidden]."""
    logits, states = speculator(speculator.begin(hidden.to(speculator.dtype)), roots, 0)
    states, level = states.unsqueeze(1), 0  # [B, P, inner]

    def forward_level(step: Step) -> Tensor:
        nonlocal states, level
        level += 1
        logits, states = speculator(of_paths(states, step.went_on), step.ids, level)
        return logits

    return grow(logits, forward_level, width, depth, paths=paths, shown=shown)
