"""Walking a tree from the root: which nodes were accepted, and what became of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from specterm.decoding.ports import Judging
from specterm.decoding.sampling import Purpose, purpose_keys, uniforms
from specterm.decoding.tree import DraftTree, Topology
from specterm.decoding.verdict import STATES

ACCEPTED, REJECTED, UNUSED = (STATES.index(name) for name in ("accepted", "rejected", "unused"))


def leading(kept: Tensor) -> Tensor:
    """How many entries at the beginning of each row of `kept`, bool [B, N], are true: int64 [B]."""
    if kept.device.type == "cpu":  # in numpy, whose operations on a few numbers are quicker
        return torch.from_numpy(np.asarray(np.logical_and.accumulate(kept.numpy(), axis=1).sum(axis=1)))
    return kept.cumprod(dim=1).sum(dim=1)


def walk(topology: Topology, kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From the root down along kept nodes: what `path_of` gives, and `node_states`.

    kept: bool [B, N], whether each node is the one its parent's judgement chose; so at most one child of a node.
    """
    if kept.device.type == "cpu":  # one look at each node is quicker than a dozen operations on a few numbers
        return _walk_on_host(topology, kept)
    accepted = accepted_nodes(topology, kept)
    path, count = path_of(topology, accepted)
    return path, count, node_states(topology, accepted, path[:, -1])


def _walk_on_host(topology: Topology, kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    parents = topology.parents.tolist()
    paths = []
    for above, own in zip(parents * (len(kept) // len(parents)), kept.tolist(), strict=True):
        path = [0]
        for node, here in enumerate(own, start=1):
            if here and above[node] == path[-1]:
                path.append(node)
        paths.append(path)
    return _told(topology, parents, paths)


def _told(
    topology: Topology, parents: Sequence[list[int]], paths: Sequence[list[int]]
) -> tuple[Tensor, Tensor, Tensor]:
    """What `walk` gives, from the path of each row; parents: those of `topology`."""
    length, states = topology.max_depth + 1, []
    for above, path in zip([*parents] * (len(paths) // len(parents)), paths, strict=True):
        last = path[-1]
        codes = [REJECTED if parent == last else UNUSED for parent in above]
        for node in path:
            codes[node] = ACCEPTED
        states.append(codes[1:])
    whole = [path + path[-1:] * (length - len(path)) for path in paths]
    return _integers(whole), _integers([len(path) - 1 for path in paths]), _integers(states)


@dataclass(frozen=True, slots=True)
class Matched:
    """The nodes that are the token drawn at their parent. count: int64 [B], those on the path of such nodes from the
    root; last: int64 [B, 1], the last of the path, 0 is the root; next_token: int64 [B], the one drawn there; walked:
    see `Verdict`."""

    count: Tensor
    last: Tensor
    next_token: Tensor
    walked: tuple[Tensor, Tensor] | None


def matched(tree: DraftTree, drawn: Tensor) -> Matched:
    """drawn: int64 [B, N + 1], a token after the root and after each node."""
    if tree.topology.chain:
        count = leading(tree.where_drafted(tree.tokens == drawn[:, :-1]))
        last, walked = count.unsqueeze(1), None
    else:
        parents = tree.topology.parents.expand_as(drawn)[:, 1:]
        path, count, states = walk(tree.topology, tree.where_drafted(tree.tokens == drawn.gather(1, parents)))
        last, walked = path[:, -1:], (path, states)
    return Matched(count, last, drawn.gather(1, last).squeeze(1), walked)


def _integers(rows: Sequence[object]) -> Tensor:
    return torch.from_numpy(np.array(rows, dtype=np.int64))  # sooner there than by torch itself


def accepted_nodes(topology: Topology, kept: Tensor) -> Tensor:
    """Nodes whose every ancestor was kept, as they were: bool [B, T] with the root True.

    kept: bool [B, N], whether each node is the one its parent's judgement chose.
    """
    root = torch.ones_like(kept[:, :1]) if kept.shape[1] else kept.new_ones((kept.shape[0], 1))
    accepted = torch.cat([root, kept], dim=1)
    if topology.chain:
        return accepted.cumprod(dim=1).bool()
    parents = topology.parents.expand_as(accepted)
    for _ in range(topology.max_depth):
        accepted = accepted & accepted.gather(1, parents)
    return accepted


def path_of(topology: Topology, accepted: Tensor) -> tuple[Tensor, Tensor]:
    """The accepted nodes from the root down, int64 [B, D + 1] padded with the last one; and how many are drafts."""
    count = accepted.sum(dim=1) - 1
    steps = torch.arange(topology.max_depth + 1, device=accepted.device).unsqueeze(0)
    if topology.chain:
        return torch.minimum(steps, count.unsqueeze(1)), count
    depth = topology.depth.expand_as(accepted).masked_fill(~accepted, -1)
    at_depth = (depth.unsqueeze(1) == torch.minimum(steps, count.unsqueeze(1)).unsqueeze(2)).to(torch.int8)
    return at_depth.argmax(dim=2), count


def node_states(topology: Topology, accepted: Tensor, last: Tensor) -> Tensor:
    """The state code of each draft node: int64 [B, N].

    last: int64 [B], the last accepted node. Its children were all refused; nodes elsewhere were never judged.
    """
    parents = topology.parents.expand_as(accepted)[:, 1:]
    states = torch.full_like(parents, UNUSED)
    states = states.masked_fill(parents == last.unsqueeze(1), REJECTED)
    return states.masked_fill(accepted[:, 1:], ACCEPTED)


def probability_at(probs: Tensor, nodes: Tensor, tokens: Tensor) -> Tensor:
    """probs[b, nodes[b, i], tokens[b, i]]: [B, N]."""
    if probs.device.type == "cpu":
        return torch.from_numpy(probs.numpy()[np.arange(len(probs))[:, None], nodes.numpy(), tokens.numpy()])
    rows = torch.arange(probs.shape[0], device=probs.device).unsqueeze(1)
    return probs[rows, nodes, tokens]


def target_uniforms(judging: Judging, depth: Tensor) -> Tensor:
    """The random numbers of the target's own draws after nodes of `depth` (int64 [R, T], R 1 or B): [B, T].

    They are those of the position that the drawn token would take, whatever was drafted.
    """
    positions = torch.tensor(judging.positions, device=depth.device).unsqueeze(1)
    return uniforms(purpose_keys(judging.keys, Purpose.TARGET, depth.device), positions + 1 + depth)
