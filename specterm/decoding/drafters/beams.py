"""Beams of one draft model: at every depth the `width` likeliest paths go on, and all their likely ends are candidates.

The growth is EAGLE-2's (Li et al. 2024, arXiv 2406.16858, section 4.1) with a whole model as drafter: scores are
products of the drafter's probabilities along a path, so every candidate's parent scores at least as high as itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from specterm.decoding.drafters.prefix import DraftPrefix
from specterm.decoding.ports import Block, Runner
from specterm.decoding.tree import Topology


@dataclass(frozen=True, slots=True)
class Level:
    """The candidates at one depth: tokens int64, confidence and score [B, P, width], where P is the number of paths
    that went on (1 at the first level); `chosen` int64 [B, width], which of the P * width candidates go on."""

    tokens: Tensor
    confidence: Tensor
    score: Tensor
    chosen: Tensor


def grow(runner: Runner, prefix: DraftPrefix, rows: Sequence[int], width: int, depth: int, vocab: int) -> list[Level]:
    """Bring the drafter up to date and grow `depth` levels below the roots of `rows`. What it writes is scratch.

    Tokens beyond `vocab`, the target's vocabulary, are never proposed.
    """
    device, cache_rows = runner.device, tuple(rows)
    logits = prefix.advance(rows)[:, None, :vocab]  # [B, P, V]
    # The root is in the cache already: it is node 0 of the scratch tree.
    starts = tuple(length - 1 for length in prefix.lengths(rows))
    path_score = torch.ones((len(rows), 1), device=device)
    parents = torch.empty((len(rows), 0), dtype=torch.int64, device=device)
    levels: list[Level] = []
    for level in range(depth):
        top = torch.softmax(logits.float(), dim=-1).topk(width, dim=-1)  # [B, P, width]
        score = path_score.unsqueeze(2) * top.values
        best = score.flatten(1).topk(width, dim=1)
        levels.append(Level(top.indices, top.values, score, best.indices))
        if level + 1 == depth:
            break
        went_on = best.indices // width  # the path that each one continues
        parent = went_on + (parents.shape[1] - width) if level else torch.full_like(went_on, -1)
        parents = torch.cat([parents, parent], dim=1)
        ids = top.indices.flatten(1).gather(1, best.indices)
        topology = Topology.of_chain(level + 1, device) if width == 1 else Topology.of_parents(parents, level + 1)
        block = Block(cache_rows, starts, ids, topology, first=1 + level * width)
        logits = runner.forward(block)[..., :vocab]
        path_score = best.values
    return levels
