"""Feeding a runner by hand, and what it must agree with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from specterm.decoding.ports import Block, Runner
from specterm.decoding.prefill import prefill
from specterm.decoding.tree import Topology


def random_ids(length: int, seed: int) -> list[int]:
    return torch.randint(1, 4096, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def chain(runner: Runner, rows: Sequence[int], starts: Sequence[int], ids: Sequence[Sequence[int]]) -> Tensor:
    """Logits [B, T, V] of as many tokens of each row."""
    tokens = torch.tensor([list(row) for row in ids], device=runner.device)
    topology = Topology.of_chain(tokens.shape[1] - 1, runner.device)
    return runner.forward(Block(tuple(rows), tuple(starts), tokens, topology))


def slots(runner: Runner, row: int, end: int) -> Tensor:
    """Keys and values of a row, all layers stacked: [layers * 2, kv_heads, end, head_dim]."""
    cache = runner.cache
    return torch.stack([kept for layer in cache.layers() for kept in cache.slots(layer, row, end)]).clone()


def from_scratch(runner: Runner, ids: Sequence[int]) -> Tensor:
    """The slots of `ids` after one fresh prefill, in a cache of their own; the runner's cache is put back."""
    kept, runner.cache = runner.cache, None
    runner.allocate(1, len(ids))
    prefill(runner, 0, torch.tensor(list(ids)))
    found = slots(runner, 0, len(ids))
    runner.cache = kept
    return found
