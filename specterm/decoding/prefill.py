"""Prompts go through a model in chunks, so that a cancelled run stops within one, and memory stays bounded."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from specterm.decoding.ports import Block, Runner
from specterm.decoding.tree import Topology

CHUNK_TOKENS = {"cpu": 256, "cuda": 2048, "mps": 512}


def prefill(
    runner: Runner, row: int, ids: Tensor, start: int = 0, cancelled: Callable[[], bool] = lambda: False
) -> Tensor | None:
    """Write the KV of `ids` (int64 [L], L >= 1, on the host) to slots start, start + 1, ... of cache row `row`.

    Returns the logits after the last token, [1, V]; None when `cancelled` became true between chunks.
    """
    chunk = CHUNK_TOKENS.get(runner.device.type, 512)
    logits: Tensor | None = None
    for begin in range(0, len(ids), chunk):
        if cancelled():
            return None
        part = ids[begin : begin + chunk].to(runner.device, dtype=torch.int64).unsqueeze(0)
        topology = Topology.of_chain(part.shape[1] - 1, runner.device)
        logits = runner.forward(Block((row,), (start + begin,), part, topology), last=[part.shape[1] - 1])[:, 0]
    return logits
