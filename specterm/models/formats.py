"""Which number format a model gets on a CPU with bfloat16 instructions: that in which its own first layer is quicker.

Half the bytes are no gain where they lie in the processor's cache anyway, and float32 has passes of its own for few
tokens (see `OneRow`) and products of 16-bit weights (see `HalfPacked`). Without the instructions there is nothing to
measure: bfloat16 is converted in every product then.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
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
_WORTH = 0.95  # bfloat16 rounds more: it must take less than this part of the time

_MEASURED: dict[Shape, dict[str, float]] = {}


def quickest_format(folder: Path, config: Mapping[str, Any]) -> tuple[torch.dtype, dict[str, float] | None]:
    """The format for the bfloat16 weights in `folder`, which the fused runner `fits`, on a CPU that has the choice; and
    what was measured, seconds by format, None where the model is too large for it. A shape is measured once a process.

    Raises:
        ModelError: see `tensor_reader`.
    """
    shape = Shape.of(config)
    probed = {**config, "num_hidden_layers": 1, "vocab_size": min(shape.vocab, _MOST_VOCABULARY)}
    ff = int(config["intermediate_size"])
    layer = shape.hidden * (shape.head_dim * 2 * (shape.heads + shape.kv_heads) + 3 * ff)
    if layer + 2 * probed["vocab_size"] * shape.hidden > _MOST_WEIGHTS:
        return torch.bfloat16, None
    if shape not in _MEASURED:
        _MEASURED[shape] = _measure(folder, probed)
    took = _MEASURED[shape]
    worth = took["bfloat16"] < _WORTH * took["float32"]
    return torch.bfloat16 if worth else torch.float32, took


def _measure(folder: Path, config: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of a pass of one token through what `config` names of the model in `folder`, by format; the formats take
    turns, and the quickest pass of each counts."""
    device = torch.device("cpu")
    first = dict.fromkeys(("model.embed_tokens.weight", "lm_head.weight"), int(config["vocab_size"]))
    runners = {}
    for dtype in _FORMATS:
        read = tensor_reader(folder, device, dtype, first_rows=first)
        native = dtype == torch.bfloat16
        runner = runners[dtype] = LlamaRunner(read, config, device, dtype, _CONTEXT + 1, plain=native)
        runner.allocate(1, _CONTEXT + 1)
    block = Block((0,), (_CONTEXT,), torch.tensor([[0]]), Topology.of_chain(0, device))
    took: dict[torch.dtype, list[float]] = {dtype: [] for dtype in _FORMATS}
    for _ in range(2 + _PASSES):
        for dtype, runner in runners.items():
            began = time.perf_counter()
            runner.forward(block)
            took[dtype].append(time.perf_counter() - began)
    # The first passes of a shape are not like the others.
    return {str(dtype).removeprefix("torch."): min(own[2:]) for dtype, own in took.items()}
