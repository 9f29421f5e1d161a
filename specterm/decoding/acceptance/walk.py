"""Walking a tree from the root: which nodes were accepted, and what became of the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from specterm.decoding.ports import STATES, Judging
from specterm.decoding.sampling import Purpose, purpose_keys, uniforms
from specterm.decoding.tree import Topology

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
    parents, length = topology.parents[:, 1:].tolist(), topology.max_depth + 1
    paths, counts, states = [], [], []
    for above, own in zip(parents * (len(kept) // len(parents)), kept.tolist(), strict=True):
        path = [0]
        for node, (parent, here) in enumerate(zip(above, own, strict=True), start=1):
            if here and parent == path[-1]:
                path.append(node)
        last = path[-1]
        codes = [REJECTED if parent == last else UNUSED for parent in above]
        for node in path[1:]:
            codes[node - 1] = ACCEPTED
        counts.append(len(path) - 1)
        states.append(codes)
        paths.append(path + [last] * (length - len(path)))
    return _integers(paths), _integers(counts), _integers(states)


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
    rows = torch.arange(probs.shape[0], device=probs.device).unsqueeze(1)
    return probs[rows, nodes, tokens]


def target_uniforms(judging: Judging, depth: Tensor) -> Tensor:
    """The random numbers of the target's own draws after nodes of `depth` (int64 [R, T], R 1 or B): [B, T].

    They are those of the position that the drawn token would take, whatever was drafted.
    """
    positions = torch.tensor(judging.positions, device=depth.device).unsqueeze(1)
    return uniforms(purpose_keys(judging.keys, Purpose.TARGET, depth.device), positions + 1 + depth)
