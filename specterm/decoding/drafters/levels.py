"""What is grown level by level: the candidates at one depth, and what is forwarded to find those at the next.

B is the number of rows, P the number of paths that went on (1 at the first level: the root), V the drafter's
vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from specterm.decoding.drafters.draft_trie import Shown
from specterm.decoding.ports import Block
from specterm.decoding.tree import Topology


@dataclass(frozen=True, slots=True)
class RowLevel:
    """The candidates of one row at one depth: tokens, confidence and score [P][ranks], the likeliest first; `chosen`,
    which of the P * ranks candidates go on; `alternatives`, the likeliest tokens after each of the P paths, empty where
    not asked for."""

    tokens: list[list[int]]
    confidence: list[list[float]]
    score: list[list[float]]
    chosen: list[int]
    alternatives: list[Shown]


@dataclass(frozen=True, slots=True)
class Level:
    """Likewise of all rows, on their device: tokens int64, confidence and score [B, P, ranks]; `chosen` int64 [B, Q].
    alternatives: ids int64 and probabilities [B, P, k]; None where not asked for."""

    tokens: Tensor
    confidence: Tensor
    score: Tensor
    chosen: Tensor
    alternatives: tuple[Tensor, Tensor] | None

    def rows(self) -> list[RowLevel]:
        """Each row's; waits for the device."""
        alternatives: list[list[Shown]] = [[] for _ in self.chosen]
        if self.alternatives:
            said = zip(*(part.tolist() for part in self.alternatives), strict=True)
            alternatives = [[list(zip(*path, strict=True)) for path in zip(*row, strict=True)] for row in said]
        fields = [part.tolist() for part in (self.tokens, self.confidence, self.score, self.chosen)]
        return [RowLevel(*row) for row in zip(*fields, alternatives, strict=True)]


@dataclass(frozen=True, slots=True)
class HostLevel:
    """Likewise of all rows, on the host."""

    own: list[RowLevel]

    def rows(self) -> list[RowLevel]:
        """Each row's."""
        return self.own


Levels: TypeAlias = Sequence[Level | HostLevel]
"""What was grown, level by level."""


@dataclass(frozen=True, slots=True)
class Step:
    """The tokens that one forward takes: ids int64 [B, P]; `went_on` int64 [B, P], which path of the level above each
    continues; `topology`, all that went on so far, the root first, of which these are the last P nodes."""

    ids: Tensor
    went_on: Tensor
    topology: Topology

    def block(self, rows: Sequence[int], starts: Sequence[int]) -> Block:
        """As scratch in cache `rows`, where the root stands in slot starts[b] already."""
        first = self.topology.size - self.ids.shape[1]
        return Block(tuple(rows), tuple(starts), self.ids, self.topology, first=first)


ForwardLevel: TypeAlias = Callable[[Step], Tensor]
"""Forwards the tokens of a step; returns the logits after them, [B, P, V]."""
Paths: TypeAlias = Callable[[Sequence[float], Sequence[Sequence[float]]], int]
"""With how many paths to forward another level; see `Budget.paths`."""
