"""Trees told by ranks: a node is the path of ranks from the root down to it, each among the likeliest tokens there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import TypeAlias

from specterm.decoding.drafters.draft_trie import DraftTrie

Path: TypeAlias = tuple[int, ...]
"""A node of the tree: for every level from the root down, the rank of the token among the likeliest of its parent."""


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


def static_paths(depth: int, ranks: int, count: int, *, fading: float) -> list[Path]:
    """A tree that is the same in every round: the `count` likeliest paths by how often a token of each rank is right.

    The chances are assumed, not measured: the first is right at rank 0 in half of all cases, at each further level
    `fading` times as often, and every further rank 0.4 times as often as the one before it.
    """
    assumed = [[0.5 * fading**level * 0.4**rank for rank in range(ranks)] for level in range(depth)]
    return [path for path, _ in likeliest_paths(assumed, count)]


def inner_paths(paths: Sequence[Path], depth: int) -> list[list[Path]]:
    """The nodes of `paths` that have children, the root among them, by their own depth: of depths 0 to `depth` - 1."""
    return [list(dict.fromkeys(path[:level] for path in paths if len(path) > level)) for level in range(depth)]


def trie_of(paths: Sequence[Path], candidate: Callable[[Path], tuple[int, float]]) -> DraftTrie:
    """The trie of `paths`, parents first; `candidate` tells the token of a path and its own chance."""
    trie = DraftTrie()
    place: dict[Path, int] = {(): -1}
    for path in paths:
        token, chance = candidate(path)
        place[path] = len(trie.tokens)
        trie.tokens.append(token)
        trie.parents.append(place[path[:-1]])
        trie.weights.append(chance)
        trie.depth = max(trie.depth, len(path))
    return trie
