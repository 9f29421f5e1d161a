"""No drafting: every tree is empty, so every round is one forward pass of the target for one token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from specterm.decoding.ports import Feedback, Needs, ProposeRow, Recording, Runner
from specterm.decoding.sampling import Warps
from specterm.decoding.tree import DraftTree


class Naive:
    """Proposes nothing."""

    max_nodes = 0
    needs = Needs()

    def __init__(self, device: torch.device) -> None:
        self._device = device

    @classmethod
    def build(
        cls, target: Runner, drafts: Sequence[Runner], warps: Warps, record: Recording, parameters: Mapping[str, Any]
    ) -> Naive:
        """See `DRAFTERS`."""
        return cls(target.device)

    def open(self, rows: int, capacity: int) -> None:
        """Nothing to prepare."""

    def admit(self, row: int, prompt_ids: Tensor, first: int) -> None:
        """Nothing to remember."""

    def propose(self, rows: Sequence[ProposeRow]) -> DraftTree:
        """An empty tree for each row."""
        return DraftTree.empty(len(rows), self._device)

    def catch_up(self, feedback: Sequence[Feedback]) -> None:
        """Nothing to learn."""

    def release(self, row: int) -> None:
        """Nothing to forget."""
