"""Which number format a model gets on a CPU with bfloat16 instructions: that in which its own first layer is quicker.

float32 has products with 16-bit weights too (see `CompiledMatrix`), and with one token they may be the quicker ones;
bfloat16 (see `Bfloat16Packed`) takes many tokens at once in the time of one. Without the instructions there is nothing
to measure: bfloat16 is converted in every product then.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from specterm.decoding.ports import Block
from specterm.decoding.tree import Topology
from specterm.models.runners.llama import LlamaRunner, Shape
from specterm.models.weights import tensor_reader

_FORMATS = (torch.float32, torch.bfloat16)
_MOST_WEIGHTS = 1 << 25
"""Of what is measured: two copies of it are held for a moment. In a wider layer the products take nearly all of the
time, and `quickest` measures those when the model is loaded."""
_MOST_VOCABULARY = 1024
_CONTEXT = 64
_PASSES = 5
_WORTH = 0.7  # bfloat16 rounds more, and a measurement that comes out now so, now so, would change what is said

_MEASURED: dict[tuple[Shape, tuple[int, ...]], dict[str, float]] = {}


def quickest_format(
    folder: Path, config: Mapping[str, Any], widths: tuple[int, ...]
) -> tuple[torch.dtype, dict[str, float] | None]:
    """The format for the bfloat16 weights in `folder`, which the fused runner `fits`, on a CPU that has the choice; and
    what was measured, seconds by format, None where the model is too large for it. A shape is measured once a process,
    by passes of `widths` tokens.

    Raises:
        ModelError: see `tensor_reader`.
    """
    shape = Shape.of(config)
    probed = {**config, "num_hidden_layers": 1, "vocab_size": min(shape.vocab, _MOST_VOCABULARY)}
    ff = int(config["intermediate_size"])
    layer = shape.hidden * (shape.head_dim * 2 * (shape.heads + shape.kv_heads) + 3 * ff)
    if layer + 2 * probed["vocab_size"] * shape.hidden > _MOST_WEIGHTS:
        return torch.bfloat16, None
    if (shape, widths) not in _MEASURED:
        _MEASURED[shape, widths] = _measure(folder, probed, widths)
    took = _MEASURED[shape, widths]
    worth = took["bfloat16"] < _WORTH * took["float32"]
    return torch.bfloat16 if worth else torch.float32, took


def _measure(folder: Path, config: Mapping[str, Any], widths: Sequence[int]) -> dict[str, float]:
    """Seconds of passes of `widths` tokens, one after the other, through what `config` names of the model in `folder`,
    by format; the formats take turns, and the quickest pass of each width counts."""
    device, slots = torch.device("cpu"), _CONTEXT + max(widths)
    first = dict.fromkeys(("model.embed_tokens.weight", "lm_head.weight"), int(config["vocab_size"]))
    runners = {}
    for dtype in _FORMATS:
        read = tensor_reader(folder, device, dtype, first_rows=first)
        runner = runners[dtype] = LlamaRunner(read, config, device, dtype, slots, widths)
        runner.allocate(1, slots)
    blocks = [_block(width) for width in widths]
    took: dict[torch.dtype, list[list[float]]] = {dtype: [[] for _ in widths] for dtype in _FORMATS}
    for _ in range(2 + _PASSES):
        for dtype, runner in runners.items():
            for own, block in zip(took[dtype], blocks, strict=True):
                began = time.perf_counter()
                runner.forward(block)
                own.append(time.perf_counter() - began)
    # The first passes of a shape are not like the others.
    return {str(dtype).removeprefix("torch."): sum(min(each[2:]) for each in own) for dtype, own in took.items()}


def _block(width: int) -> Block:
    ids = torch.zeros((1, width), dtype=torch.int64)
    return Block((0,), (_CONTEXT,), ids, Topology.of_chain(width - 1, ids.device))
