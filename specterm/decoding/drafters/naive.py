"""No drafting: every tree is empty, so every round is one forward pass of the target for one token."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from specterm.decoding.drafters.setup import DraftSetup
from specterm.decoding.ports import Admission, Feedback, Needs, ProposeRow
from specterm.decoding.stride_ports import Drafting, Step
from specterm.decoding.tree import DraftTree


class Naive:
    """Proposes nothing."""

    max_nodes = max_depth = 0
    needs = Needs()

    def __init__(self, device: torch.device) -> None:
        self._device = device

    @classmethod
    def build(cls, setup: DraftSetup) -> Naive:
        """See `DRAFTERS`."""
        return cls(setup.target.device)

    def open(self, rows: int, capacity: int) -> None:
        """Nothing to prepare."""

    def admit(self, admission: Admission) -> None:
        """Nothing to remember."""

    def propose(self, rows: Sequence[ProposeRow]) -> DraftTree:
        """An empty tree for each row."""
        return DraftTree.empty(len(rows), self._device)

    def catch_up(self, feedback: Sequence[Feedback]) -> None:
        """Nothing to learn."""

    def drafting(self, row: int, limit: int) -> Drafting:
        """See `Strider`."""
        return Drafting()

    def strode(self, row: int, step: Step) -> None:
        """Nothing to remember."""

    def release(self, row: int) -> None:
        """Nothing to forget."""

    def close(self) -> None:
        """Nothing to put away."""
