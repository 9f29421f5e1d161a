"""The one place where a round reads the device: one packed copy of everything the host needs.

On a CPU there is nothing to copy, and the fields are read as they are.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from specterm.decoding.ports import STATES, Verdict
from specterm.decoding.tree import DraftTree
from specterm.events import NodeState


class Outcome:
    """A verdict on the host, row by row. Lists are cut to the row's own nodes."""

    __slots__ = (
        "accepted",
        "confidence",
        "next_p",
        "next_token",
        "p",
        "parents",
        "path",
        "q",
        "sources",
        "states",
        "tokens",
        "top_ids",
    )

    def __init__(self, row: dict[str, list[Any]], count: int, parents: list[int], chain: bool) -> None:
        self.accepted = accepted = int(row["accepted"][0])
        self.next_token = int(row["next_token"][0])
        self.path = range(1, accepted + 1) if chain else [int(x) for x in row["path"][1 : accepted + 1]]
        self.tokens = tuple(map(int, row["tokens"][:count]))
        self.states: list[NodeState] = (
            [STATES[int(x)] for x in row["states"][:count]] if "states" in row else _chain_states(accepted, count)
        )
        self.parents = tuple(parents[:count])
        self.p = self._floats(row, "p", count)
        self.q = self._floats(row, "q", count)
        self.confidence = self._floats(row, "confidence", count)
        self.next_p = row["next_p"][0] if "next_p" in row else None
        self.top_ids = self._top_ids(row["top_ids"], len(row["tokens"]) + 1) if "top_ids" in row else None
        self.sources = tuple(map(int, row["sources"][:count])) if "sources" in row else None

    @property
    def corrected(self) -> bool:
        """Whether the target's own token stands where draft tokens were refused, and not behind a whole branch."""
        last = self.path[-1] - 1 if self.path else -1
        return any(
            state == "rejected" and parent == last for state, parent in zip(self.states, self.parents, strict=True)
        )

    def _top_ids(self, flat: list[Any], nodes: int) -> tuple[tuple[int, ...], ...]:
        """Of the root and the accepted nodes."""
        k = len(flat) // nodes
        return tuple(tuple(int(x) for x in flat[node * k : node * k + k]) for node in (0, *self.path))

    @staticmethod
    def _floats(row: dict[str, list[Any]], name: str, count: int) -> tuple[float, ...] | None:
        return tuple(row[name][:count]) if name in row else None


def read_outcomes(tree: DraftTree, verdict: Verdict, top_ids: Tensor | None = None) -> list[Outcome]:
    """The outcome of each row, by one copy from the device; waits for the device.

    top_ids: int64 [B, T, k], the target's likeliest tokens after the root and each node, where a drafter wants them.
    """
    fields: dict[str, Tensor | None] = {
        "accepted": verdict.accepted,
        "next_token": verdict.next_token,
        "tokens": tree.tokens,
        "states": None if verdict.walked is None else verdict.states,
        "path": None if tree.topology.chain else verdict.path,
        "parents": None if tree.topology.chain else tree.topology.parents.expand(len(tree.counts), -1),
        "p": verdict.p,
        "q": verdict.q,
        "confidence": tree.confidence,
        "sources": tree.sources,
        "next_p": verdict.next_p,
        "top_ids": None if top_ids is None else top_ids.flatten(1),
    }
    present = {name: tensor for name, tensor in fields.items() if tensor is not None}
    rows = _to_host(present)
    outcomes = []
    for row, count in zip(rows, tree.counts, strict=True):
        parents = [int(x) - 1 for x in row["parents"][1:]] if "parents" in row else list(range(-1, tree.nodes - 1))
        outcomes.append(Outcome(row, count, parents, tree.topology.chain))
    return outcomes


def _chain_states(accepted: int, count: int) -> list[NodeState]:
    """Of the nodes of a chain."""
    told: tuple[NodeState, ...] = ("accepted", "rejected", "unused")
    return [told[(i >= accepted) + (i > accepted)] for i in range(count)]


def _to_host(fields: dict[str, Tensor]) -> list[dict[str, list[Any]]]:
    """The fields, [B] or [B, any] each, as lists of each row."""
    device = fields["accepted"].device
    if device.type == "cpu":  # nothing needs to be copied
        columns = [[[x] for x in part.tolist()] if part.ndim == 1 else part.tolist() for part in fields.values()]
        return [dict(zip(fields, own, strict=True)) for own in zip(*columns, strict=True)]
    parts = [part.unsqueeze(1) if part.ndim == 1 else part for part in fields.values()]
    if any(part.is_floating_point() for part in parts):
        # Token ids and codes are exact in double precision (on MPS in single, up to 2^24).
        exact = torch.float32 if device.type == "mps" else torch.float64
        parts = [part.to(exact) for part in parts]
    packed = torch.cat(parts, dim=1)
    if device.type == "cuda":
        pinned = torch.empty(packed.shape, dtype=packed.dtype, pin_memory=True)
        pinned.copy_(packed, non_blocking=True)
        torch.cuda.current_stream(device).synchronize()
        packed = pinned
    at = [0, *accumulate(part.shape[1] for part in parts)]
    spans = list(zip(fields, at[:-1], at[1:], strict=True))
    return [{name: own[begin:end] for name, begin, end in spans} for own in packed.tolist()]
