"""Drafts written down as paths of tokens: the shortest way from what a drafter thinks to a tree."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from specterm.decoding.drafters.draft_trie import DraftTrie, to_draft_tree
from specterm.decoding.tree import DraftTree


def tree_of_paths(rows: Sequence[Sequence[Sequence[int]]], device: torch.device) -> DraftTree:
    """The trees, with fixed children, of rows that are each told as paths of token ids from the root down.

    Beginnings that paths of a row share become the same nodes; a row without paths gets an empty tree.
    """
    tries = []
    for paths in rows:
        trie = DraftTrie()
        node_of: dict[tuple[int, ...], int] = {(): -1}
        for path in paths:
            for depth in range(1, len(path) + 1):
                beginning = tuple(path[:depth])
                if beginning not in node_of:
                    node_of[beginning] = len(trie.tokens)
                    trie.tokens.append(beginning[-1])
                    trie.parents.append(node_of[beginning[:-1]])
                    trie.depth = max(trie.depth, depth)
        tries.append(trie)
    return to_draft_tree(tries, device, confidence=False)
