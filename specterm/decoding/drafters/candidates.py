"""Candidates of several drafters merged into one tree for each row, and the nodes that are worth verifying."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specterm.decoding.drafters.budget import Budget
from specterm.decoding.drafters.draft_trie import DraftTrie, Shown


@dataclass(slots=True)
class Node:
    """A candidate: its token, its parent in `Candidates.nodes` (-1: the root), its depth from 1, the highest chance
    that a drafter gives it after its parent, the highest that one gives its whole path, and who proposed it (bits)."""

    token: int
    parent: int
    depth: int
    confidence: float
    score: float
    sources: int


class Candidates:
    """The candidates of one row."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.alternatives: dict[
            int, Shown
        ] = {}  # by node, -1 is the root: what the first drafter there might have said
        self._children: dict[tuple[int, int], int] = {}

    def add(self, parent: int, token: int, confidence: float, score: float, source: int) -> int:
        """Add a candidate below node `parent`, or strengthen the one that is there; returns its index."""
        index = self._children.get((parent, token))
        if index is None:
            index = self._children[parent, token] = len(self.nodes)
            depth = self.nodes[parent].depth + 1 if parent >= 0 else 1
            self.nodes.append(Node(token, parent, depth, confidence, score, 1 << source))
            return index
        node = self.nodes[index]
        node.confidence, node.score = max(node.confidence, confidence), max(node.score, score)
        node.sources |= 1 << source
        return index

    def ranked(self) -> list[int]:
        """Nodes by falling score; every node comes after its parent, so each beginning of the list is a tree."""
        return sorted(range(len(self.nodes)), key=lambda i: (-self.nodes[i].score, self.nodes[i].depth, i))

    def pruned(self, keep: Sequence[int]) -> DraftTrie:
        """The nodes of `keep`, parents first."""
        place = {-1: -1}
        kept = DraftTrie()
        for index in keep:
            node = self.nodes[index]
            place[index] = len(kept.tokens)
            kept.tokens.append(node.token)
            kept.parents.append(place[node.parent])
            kept.weights.append(node.confidence)
            kept.sources.append(node.sources)
            kept.depth = max(kept.depth, node.depth)
        kept.alternatives = {place[node]: shown for node, shown in self.alternatives.items() if node in place}
        return kept


def worth_verifying(merged: Sequence[Candidates], budget: Budget) -> list[tuple[DraftTrie, float]]:
    """The nodes of each row that `budget` has verified, and the sum of their scores: the tokens they promise."""
    ranked = [candidates.ranked() for candidates in merged]
    scores = [[c.nodes[i].score for i in order] for c, order in zip(merged, ranked, strict=True)]
    keep = budget.choose(scores) if any(ranked) else 0
    return [(c.pruned(order[:keep]), sum(own[:keep])) for c, order, own in zip(merged, ranked, scores, strict=True)]
