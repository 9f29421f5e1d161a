"""Growing candidates level by level: what follows the root, then what follows the paths that go on, and so on.

Two ways to choose who goes on. `grow`: at every depth the `width` likeliest paths, and all their likely ends are
candidates (EAGLE-2's growth; Li et al. 2024, arXiv 2406.16858, section 4.1). `grow_ranks`: always the same ranks, as in
the static trees of Medusa and EAGLE-1. Scores are products of the drafter's probabilities along a path, so every
candidate's parent scores at least as high as itself. What drafts is up to the caller, who forwards a level.

B is the number of rows, P the number of paths that went on (1 at the first level: the root), V the drafter's
vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from specterm.decoding.drafters.candidates import Candidates
from specterm.decoding.drafters.draft_trie import DraftTrie
from specterm.decoding.drafters.host_beams import grow_on_host
from specterm.decoding.drafters.levels import ForwardLevel, Level, Levels, Paths, RowLevel, Step
from specterm.decoding.drafters.rank_paths import Path, inner_paths, trie_of
from specterm.decoding.ports import LanguageModel
from specterm.decoding.tree import Topology


def grow(
    logits: Tensor,
    forward_level: ForwardLevel,
    width: int,
    depth: int,
    *,
    paths: Paths | None = None,
    token_ids: Tensor | None = None,
    shown: int = 0,
) -> Levels:
    """Grow up to `depth` levels of up to `width` paths from the logits after the root, [B, V].

    paths: None for all, always; asked on a CPU only, as elsewhere the host would wait for every level. token_ids: int64
    [V], the target's ids of the drafter's tokens; None where they are the same. shown: how many alternatives to record.
    """
    width = min(width, logits.shape[-1])
    if logits.device.type == "cpu":
        return grow_on_host(logits, forward_level, width, depth, None, paths, token_ids, shown)
    return _grow_on_device(logits, forward_level, width, depth, None, token_ids, shown)


def grow_ranks(
    logits: Tensor,
    forward_level: ForwardLevel,
    paths: Sequence[Path],
    depth: int,
    *,
    token_ids: Tensor | None = None,
    shown: int = 0,
) -> Levels:
    """Grow the tree of `paths`, parents first, no deeper than `depth`: those that have children go on, in the order of
    `paths`. The rest as in `grow`; every rank is below V."""
    ranks, depth = 1 + max(path[-1] for path in paths), min(depth, max(map(len, paths)))
    inner = inner_paths(paths, depth)
    below = [*inner[1:], []]
    static = [
        [above.index(path[:-1]) * ranks + path[-1] for path in own] for above, own in zip(inner, below, strict=True)
    ]
    if logits.device.type == "cpu":
        return grow_on_host(logits, forward_level, ranks, depth, static, None, token_ids, shown)
    return _grow_on_device(logits, forward_level, ranks, depth, static, token_ids, shown)


def _grow_on_device(
    logits: Tensor,
    forward_level: ForwardLevel,
    ranks: int,
    depth: int,
    static: Sequence[Sequence[int]] | None,
    token_ids: Tensor | None,
    shown: int,
) -> list[Level]:
    """static: which candidates of each level go on; None for the `ranks` likeliest."""
    rows, device = len(logits), logits.device
    logits = logits.unsqueeze(1)  # [B, P, V]
    path_score = torch.ones((rows, 1), device=device)
    topology, above = Topology.of_chain(0, device), 0  # what went on, and the first node of the level above
    levels: list[Level] = []
    for level in range(depth):
        top = torch.softmax(logits.float(), dim=-1).topk(min(max(ranks, shown), logits.shape[-1]), dim=-1)
        tokens = top.indices if token_ids is None else token_ids[top.indices]
        alternatives = (tokens[..., :shown], top.values[..., :shown]) if shown else None
        tokens, confidence = tokens[..., :ranks], top.values[..., :ranks]
        score = path_score.unsqueeze(2) * confidence  # [B, P, ranks]
        if static is not None:
            chosen = torch.tensor([static[level]], dtype=torch.int64, device=device).expand(rows, -1)
        elif level == 0:  # falling as they are
            chosen = torch.arange(ranks, device=device).expand(rows, -1)
        else:
            chosen = score.flatten(1).topk(ranks, dim=1).indices
        levels.append(Level(tokens, confidence, score, chosen, alternatives))
        if level + 1 == depth:
            break
        path_score = score.flatten(1).gather(1, chosen)
        went_on = chosen // ranks
        topology, above = topology.with_level(went_on + above), topology.size
        logits = forward_level(Step(tokens.flatten(1).gather(1, chosen), went_on, topology))
    return levels


def scratch_forward(model: LanguageModel, rows: Sequence[int], starts: Sequence[int], vocab: int) -> ForwardLevel:
    """Forwards levels through a draft model: behind its true prefix, where the root stands in slot starts[b].

    Tokens beyond `vocab`, the target's vocabulary, are cut off, so they are never proposed.
    """
    return lambda step: within(model.forward(step.block(rows, starts)), vocab)


def within(logits: Tensor, vocab: int) -> Tensor:
    """Logits [..., V] of the first `vocab` tokens."""
    return logits if logits.shape[-1] <= vocab else logits[..., :vocab]


def of_paths(states: Tensor, went_on: Tensor) -> Tensor:
    """Of the states of a level, [B, P, H], those of the paths that went on, [B, Q, H]; went_on: int64 [B, Q]."""
    if len(states) == 1:
        return states.index_select(1, went_on[0])
    return states.gather(1, went_on.unsqueeze(2).expand(-1, -1, states.shape[2]))


def add_levels(merged: Sequence[Candidates], levels: Levels, depths: Sequence[int], source: int = 0) -> list[list[int]]:
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


def rank_tries(paths: Sequence[Path], levels: Levels, depths: Sequence[int]) -> list[DraftTrie]:
    """What `grow_ranks` grew as the trie of each row, no deeper than its own of `depths`."""
    inner = inner_paths(paths, len(levels))
    return [
        _rank_trie([path for path in paths if len(path) <= depth], inner[:depth], own_levels)
        for depth, own_levels in zip(depths, _by_row(levels), strict=True)
    ]


def _rank_trie(paths: Sequence[Path], inner: Sequence[Sequence[Path]], levels: Sequence[RowLevel]) -> DraftTrie:
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


def _by_row(levels: Levels) -> list[list[RowLevel]]:
    """The levels of each row."""
    return [list(row) for row in zip(*(level.rows() for level in levels), strict=True)]
