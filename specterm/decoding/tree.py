"""Draft trees: what every drafter proposes and every rule judges.

Node 0 is the root, the row's last emitted token; draft node i (0-based in `DraftTree.tokens`) is node i + 1 here. A
parent always comes before its children, so that nodes can be written to the KV cache in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Children: TypeAlias = Literal["fixed", "sampled", "without replacement"]


@dataclass(frozen=True, slots=True)
class Topology:
    """The shape of the trees of a batch, root included; T = nodes + 1. R is 1 (shared by all rows) or B.

    parents: int64 [R, T], the root its own; depth: int64 [R, T]; visible: bool [R, T, T], whether node i sees node j
    (its ancestors and itself), None for a chain, where it is causality. `max_depth` is known on the host.
    """

    parents: Tensor
    depth: Tensor
    visible: Tensor | None
    max_depth: int

    @property
    def chain(self) -> bool:
        """Whether there is one branch only."""
        return self.visible is None

    @property
    def size(self) -> int:
        """Nodes, root included."""
        return self.parents.shape[1]

    @staticmethod
    def of_chain(nodes: int, device: torch.device) -> Topology:
        """A chain of `nodes` draft tokens below the root (0: the root alone)."""
        return _chain(nodes, device)

    @staticmethod
    def of_parents(parents: Tensor, max_depth: int) -> Topology:
        """From the parents of draft nodes: int64 [R, N], -1 for the root, each smaller than its own index."""
        if parents.device.type == "cpu" and len(parents) == 1:
            return Topology.alone(parents[0].tolist(), max_depth)
        if parents.device.type == "cpu":
            whole = np.zeros((len(parents), parents.shape[1] + 1), dtype=np.int64)
            np.add(parents.numpy(), 1, out=whole[:, 1:])
            return _of_parents_on_host(torch.from_numpy(whole), max_depth)
        return _of_parents_on_device(F.pad(parents + 1, (1, 0)), max_depth)

    @staticmethod
    def alone(parents: Sequence[int], max_depth: int) -> Topology:
        """Likewise of one tree, on the host."""
        return _tree((0, *[parent + 1 for parent in parents]), max_depth)

    def with_level(self, parents: Tensor) -> Topology:
        """With nodes more, all of them at the depth below the deepest: parents int64 [R, P], the node (0: the root)
        that each is below."""
        if self.chain and parents.shape[1] == 1:
            return _chain(self.size, parents.device)
        if parents.device.type == "cpu" and len(parents) == 1 == len(self.parents):
            return _tree((*self.parents[0].tolist(), *parents[0].tolist()), self.max_depth + 1)
        if parents.device.type == "cpu":
            return _with_level_on_host(self, parents)
        return _with_level_on_device(self, torch.cat((self.parents.expand(len(parents), -1), parents), dim=1))


def _of_parents_on_device(parents: Tensor, max_depth: int) -> Topology:
    """parents: see `Topology`."""
    rows, size = parents.shape
    visible = torch.eye(size, dtype=torch.bool, device=parents.device).expand(rows, size, size).clone()
    ancestor = parents
    for _ in range(max_depth):
        visible.scatter_(2, ancestor.unsqueeze(-1), True)
        ancestor = parents.gather(1, ancestor)
    depth = visible.sum(dim=2) - 1
    return Topology(parents, depth, visible, max_depth)


def _with_level_on_device(before: Topology, parents: Tensor) -> Topology:
    """parents: those of the tree as it was and of the new level; see `Topology`."""
    size, (rows, whole), device = before.size, parents.shape, parents.device
    seen = before.visible
    if seen is None:
        seen = torch.ones((size, size), dtype=torch.bool, device=device).tril_().expand(rows, -1, -1)
    visible = torch.zeros((rows, whole, whole), dtype=torch.bool, device=device)
    visible[:, :size, :size] = seen
    visible[:, size:, :size] = seen.gather(1, parents[:, size:].unsqueeze(2).expand(-1, -1, size))
    visible[:, size:, size:].diagonal(dim1=1, dim2=2).fill_(True)
    level = torch.full((rows, whole - size), before.max_depth + 1, device=device)
    depth = torch.cat((before.depth.expand(rows, -1), level), dim=1)
    return Topology(parents, depth, visible, before.max_depth + 1)


def _of_parents_on_host(parents: Tensor, max_depth: int) -> Topology:
    """Node by node, which on a CPU is quicker than a dozen operations on a few numbers; parents: see `Topology`."""
    rows, size = parents.shape
    visible, depth = bytearray(), []
    for own in parents.tolist():
        seen, depths = [bytearray(size)], [0]
        seen[0][0] = 1
        for node, parent in enumerate(own[1:], start=1):
            path = seen[parent].copy()
            path[node] = 1
            seen.append(path)
            depths.append(depths[parent] + 1)
        visible += b"".join(seen)
        depth.append(depths)
    return Topology(
        parents,
        torch.from_numpy(np.array(depth, dtype=np.int64)),
        torch.frombuffer(visible, dtype=torch.bool).view(rows, size, size),
        max_depth,
    )


@lru_cache(maxsize=4096)
def _tree(parents: tuple[int, ...], max_depth: int) -> Topology:
    """One on the host, the root included; many rounds draft trees of the same shape."""
    return _of_parents_on_host(torch.tensor([parents]), max_depth)


def _with_level_on_host(before: Topology, level: Tensor) -> Topology:
    """level: the parents of the new nodes, [R, P]."""
    size, rows, whole = before.size, len(level), before.size + level.shape[1]
    parents, depth = np.empty((rows, whole), dtype=np.int64), np.empty((rows, whole), dtype=np.int64)
    parents[:, :size], parents[:, size:] = before.parents.numpy(), level.numpy()
    depth[:, :size], depth[:, size:] = before.depth.numpy(), before.max_depth + 1
    visible = np.zeros((rows, whole, whole), dtype=np.bool_)
    visible[:, :size, :size] = np.tri(size, dtype=np.bool_) if before.visible is None else before.visible.numpy()
    for seen, own in zip(visible, level.tolist(), strict=True):
        for node, parent in enumerate(own, start=size):
            seen[node] = seen[parent]
            seen[node, node] = True
    return Topology(torch.from_numpy(parents), torch.from_numpy(depth), torch.from_numpy(visible), before.max_depth + 1)


@lru_cache(maxsize=64)
def _chain(nodes: int, device: torch.device) -> Topology:
    # Made on the host: a copy waits for the device, so that every CUDA stream may use what is kept here.
    depth = torch.arange(nodes + 1).unsqueeze(0)
    return Topology((depth - 1).clamp(min=0).to(device), depth.to(device), None, nodes)


@dataclass(frozen=True, slots=True)
class DraftTree:
    """The draft tokens of a batch of B rows with at most N nodes each.

    tokens: int64 [B, N], padded with 0. counts: nodes of each row, on the host; a row's nodes come first.
    children: "fixed" (given the prefix: greedy chains, tries, heads), "sampled" (chains: node i drawn from q[:, i]) or
    "without replacement" (trees whose shape was settled before anything was drawn). q: the laws that the nodes were
    drawn from, only where they were drawn; [B, N, V] of a sampled chain. Without replacement it is [B, L, V], not
    necessarily normalised, and law_of, int64 [R, N] with R 1 or B, tells the law of each node: siblings of one law
    stand together and were drawn from it in their order, each from what those before it had left. So one full law is
    kept of each expanded node and drafter, not one of each child. most_children: the most that a node has, on the host.
    confidence: [B, N], the drafter's own probability of a fixed node; sources: int64 [B, N], bit masks of drafters
    (None: all from drafter 0). alternatives: ids int64 and probabilities [B, M, k] of the drafter's likeliest tokens
    after nodes 0 to M - 1 (0 is the root); a node whose probabilities are all 0 was not expanded and has none. None
    where not recorded.
    """

    topology: Topology
    tokens: Tensor
    counts: tuple[int, ...]
    children: Children = "fixed"
    q: Tensor | None = None
    law_of: Tensor | None = None
    most_children: int = 1
    confidence: Tensor | None = None
    sources: Tensor | None = None
    alternatives: tuple[Tensor, Tensor] | None = None

    @property
    def nodes(self) -> int:
        """N, the width of `tokens`."""
        return self.tokens.shape[1]

    def valid(self) -> Tensor:
        """Which entries of `tokens` are nodes and not padding: bool [B, N]."""
        index = torch.arange(self.nodes, device=self.tokens.device)
        if min(self.counts) == self.nodes:
            return (index >= 0).expand(len(self.counts), self.nodes)
        return index < torch.tensor(self.counts, device=self.tokens.device).unsqueeze(-1)

    def where_drafted(self, true: Tensor) -> Tensor:
        """`true` (bool [B, N]) where there are nodes, False where there is padding."""
        return true if min(self.counts) == self.nodes else true & self.valid()

    @staticmethod
    @lru_cache(maxsize=64)
    def empty(rows: int, device: torch.device) -> DraftTree:
        """No draft at all: naive decoding."""
        tokens = torch.empty((rows, 0), dtype=torch.int64, device=device)
        return DraftTree(Topology.of_chain(0, device), tokens, (0,) * rows)
