"""The one place where a round reads the device: one packed copy of everything the host needs.

Where the host judged itself there is nothing to copy, and what it has found is read as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from specterm.decoding.stride_ports import Step
from specterm.decoding.tree import DraftTree
from specterm.decoding.verdict import STATES, HostVerdict, Verdict, node_states
from specterm.events import NodeState


@dataclass(slots=True)
class Outcome:
    """A verdict on the host, of one row. Of each of its own draft nodes: tokens, parents (-1: the root), states, and
    what is told of p, q, confidence and sources. path: the accepted nodes, from 1; top_ids: of the root and those."""

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    states: list[NodeState]
    path: Sequence[int]
    next_token: int
    p: tuple[float, ...] | None = None
    q: tuple[float, ...] | None = None
    next_p: float | None = None
    confidence: tuple[float, ...] | None = None
    sources: tuple[int, ...] | None = None
    top_ids: tuple[tuple[int, ...], ...] | None = None

    @property
    def accepted(self) -> int:
        """How many draft tokens were."""
        return len(self.path)

    @property
    def corrected(self) -> bool:
        """Whether the target's own token stands where draft tokens were refused, and not behind a whole branch."""
        last = self.path[-1] - 1 if self.path else -1
        return ("rejected", last) in zip(self.states, self.parents, strict=True)


def step_outcome(step: Step) -> Outcome:
    """Of a round of a stride."""
    tokens, path, token = step[:3]
    if step.grown is None:
        count = len(tokens)
        outcome = Outcome(tokens, tuple(range(-1, count - 1)), _chain_states(len(path), count), path, token)
    else:
        parents = step.grown.parents
        states = node_states((0, *[parent + 1 for parent in parents]), path)
        outcome = Outcome(tokens, parents, states, path, token, sources=step.grown.sources)
    if step.recorded is not None:
        p, outcome.next_p, q, confidence = step.recorded
        if tokens:
            outcome.p, outcome.q, outcome.confidence = p, q, confidence
    return outcome


def read_outcomes(tree: DraftTree, verdict: Verdict | HostVerdict, top_ids: Tensor | None = None) -> list[Outcome]:
    """The outcome of each row, by one copy from the device; waits for the device.

    top_ids: int64 [B, T, k], the target's likeliest tokens after the root and each node, where a drafter wants them.
    """
    told = {
        "p": verdict.p,
        "q": verdict.q,
        "confidence": tree.confidence,
        "sources": tree.sources,
        "next_p": verdict.next_p,
        "top_ids": None if top_ids is None else top_ids.flatten(1),
    }
    fields = {name: tensor for name, tensor in told.items() if tensor is not None}
    if isinstance(verdict, HostVerdict):
        return _of_host(tree, verdict, _columns(fields) if fields else [{}] * len(tree.counts))
    fields |= {"tokens": tree.tokens, "accepted": verdict.accepted, "next_token": verdict.next_token}
    if not tree.topology.chain:
        fields |= {"path": verdict.path, "parents": tree.topology.parents.expand(len(tree.counts), -1)}
    if verdict.walked is not None:
        fields["states"] = verdict.states
    return [_of_device(tree, row, count) for row, count in zip(_to_host(fields), tree.counts, strict=True)]


def _of_host(tree: DraftTree, verdict: HostVerdict, recorded: list[dict[str, list[Any]]]) -> list[Outcome]:
    if not tree.nodes and not recorded[0]:
        return [
            Outcome((), (), [], path, token) for path, token in zip(verdict.paths, verdict.next_tokens, strict=True)
        ]
    parents = [] if tree.topology.chain else tree.topology.parents.tolist()
    outcomes = []
    for row, (tokens, count, path, token) in enumerate(
        zip(tree.tokens.tolist(), tree.counts, verdict.paths, verdict.next_tokens, strict=True)
    ):
        if parents:
            own = parents[row if len(parents) > 1 else 0]
            above, states = tuple([parent - 1 for parent in own[1 : count + 1]]), node_states(own[: count + 1], path)
        else:
            above, states = tuple(range(-1, count - 1)), _chain_states(len(path), count)
        outcome = Outcome(tuple(tokens[:count]), above, states, path, token)
        outcomes.append(_with_recorded(outcome, recorded[row], tree.nodes) if recorded[row] else outcome)
    return outcomes


def _of_device(tree: DraftTree, row: dict[str, list[Any]], count: int) -> Outcome:
    accepted, chain = int(row["accepted"][0]), tree.topology.chain
    path = range(1, accepted + 1) if chain else [int(x) for x in row["path"][1 : accepted + 1]]
    parents = range(-1, count - 1) if chain else [int(x) - 1 for x in row["parents"][1 : count + 1]]
    states = [STATES[int(x)] for x in row["states"][:count]] if "states" in row else _chain_states(accepted, count)
    tokens = tuple([int(x) for x in row["tokens"][:count]])
    return _with_recorded(Outcome(tokens, tuple(parents), states, path, int(row["next_token"][0])), row, tree.nodes)


def _with_recorded(outcome: Outcome, row: dict[str, list[Any]], nodes: int) -> Outcome:
    count = len(outcome.tokens)
    outcome.p, outcome.q, outcome.confidence = (
        tuple(row[name][:count]) if name in row and count else None for name in ("p", "q", "confidence")
    )
    outcome.next_p = row["next_p"][0] if "next_p" in row else None
    outcome.sources = tuple(map(int, row["sources"][:count])) if "sources" in row else None
    outcome.top_ids = _top_ids(row["top_ids"], nodes + 1, outcome.path) if "top_ids" in row else None
    return outcome


def _top_ids(flat: list[Any], nodes: int, path: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Of the root and the accepted nodes."""
    k = len(flat) // nodes
    return tuple(tuple(int(x) for x in flat[node * k : node * k + k]) for node in (0, *path))


def _chain_states(accepted: int, count: int) -> list[NodeState]:
    """Of the nodes of a chain."""
    states: list[NodeState] = ["accepted"] * accepted
    if accepted < count:
        states += ["rejected"]
        states += ["unused"] * (count - accepted - 1)
    return states


def _columns(fields: dict[str, Tensor]) -> list[dict[str, list[Any]]]:
    """The fields, [B] or [B, any] each, as lists of each row, where nothing needs to be copied."""
    columns = [[[x] for x in part.tolist()] if part.ndim == 1 else part.tolist() for part in fields.values()]
    return [dict(zip(fields, own, strict=True)) for own in zip(*columns, strict=True)]


def _to_host(fields: dict[str, Tensor]) -> list[dict[str, list[Any]]]:
    """The same, by one copy."""
    device = fields["tokens"].device
    if device.type == "cpu":
        return _columns(fields)
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
