"""Growing candidates level by level: what follows the root, then what follows the paths that go on, and so on.

Two ways to choose who goes on. `grow`: at every depth the `width` likeliest paths, and all their likely ends are
candidates (EAGLE-2's growth; Li et al. 2024, arXiv 2406.16858, section 4.1). `grow_ranks`: always the same ranks, as in
the static trees of Medusa and EAGLE-1. Scores are products of the drafter's probabilities along a path, so every
candidate's parent scores at least as high as itself. What drafts is up to the caller, who forwards a level.

B is the number of rows, P the number of paths that went on (1 at the first level: the root), V the drafter's
vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from specterm.decoding.drafters.candidates import Candidates
from specterm.decoding.drafters.draft_trie import DraftTrie, Shown
from specterm.decoding.drafters.rank_paths import Path, inner_paths, trie_of
from specterm.decoding.ports import Block, LanguageModel
from specterm.decoding.tree import Topology


@dataclass(frozen=True, slots=True)
class Level:
    """The candidates at one depth: tokens int64, confidence and score [B, P, ranks], the likeliest first; `chosen`
    int64 [B, Q], which of the P * ranks candidates go on. alternatives: ids int64 and probabilities [B, P, k] of the
    likeliest tokens after the P paths; None where not asked for."""

    tokens: Tensor
    confidence: Tensor
    score: Tensor
    chosen: Tensor
    alternatives: tuple[Tensor, Tensor] | None


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


def grow(
    logits: Tensor,
    forward_level: ForwardLevel,
    width: int,
    depth: int,
    *,
    paths: Paths | None = None,
    token_ids: Tensor | None = None,
    shown: int = 0,
) -> list[Level]:
    """Grow up to `depth` levels of up to `width` paths from the logits after the root, [B, V].

    paths: None for all, always; asked on a CPU only, as elsewhere the host would wait for every level. token_ids: int64
    [V], the target's ids of the drafter's tokens; None where they are the same. shown: how many alternatives to record.
    """
    width = min(width, logits.shape[-1])

    def choose(_: int, score: Tensor) -> Tensor:
        if score.shape[1] == 1:  # falling as they are
            return torch.arange(width, device=score.device).expand(len(score), -1)
        return score.flatten(1).topk(width, dim=1).indices

    return _grow(
        logits, forward_level, width, depth, choose,
        paths if logits.device.type == "cpu" else None, token_ids, shown,
    )  # fmt: skip


def grow_ranks(
    logits: Tensor,
    forward_level: ForwardLevel,
    paths: Sequence[Path],
    depth: int,
    *,
    token_ids: Tensor | None = None,
    shown: int = 0,
) -> list[Level]:
    """Grow the tree of `paths`, parents first, no deeper than `depth`: those that have children go on, in the order of
    `paths`. The rest as in `grow`; every rank is below V."""
    ranks, depth = 1 + max(path[-1] for path in paths), min(depth, max(map(len, paths)))
    inner = inner_paths(paths, depth)

    def choose(level: int, score: Tensor) -> Tensor:
        below = inner[level + 1] if level + 1 < depth else []
        chosen = [inner[level].index(path[:-1]) * ranks + path[-1] for path in below]
        return torch.tensor([chosen], dtype=torch.int64, device=score.device).expand(len(score), -1)

    return _grow(logits, forward_level, ranks, depth, choose, None, token_ids, shown)


def _grow(
    logits: Tensor,
    forward_level: ForwardLevel,
    ranks: int,
    depth: int,
    choose: Callable[[int, Tensor], Tensor],
    paths: Paths | None,
    token_ids: Tensor | None,
    shown: int,
) -> list[Level]:
    rows, device = len(logits), logits.device
    logits = logits.unsqueeze(1)  # [B, P, V]
    path_score = torch.ones((rows, 1), device=device)
    topology, above = Topology.of_chain(0, device), 0  # what went on, and the first node of the level above
    levels: list[Level] = []
    reached = [1.0] * rows  # the summed scores of the paths that went on, where `paths` is asked
    for level in range(depth):
        top = torch.softmax(logits.float(), dim=-1).topk(min(max(ranks, shown), logits.shape[-1]), dim=-1)
        tokens = top.indices if token_ids is None else token_ids[top.indices]
        alternatives = (tokens[..., :shown], top.values[..., :shown]) if shown else None
        tokens, confidence = tokens[..., :ranks], top.values[..., :ranks]
        score = path_score.unsqueeze(2) * confidence  # [B, P, ranks]
        chosen = choose(level, score)
        last = level + 1 == depth
        path_score = score.flatten(1).gather(1, chosen)
        if paths is not None and not last:
            likeliest = path_score.tolist()
            count = paths(reached, likeliest)
            last, reached = not count, [sum(own[:count]) for own in likeliest]
            if 0 < count < chosen.shape[1]:
                chosen, path_score = chosen[:, :count], path_score[:, :count]
        levels.append(Level(tokens, confidence, score, chosen, alternatives))
        if last:
            break
        went_on = chosen // ranks
        topology, above = topology.with_level(went_on + above), topology.size
        logits = forward_level(Step(tokens.flatten(1).gather(1, chosen), went_on, topology))
    return levels


def scratch_forward(model: LanguageModel, rows: Sequence[int], starts: Sequence[int], vocab: int) -> ForwardLevel:
    """Forwards levels through a draft model: behind its true prefix, where the root stands in slot starts[b].

    Tokens beyond `vocab`, the target's vocabulary, are cut off, so they are never proposed.
    """
    return lambda step: model.forward(step.block(rows, starts))[..., :vocab]


def add_levels(
    merged: Sequence[Candidates], levels: Sequence[Level], depths: Sequence[int], source: int = 0
) -> list[list[int]]:
    """Add what was grown to the candidates of each row, down to the row's own depth; `source` numbers the drafter.

    Returns the tokens of each row's likeliest path, of those that went on.
    """
    likeliest: list[list[int]] = []
    for candidates, depth, own_levels in zip(merged, depths, _by_row(levels), strict=True):
        nodes = [-1]  # of the paths that went on
        likeliest.append([])
        for level in own_levels[:depth]:
            for node, shown in zip(nodes, level.alternatives, strict=False):
                candidates.alternatives.setdefault(node, shown)
            added = [
                candidates.add(node, token, confidence, score, source)
                for node, *ends in zip(nodes, level.tokens, level.confidence, level.score, strict=True)
                for token, confidence, score in zip(*ends, strict=True)
            ]
            nodes = [added[i] for i in level.chosen]
            likeliest[-1].append(candidates.nodes[nodes[0]].token)
    return likeliest


def rank_tries(paths: Sequence[Path], levels: Sequence[Level], depths: Sequence[int]) -> list[DraftTrie]:
    """What `grow_ranks` grew as the trie of each row, no deeper than its own of `depths`."""
    inner = inner_paths(paths, len(levels))
    return [
        _rank_trie([path for path in paths if len(path) <= depth], inner[:depth], own_levels)
        for depth, own_levels in zip(depths, _by_row(levels), strict=True)
    ]


def _rank_trie(paths: Sequence[Path], inner: Sequence[Sequence[Path]], levels: Sequence[_RowLevel]) -> DraftTrie:
    def candidate(path: Path) -> tuple[int, float]:
        level = levels[len(path) - 1]
        parent = inner[len(path) - 1].index(path[:-1])
        return level.tokens[parent][path[-1]], level.confidence[parent][path[-1]]

    trie = trie_of(paths, candidate)
    node_of = {path: node for node, path in enumerate([(), *paths], start=-1)}
    for parents, level in zip(inner, levels, strict=False):
        shown = zip(parents, level.alternatives, strict=False)
        trie.alternatives.update({node_of[path]: own for path, own in shown})
    return trie


@dataclass(frozen=True, slots=True)
class _RowLevel:
    """A level of one row on the host; `alternatives` are empty where not asked for."""

    tokens: list[list[int]]
    confidence: list[list[float]]
    score: list[list[float]]
    chosen: list[int]
    alternatives: list[Shown]


def _by_row(levels: Sequence[Level]) -> list[list[_RowLevel]]:
    """The levels of each row."""
    per_level = []
    for level in levels:
        alternatives: list[list[Shown]] = [[] for _ in level.chosen]
        if level.alternatives:
            said = zip(*(part.tolist() for part in level.alternatives), strict=True)
            alternatives = [[list(zip(*path, strict=True)) for path in zip(*row, strict=True)] for row in said]
        fields = [part.tolist() for part in (level.tokens, level.confidence, level.score, level.chosen)]
        per_level.append([_RowLevel(*row) for row in zip(*fields, alternatives, strict=True)])
    return [list(row) for row in zip(*per_level, strict=True)]
