"""Medusa: heads on the target's last hidden state predict the tokens after the next one (Cai et al. 2024).

The state at token t gives the target's own token t + 1 and, by head i, candidates for t + 2 + i. Token t + 1 is the
next root, so the state at the last accepted node, which the verifying pass computes anyway, gives head i the candidates
of depth i + 1 below it. Heads do not see one another's choice: a tree is a selection from the cartesian product of
their likeliest tokens, and a path's score is the product of its tokens' probabilities.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from specterm.decoding.drafters.budget import Budget, CalibratedBudget, FixedBudget
from specterm.decoding.drafters.draft_trie import DraftTrie, to_draft_tree
from specterm.decoding.drafters.setup import DraftSetup
from specterm.decoding.ports import FINAL_NORM, Feedback, Needs, ProposeRow
from specterm.decoding.tree import DraftTree

Path: TypeAlias = tuple[int, ...]
"""A node of the tree: for every level from the root down, the rank of the token among its head's likeliest."""

_RANKS = 10  # of each head, as in the published trees
_MOST_NODES = 64
_STATIC_NODES = 24
_PROBES = 3


class Heads(Protocol):
    """What is needed of the heads; `token_ids` are the target's ids of a truncated vocabulary of W tokens, or None."""

    token_ids: Tensor | None

    @property
    def heads(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def dtype(self) -> torch.dtype: ...
    def __call__(self, states: Tensor) -> Tensor: ...  # [N, hidden] -> logits [heads, N, W]


def likeliest_paths(chances: Sequence[Sequence[float]], count: int) -> list[tuple[Path, float]]:
    """The `count` paths with the highest products of chances, and these; every path comes after its parent.

    chances: for each level, the chance of every rank, not rising and at most 1.
    """
    paths: list[tuple[Path, float]] = []
    open_paths: list[tuple[float, int, Path]] = []

    def offer(before: float, path: Path) -> None:
        level, rank = len(path) - 1, path[-1]
        if level < len(chances) and rank < len(chances[level]):
            heappush(open_paths, (-before * chances[level][rank], len(path), path))

    offer(1.0, (0,))
    before: dict[Path, float] = {(): 1.0}  # the product of the levels above, by path
    while open_paths and len(paths) < count:
        negative, _, path = heappop(open_paths)
        before[path] = -negative
        paths.append((path, -negative))
        offer(before[path[:-1]], (*path[:-1], path[-1] + 1))
        offer(-negative, (*path, 0))
    return paths


def static_paths(heads: int, count: int) -> list[Path]:
    """A tree that is the same in every round: the `count` likeliest paths by how often a token of each rank is right.

    The chances are assumed, not measured: the first is right at rank 0 in half of all cases, each further one a
    quarter less often, and every further rank 0.4 times as often as the one before it.
    """
    assumed = [[0.5 * 0.75**head * 0.4**rank for rank in range(_RANKS)] for head in range(heads)]
    return [path for path, _ in likeliest_paths(assumed, count)]


class Medusa:
    """Trees from the heads of the target."""

    needs = Needs(taps=(FINAL_NORM,))

    def __init__(
        self, heads: Heads, device: torch.device, budget: Budget, static: Sequence[Path], record: bool
    ) -> None:
        """static: the tree of every round, parents first; empty for one that is chosen anew each round."""
        self.max_nodes = budget.most
        self._heads, self._device = heads, device
        self._budget, self._static, self._record = budget, tuple(static), record
        self._states: dict[int, Tensor] = {}  # row -> [hidden], the state before the root
        self._promised: dict[int, float] = {}  # row -> the sum of the scores of its verified nodes

    @classmethod
    def build(cls, setup: DraftSetup) -> Medusa:
        """See `DRAFTERS`."""
        heads: Heads = setup.heads["medusa"]
        device, nodes = setup.target.device, setup.parameters["tree_nodes"]
        record = setup.record.probs or setup.record.alternatives > 0
        every = sum(_RANKS**level for level in range(1, heads.heads + 1))
        if setup.parameters["medusa_tree"] == "static":
            count = min(_STATIC_NODES if nodes is None else int(nodes), every)
            return cls(heads, device, FixedBudget(count), static_paths(heads.heads, count), record)
        if nodes is not None or setup.costs is None:
            return cls(heads, device, FixedBudget(min(int(nodes or _STATIC_NODES), every)), (), record)
        budget = CalibratedBudget(setup.costs, _forward_s(heads, device), min(_MOST_NODES, every))
        return cls(heads, device, budget, (), record)

    def open(self, rows: int, capacity: int) -> None:
        """Nothing to prepare: heads have no cache."""
        self._states.clear()

    def admit(self, row: int, prompt_ids: Tensor, first: int, taps: Tensor | None) -> None:
        """The state at the last prompt token is the one before the first root."""
        assert taps is not None, "taps are needed"
        self._states[row] = taps[-1]

    def propose(self, rows: Sequence[ProposeRow]) -> DraftTree:
        """One product for all rows and heads, then the likeliest paths of each row."""
        states = torch.stack([self._states[row.row] for row in rows])
        ids, chances = likeliest_tokens(self._heads, states)
        host_ids, host_chances = ids.tolist(), chances.tolist()
        chosen = [self._paths(own[: row.limit]) for own, row in zip(host_chances, rows, strict=True)]
        keep = self._budget.choose([[score for _, score in own] for own in chosen]) if any(chosen) else 0
        self._promised = {row.row: sum(score for _, score in own[:keep]) for row, own in zip(rows, chosen, strict=True)}
        tries = [_trie(*part, keep) for part in zip(chosen, host_ids, host_chances, strict=True)]
        return to_draft_tree(tries, self._device, self._record)

    def catch_up(self, feedback: Sequence[Feedback]) -> None:
        """Keep the state at the last accepted node: the next root follows it."""
        for told in feedback:
            assert told.taps is not None, "taps are needed"
            self._budget.learn(self._promised[told.row], told.accepted)
            self._states[told.row] = told.taps[told.accepted]

    def release(self, row: int) -> None:
        """Forget the row."""
        self._states.pop(row, None)

    def close(self) -> None:
        """Nothing outlasts the run."""

    def _paths(self, chances: Sequence[Sequence[float]]) -> list[tuple[Path, float]]:
        """Paths and scores, parents first; `chances` go as deep as the tree may be."""
        if not self._static:
            return likeliest_paths(chances, self.max_nodes)
        found = []
        for path in self._static:
            if len(path) <= len(chances) and max(path) < len(chances[0]):
                score = 1.0
                for level, rank in enumerate(path):
                    score *= chances[level][rank]
                found.append((path, score))
        return found


@torch.inference_mode()
def likeliest_tokens(heads: Heads, states: Tensor) -> tuple[Tensor, Tensor]:
    """From states [B, hidden] the ids and probabilities [B, heads, ranks] of each head's likeliest tokens."""
    chances = heads(states.to(heads.dtype)).float().softmax(dim=-1)  # [heads, B, W]
    top = chances.topk(min(_RANKS, chances.shape[-1]), dim=-1)
    ids = top.indices if heads.token_ids is None else heads.token_ids[top.indices]
    return ids.transpose(0, 1), top.values.transpose(0, 1)


def _trie(
    chosen: Sequence[tuple[Path, float]], ids: Sequence[Sequence[int]], chances: Sequence[Sequence[float]], keep: int
) -> DraftTrie:
    trie = DraftTrie()
    place: dict[Path, int] = {(): -1}
    for path, _ in chosen[:keep]:
        level, rank = len(path) - 1, path[-1]
        place[path] = len(trie.tokens)
        trie.tokens.append(ids[level][rank])
        trie.parents.append(place[path[:-1]])
        trie.weights.append(chances[level][rank])
        trie.depth = max(trie.depth, len(path))
    return trie


def _forward_s(heads: Heads, device: torch.device) -> float:
    """Median seconds of the heads' part in a round of one row, their result read back."""
    states = torch.zeros((1, heads.hidden_size), device=device)
    seconds = []
    for _ in range(1 + _PROBES):  # the first pass of a shape is not like the others
        began = time.perf_counter()
        likeliest_tokens(heads, states)[1].tolist()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])
