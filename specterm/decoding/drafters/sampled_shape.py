"""The shape of a sampled tree, settled before anything is drawn: how many children each node has, by ranks alone.

A child that was drawn later is kept less often than the first, so the first ones get the deeper subtrees (Chen et al.
2024, Sequoia, arXiv 2402.12374). The chances are assumed and the same in every round: what a row is given must depend
neither on the rows beside it nor on the clock. Nodes are ordered by depth, then by drafter, then by path; each drafter
extends its own nodes only. So a tree of less depth is a beginning of the whole one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from specterm.decoding.drafters.rank_paths import Path, likeliest_paths
from specterm.decoding.tree import Topology

# How often the first child drawn is kept, the second one, and each further one against the one before it: about as with
# the built-in pair at temperatures 0.7 and 1.
_FIRST, _SECOND, _FADING = 0.65, 0.12, 0.45


@dataclass(frozen=True, slots=True)
class Draws:
    """What one drafter draws at one depth.

    laws: the first and the number P of its laws there, one after each node that has children. ranks: for the first
    children, the second ones and so on, int64 [n] which of the P laws each is drawn from and int64 [n] which nodes
    these are. inner: int64 [Q], the nodes that have children themselves; forwarded, they are the last nodes of
    `scratch`, the drafter's own inner nodes so far, the root first.
    """

    laws: tuple[int, int]
    ranks: tuple[tuple[Tensor, Tensor], ...]
    inner: Tensor
    scratch: Topology


@dataclass(frozen=True, slots=True)
class SampledShape:
    """A tree of N nodes from several drafters.

    parents (-1: the root), depths and drafters run parallel to the nodes. law_of: the law that each node is drawn from;
    law_after: the law of the children of the root (the first drafter's) and of each node, -1 for a leaf. Laws are
    numbered by drafter, then by depth. draws: of each drafter, for each depth.
    """

    parents: tuple[int, ...]
    depths: tuple[int, ...]
    drafters: tuple[int, ...]
    law_of: tuple[int, ...]
    law_after: tuple[int, ...]
    laws: int
    most_children: int
    draws: tuple[tuple[Draws, ...], ...]

    @property
    def nodes(self) -> int:
        """N."""
        return len(self.parents)

    def cut(self, limits: Sequence[int]) -> tuple[int, ...]:
        """The nodes that remain where each drafter's part may be no deeper than its limit."""
        return tuple(i for i in range(self.nodes) if self.depths[i] <= limits[self.drafters[i]])


def sampled_shape(drafters: int, width: int, depth: int, nodes: int, device: torch.device) -> SampledShape:
    """`nodes` nodes shared among the drafters, none with more than `width` children of one drafter or below `depth`."""
    chances = [[_FIRST, *(_SECOND * _FADING**rank for rank in range(width - 1))]] * depth
    shares = [nodes // drafters + (drafter < nodes % drafters) for drafter in range(drafters)]
    own_paths = [
        sorted((path for path, _ in islice(likeliest_paths(chances), share)), key=_by_depth) for share in shares
    ]
    placed = sorted(
        ((drafter, path) for drafter, paths in enumerate(own_paths) for path in paths),
        key=lambda node: (len(node[1]), node),
    )
    place = {node: i for i, node in enumerate(placed)}
    law: dict[tuple[int, Path], int] = {}
    for drafter, paths in enumerate(own_paths):
        for parent in dict.fromkeys(path[:-1] for path in paths):
            law[drafter, parent] = len(law)
    parents = tuple(place.get((drafter, path[:-1]), -1) for drafter, path in placed)
    return SampledShape(
        parents=parents,
        depths=tuple(len(path) for _, path in placed),
        drafters=tuple(drafter for drafter, _ in placed),
        law_of=tuple(law[drafter, path[:-1]] for drafter, path in placed),
        law_after=(0, *(law.get(node, -1) for node in placed)),
        laws=len(law),
        most_children=max(parents.count(parent) for parent in set(parents)),
        draws=tuple(_draws(drafter, paths, place, law, device) for drafter, paths in enumerate(own_paths)),
    )


def _by_depth(path: Path) -> tuple[int, Path]:
    return len(path), path


def _draws(
    drafter: int,
    paths: Sequence[Path],
    place: dict[tuple[int, Path], int],
    law: dict[tuple[int, Path], int],
    device: torch.device,
) -> tuple[Draws, ...]:
    def index(values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=device)

    inner = [path for path in paths if (drafter, path) in law]
    levels = []
    for depth in range(1, 1 + max((len(path) for path in paths), default=0)):
        here = [path for path in paths if len(path) == depth]
        expanded = list(dict.fromkeys(path[:-1] for path in here))
        ranks = []
        for rank in range(1 + max(path[-1] for path in here)):
            drawn = [path for path in here if path[-1] == rank]
            nodes = index([place[drafter, path] for path in drawn])
            ranks.append((index([expanded.index(path[:-1]) for path in drawn]), nodes))
        so_far = [path for path in inner if len(path) <= depth]
        above = [so_far.index(path[:-1]) if len(path) > 1 else -1 for path in so_far]
        chain = above == list(range(-1, len(above) - 1))
        levels.append(
            Draws(
                laws=(law[drafter, expanded[0]], len(expanded)),
                ranks=tuple(ranks),
                inner=index([place[drafter, path] for path in so_far if len(path) == depth]),
                scratch=Topology.of_chain(len(above), device)
                if chain
                else Topology.of_parents(index(above).unsqueeze(0), depth),
            )
        )
    return tuple(levels)
