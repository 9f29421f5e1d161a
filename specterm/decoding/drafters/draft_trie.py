"""Growing a draft from an index: the best continuations of a text, merged into a trie; and tries as a `DraftTree`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TypeAlias

import numpy as np
import torch

from specterm.decoding.tree import DraftTree, Topology

Candidates: TypeAlias = Callable[[tuple[int, ...]], Sequence[tuple[int, float]]]
"""What may come after a text, from its last tokens: distinct tokens, each with a weight in (0, 1], best first."""

Shown: TypeAlias = Sequence[tuple[int, float]]
"""What a drafter might have said at one place: its likeliest tokens and their probabilities."""


@dataclass(slots=True)
class DraftTrie:
    """The draft of one row: node i has `tokens[i]` below node `parents[i]` (-1: the root) and was given `weights[i]`
    there. A parent comes before its children, and no two children of a node are the same token. `sources` are bit masks
    of the drafters that proposed each node; empty where there is one drafter only. `alternatives`, by node, are those
    of the nodes that were expanded; empty where not recorded."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    depth: int = 0
    sources: list[int] = field(default_factory=list)
    alternatives: dict[int, Shown] = field(default_factory=dict)

    @property
    def chain(self) -> bool:
        """Whether there is one branch only."""
        return self.parents == list(range(-1, len(self.parents) - 1))


def grow(before: Sequence[int], candidates: Candidates, *, depth: int, width: int, floor: float = 0.0) -> DraftTrie:
    """The trie of the best continuations of `before`: at most `width` branches, none longer than `depth`.

    Nodes are taken by the weight of their path, the product of its weights, of two equal ones the shallower; none below
    `floor`. A path ends where `candidates` has nothing to say.
    """
    trie = DraftTrie()
    leaves = 0
    with_children: set[int] = set()
    # (-weight of the path, depth, serial, parent, token, own weight, text before the token); the serial keeps the order
    # of the candidates.
    open_nodes: list[tuple[float, int, int, int, int, float, tuple[int, ...]]] = []
    serial = 0

    def offer(parent: int, path: float, level: int, text: tuple[int, ...]) -> None:
        nonlocal serial
        for token, weight in candidates(text)[:width]:
            if path * weight >= floor:
                heappush(open_nodes, (-path * weight, level, serial, parent, token, weight, text))
                serial += 1

    if depth > 0:
        offer(-1, 1.0, 1, tuple(before))
    while open_nodes:
        path, level, _, parent, token, weight, text = heappop(open_nodes)
        if parent in with_children or not trie.tokens:  # it lengthens no branch, it begins one
            if leaves == width:
                continue
            leaves += 1
        with_children.add(parent)
        trie.tokens.append(token)
        trie.parents.append(parent)
        trie.weights.append(weight)
        trie.depth = max(trie.depth, level)
        if level < depth:
            offer(len(trie.tokens) - 1, -path, level + 1, (*text, token))
    return trie


def to_draft_tree(tries: Sequence[DraftTrie], device: torch.device, confidence: bool) -> DraftTree:
    """The tries of a batch as one tree with fixed children, padded to the largest; `confidence` keeps the weights."""
    counts = tuple(len(trie.tokens) for trie in tries)
    nodes = max(counts)
    if nodes == 0:
        return DraftTree.empty(len(tries), device)

    def padded(rows: Sequence[Sequence[float]], fill: float, dtype: type[np.generic]) -> torch.Tensor:
        whole = np.array([[*row, *[fill] * (nodes - len(row))] for row in rows], dtype=dtype)
        return torch.from_numpy(whole).to(device)  # sooner there than by torch itself

    if all(trie.chain for trie in tries):
        topology = Topology.of_chain(nodes, device)
    elif len(tries) == 1 and device.type == "cpu":
        topology = Topology.alone(tries[0].parents, tries[0].depth)
    else:
        parents = padded([trie.parents for trie in tries], -1, np.int64)
        topology = Topology.of_parents(parents, max(trie.depth for trie in tries))
    return DraftTree(
        topology,
        padded([trie.tokens for trie in tries], 0, np.int64),
        counts,
        confidence=padded([trie.weights for trie in tries], 0.0, np.float32) if confidence else None,
        sources=padded([trie.sources for trie in tries], 0, np.int64) if any(trie.sources for trie in tries) else None,
        alternatives=_alternatives(tries, nodes, device),
    )


def _alternatives(
    tries: Sequence[DraftTrie], nodes: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """See `DraftTree`; filled with probabilities of 0."""
    width = max((len(shown) for trie in tries for shown in trie.alternatives.values()), default=0)
    if not width:
        return None
    table = [[list(trie.alternatives.get(node, ())) for node in range(-1, nodes)] for trie in tries]
    padded = [[shown + [(0, 0.0)] * (width - len(shown)) for shown in row] for row in table]
    ids = torch.tensor([[[token for token, _ in shown] for shown in row] for row in padded], device=device)
    chances = [[[chance for _, chance in shown] for shown in row] for row in padded]
    return ids, torch.tensor(chances, dtype=torch.float32, device=device)
