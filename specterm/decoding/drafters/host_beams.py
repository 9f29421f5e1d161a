"""Growing candidates on a CPU, in plain numbers: of a few paths they take less time than operations take to begin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specterm.decoding.drafters.draft_trie import Shown
from specterm.decoding.drafters.levels import ForwardLevel, HostLevel, Paths, RowLevel, Step
from specterm.decoding.host import Ranked, host_kernels
from specterm.decoding.ports import Beam
from specterm.decoding.tree import Topology

_PICKED = 6
"""So many likeliest tokens are found sooner one after the other."""


def grow_on_host(
    logits: Tensor,
    forward_level: ForwardLevel,
    ranks: int,
    depth: int,
    static: Sequence[Sequence[int]] | None,
    paths: Paths | None,
    token_ids: Tensor | None,
    shown: int,
) -> list[HostLevel]:
    """See `beams.grow`; static: which candidates of each level go on, None for the `ranks` likeliest."""
    rows, target_ids = len(logits), None if token_ids is None else token_ids.numpy()
    logits = logits.unsqueeze(1)  # [B, P, V]
    path_scores = [[1.0]] * rows
    topology, above = Topology.of_chain(0, logits.device), 0  # what went on, and the first node of the level above
    levels: list[HostLevel] = []
    reached = [1.0] * rows  # the summed scores of the paths that went on, where `paths` is asked
    for level in range(depth):
        found = [
            _candidates(own, scores, ranks, None if static is None else static[level], target_ids, shown)
            for own, scores in zip(ranked(logits, max(ranks, shown)), path_scores, strict=True)
        ]
        levels.append(HostLevel(found))
        if level + 1 == depth:
            break
        path_scores = [[own.score[i // ranks][i % ranks] for i in own.chosen] for own in found]
        if paths is not None:
            count = paths(reached, path_scores)
            if count < len(path_scores[0]):
                path_scores = [own[:count] for own in path_scores]
                for row in found:
                    del row.chosen[max(count, 1) :]
            if not count:
                break
            reached = [sum(own) for own in path_scores]
        went_on = np.array([[i // ranks for i in own.chosen] for own in found])
        ids = np.array([[own.tokens[i // ranks][i % ranks] for i in own.chosen] for own in found])
        topology, above = topology.with_level(torch.from_numpy(went_on + above)), topology.size
        logits = forward_level(Step(torch.from_numpy(ids), torch.from_numpy(went_on), topology))
    return levels


def _candidates(
    likeliest: Sequence[Ranked],
    path_scores: Sequence[float],
    ranks: int,
    static: Sequence[int] | None,
    target_ids: NDArray[np.int64] | None,
    shown: int,
) -> RowLevel:
    """The level of one row, from the likeliest tokens after each of its paths."""
    if target_ids is not None:
        likeliest = [(target_ids[ids].tolist(), chances) for ids, chances in likeliest]
    tokens, confidence = [ids[:ranks] for ids, _ in likeliest], [chances[:ranks] for _, chances in likeliest]
    score = [[above * chance for chance in own] for above, own in zip(path_scores, confidence, strict=True)]
    flat = [each for own in score for each in own]
    if static is not None:
        chosen = list(static)
    else:
        chosen = sorted(range(len(flat)), key=flat.__getitem__, reverse=True)[:ranks]
    said: list[Shown] = []
    if shown:
        said = [list(zip(ids[:shown], chances[:shown], strict=True)) for ids, chances in likeliest]
    return RowLevel(tokens, confidence, score, chosen, said)


def beam_levels(beam: Beam, shown: int) -> list[HostLevel]:
    """One row's beams as `grow_on_host` would give them."""
    levels: list[HostLevel] = []
    ranks, found, above = beam.ranks, beam.found, [1.0]
    for paths, chosen, tokens, confidence in zip(beam.paths, beam.chosen, beam.tokens, beam.confidence, strict=True):
        begins = [path * found for path in range(paths)]
        own_tokens = [tokens[begin : begin + ranks] for begin in begins]
        chances = [confidence[begin : begin + ranks] for begin in begins]
        score = [[before * chance for chance in own] for before, own in zip(above, chances, strict=True)]
        said: list[Shown] = []
        if shown:
            ends = [(begin, begin + min(shown, found)) for begin in begins]
            said = [list(zip(tokens[begin:end], confidence[begin:end], strict=True)) for begin, end in ends]
        levels.append(HostLevel([RowLevel(own_tokens, chances, score, chosen, said)]))
        above = [score[i // ranks][i % ranks] for i in chosen]
    return levels


def chain_levels(tokens: Sequence[int], chances: Sequence[float], logits: Tensor, shown: int) -> list[HostLevel]:
    """One row's greedy chain as `grow_on_host` would give it; the first of the logits, [.., V], are those that it was
    the likeliest of."""
    levels, score = [], 1.0
    said: list[Shown] = []
    if shown:
        said = [list(zip(*both, strict=True)) for both in ranked(logits[: len(tokens)].unsqueeze(0), shown)[0]]
    for place, (token, chance) in enumerate(zip(tokens, chances, strict=True)):
        score *= chance
        levels.append(HostLevel([RowLevel([[token]], [[chance]], [[score]], [0], said[place : place + 1])]))
    return levels


def ranked(logits: Tensor, count: int) -> list[list[Ranked]]:
    """Of logits [B, P, V] the `count` likeliest tokens of each, and their probabilities by the plain softmax."""
    kernels = host_kernels(logits)
    return ranked_by_torch(logits, count) if kernels is None else kernels.likeliest(logits, count)


def ranked_by_torch(logits: Tensor, count: int) -> list[list[Ranked]]:
    """The same where there are no kernels."""
    chances = torch.softmax(logits.float(), dim=-1)
    if count > _PICKED:
        top = chances.topk(min(count, chances.shape[-1]), dim=-1)
        both = zip(top.indices.tolist(), top.values.tolist(), strict=True)
        return [list(zip(*row, strict=True)) for row in both]
    return [[_picked(law, min(count, len(law))) for law in row] for row in chances.numpy()]


def _picked(law: NDArray[np.float32], count: int) -> tuple[list[int], list[float]]:
    """`count` tokens of a law, one after the other; what is picked is taken out of it."""
    ids, chances = [], []
    for _ in range(count):
        token = int(law.argmax())
        ids.append(token)
        chances.append(float(law[token]))
        law[token] = -1.0
    return ids, chances
