"""Prompts go through a model in chunks, so that a cancelled run stops within one, and memory stays bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from specterm.decoding.ports import Block, Runner
from specterm.decoding.tree import Topology

CHUNK_TOKENS = {"cpu": 256, "cuda": 2048, "mps": 512}


@contextmanager
def computing_with(threads: int | None) -> Iterator[None]:
    """Meanwhile torch computes with so many threads on the CPU, None: with those that it has."""
    usual = torch.get_num_threads()
    if threads is None or threads == usual:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


def chunks(row: int, ids: Tensor, start: int, device: torch.device) -> Iterator[Block]:
    """`ids` (int64 [L]) as blocks of one row, for slots start, start + 1, ... of cache row `row`."""
    chunk = CHUNK_TOKENS.get(device.type, 512)
    for begin in range(0, len(ids), chunk):
        part = ids[begin : begin + chunk].to(device, dtype=torch.int64).unsqueeze(0)
        yield Block((row,), (start + begin,), part, Topology.of_chain(part.shape[1] - 1, device))


def prefill(
    runner: Runner,
    row: int,
    ids: Tensor,
    start: int = 0,
    taps: Sequence[int] = (),
    cancelled: Callable[[], bool] = lambda: False,
) -> tuple[Tensor, Tensor | None] | None:
    """Write the KV of `ids` (int64 [L], L >= 1, on the host) to slots start, start + 1, ... of cache row `row`.

    Returns the logits after the last token, [1, V], and the hidden states at `taps` of every token, [L, F] (None
    without taps); None when `cancelled` became true between chunks.
    """
    logits: Tensor | None = None
    tapped: list[Tensor] = []
    for block in chunks(row, ids, start, runner.device):
        if cancelled():
            return None
        last = [block.width - 1]
        if taps:
            logits, states = runner.forward_tapped(block, taps, last)
            tapped.append(states[0])
        else:
            logits = runner.forward(block, last)
    assert logits is not None, "there is at least one token"
    return logits[:, 0], torch.cat(tapped) if taps else None
