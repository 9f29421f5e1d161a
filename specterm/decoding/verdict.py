"""What a rule decides about a batch: on the device, or read already where the host judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from specterm.decoding.tree import Topology
from specterm.events import NodeState


@dataclass(frozen=True, slots=True)
class Verdict:
    """A rule's judgement of a batch; everything stays on the device. D is the depth of the trees.

    accepted: int64 [B], draft tokens kept; next_token: int64 [B], the target's own. p: [B, N] and next_p: [B], the
    target's probabilities that decided; None where not recorded. q: [B, N], the drafter's; None where children are
    fixed, which is q = 1. walked: `path` and `states`; None for chains, where `accepted` tells them.
    """

    topology: Topology
    accepted: Tensor
    next_token: Tensor
    walked: tuple[Tensor, Tensor] | None
    p: Tensor | None = None
    q: Tensor | None = None
    next_p: Tensor | None = None

    @property
    def strays(self) -> bool:
        """Whether an accepted branch may not lie together behind its root."""
        return not self.topology.chain

    @property
    def path(self) -> Tensor:
        """The accepted nodes from the root (0) down, the last one repeated: int64 [B, D + 1]."""
        if self.walked is not None:
            return self.walked[0]
        return torch.minimum(self.topology.depth, self.accepted.unsqueeze(1))

    @property
    def states(self) -> Tensor:
        """The codes of `STATES` of the draft nodes: int64 [B, N]."""
        if self.walked is not None:
            return self.walked[1]
        return (self.topology.parents[:, 1:] - self.accepted.unsqueeze(1)).sign().add_(1)


STATES: tuple[NodeState, ...] = ("accepted", "rejected", "unused")


@dataclass(frozen=True, slots=True)
class HostVerdict:
    """The same where the host judged. paths: the accepted nodes of each row, from 1, without the root; next_tokens: the
    token behind each; p, q, next_p: see `Verdict`."""

    topology: Topology
    paths: Sequence[Sequence[int]]
    next_tokens: Sequence[int]
    p: Tensor | None = None
    q: Tensor | None = None
    next_p: Tensor | None = None

    @property
    def strays(self) -> bool:
        """See `Verdict`."""
        return not self.topology.chain and any(path and path[-1] > len(path) for path in self.paths)

    @property
    def accepted(self) -> Tensor:
        """See `Verdict`."""
        return torch.tensor([len(path) for path in self.paths])

    @property
    def next_token(self) -> Tensor:
        """See `Verdict`."""
        return torch.tensor(self.next_tokens)

    @property
    def path(self) -> Tensor:
        """See `Verdict`."""
        length = self.topology.max_depth + 1
        return torch.tensor([padded_path(path, length) for path in self.paths])

    @property
    def states(self) -> Tensor:
        """See `Verdict`."""
        parents = self.topology.parents.tolist()
        whole = parents * (len(self.paths) // len(parents))
        told = [node_states(above, path) for above, path in zip(whole, self.paths, strict=True)]
        return torch.tensor([[STATES.index(state) for state in row] for row in told])


def padded_path(path: Sequence[int], length: int) -> list[int]:
    """The root and the nodes of `path`, the last one repeated."""
    return [0, *path, *[path[-1] if path else 0] * (length - 1 - len(path))]


def node_states(parents: Sequence[int], path: Sequence[int]) -> list[NodeState]:
    """What became of the draft nodes, by the nodes that were accepted; parents: those of all nodes, root included."""
    last = path[-1] if path else 0
    states: list[NodeState] = ["rejected" if parent == last else "unused" for parent in parents]
    for node in path:
        states[node] = "accepted"
    return states[1:]
