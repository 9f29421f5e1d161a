"""Trees told by ranks: a node is the path of ranks from the root down to it, each among the likeliest tokens there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import islice
from typing import TypeAlias

from specterm.decoding.drafters.draft_trie import DraftTrie

Path: TypeAlias = tuple[int, ...]
"""A node of the tree: for every level from the root down, the rank of the token among the likeliest of its parent."""


def likeliest_paths(chances: Sequence[Sequence[float]]) -> Iterator[tuple[Path, float]]:
    """All paths by falling product of their chances, with it; every path comes after its parent. Each is found when it
    is asked for.

    chances: for each level, the chance of every rank, not rising and at most 1.
    """
    ranks, levels = [len(level) for level in chances], len(chances)
    # -product, length, path, product of the levels above
    open_paths: list[tuple[float, int, Path, float]] = []
    if levels and ranks[0]:
        open_paths.append((-chances[0][0], 1, (0,), 1.0))
    while open_paths:
        negative, level, path, above = heappop(open_paths)
        yield path, -negative
        if (rank := path[-1] + 1) < ranks[level - 1]:
            heappush(open_paths, (-above * chances[level - 1][rank], level, (*path[:-1], rank), above))
        if level < levels and ranks[level]:
            heappush(open_paths, (negative * chances[level][0], level + 1, (*path, 0), -negative))


class FoundPaths:
    """Paths with scores, falling, that are found as far as somebody asked for them."""

    def __init__(self, paths: Iterable[tuple[Path, float]]) -> None:
        self._further = iter(paths)
        self._found: list[tuple[Path, float]] = []

    def scores(self) -> Iterator[float]:
        """The scores, from the first; to be asked for once."""
        for found in self._further:
            self._found.append(found)
            yield found[1]

    def first(self, count: int) -> list[tuple[Path, float]]:
        """The first `count` of them, or all."""
        self._found.extend(islice(self._further, max(0, count - len(self._found))))
        return self._found[:count]


def static_paths(depth: int, ranks: int, count: int, *, fading: float) -> list[Path]:
    """A tree that is the same in every round: the `count` likeliest paths by how often a token of each rank is right.

    The chances are assumed, not measured: the first is right at rank 0 in half of all cases, at each further level
    `fading` times as often, and every further rank 0.4 times as often as the one before it.
    """
    assumed = [[0.5 * fading**level * 0.4**rank for rank in range(ranks)] for level in range(depth)]
    return [path for path, _ in islice(likeliest_paths(assumed), count)]


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
