"""Passes over a few tokens of one row on a CPU in float32: products and attention are torch's, the rest is numpy's.

With one token, or a handful, a layer is some twenty operations on a few thousand numbers. Numpy begins such an
operation in a third of the time that torch takes, and writes into memory that is there already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from specterm.decoding.ports import FINAL_NORM
from specterm.models.cache import RowSlots, SlotCache
from specterm.models.norm import RmsNorm
from specterm.models.products import Product

if TYPE_CHECKING:
    from specterm.models.runners.llama import Layer, Shape

MOST_TOKENS = 16
"""Torch's own operations win where there are more."""

Floats: TypeAlias = NDArray[np.float32]
Where: TypeAlias = slice | NDArray[np.int64]


@dataclass(slots=True)
class _Buffers:
    """What a pass over T tokens writes to; each tensor is the memory of the array named like it."""

    x: Floats  # [T, hidden]
    normed: Floats  # [T, hidden]
    normed_tensor: Tensor
    active: Floats  # [T, ff], what goes into the down product
    active_tensor: Tensor
    gate: Floats  # [T, ff], scratch
    turned: Floats  # [T, heads + kv_heads, 2, head_dim / 2], scratch
    queries: Floats  # [T, heads, 2, head_dim / 2]
    queries_tensor: Tensor  # [1, kv_heads, group * T, head_dim]
    attended: Floats  # [T, heads, head_dim]
    attended_tensor: Tensor  # [T, heads * head_dim]

    @staticmethod
    def of(tokens: int, shape: Shape, ff: int) -> _Buffers:
        heads, size = shape.heads, shape.head_dim
        x, normed, active, gate, attended = (
            torch.empty((tokens, width)) for width in (shape.hidden, shape.hidden, ff, ff, heads * size)
        )
        queries = torch.empty((1, shape.kv_heads, heads // shape.kv_heads * tokens, size))
        return _Buffers(
            x.numpy(), normed.numpy(), normed, active.numpy(), active, gate.numpy(),
            np.empty((tokens, heads + shape.kv_heads, 2, size // 2), dtype=np.float32),
            queries.numpy().reshape(heads, tokens, 2, size // 2).transpose(1, 0, 2, 3), queries,
            attended.numpy().reshape(tokens, heads, size), attended,
        )  # fmt: skip


class OneRow:
    """Passes of one model over one row at a time; not for two threads at once."""

    def __init__(
        self, shape: Shape, layers: Sequence[Layer], table: Tensor, norm: RmsNorm, judge: tuple[RmsNorm, Product],
        cos: Tensor, sin: Tensor,
    ) -> None:  # fmt: skip
        """table: the embeddings, [V, hidden] in any floating dtype of at most 32 bits. judge: what gives the logits.
        cos and `signed` sin: float32 [positions, head_dim]."""
        self._shape, self._layers, self._norm = shape, layers, norm
        self._judge_norm, self._judge = judge
        self._fill = _filling(table)
        self._cos, self._sin = (table.numpy().reshape(len(table), 1, 2, -1) for table in (cos, sin))
        self._ff = layers[0].down.parameters // shape.hidden
        self._buffers: dict[int, _Buffers] = {}

    @np.errstate(over="ignore")  # of exp(-gate): an infinity makes the 0 that is meant
    def forward(
        self, cache: SlotCache, row: int, begin: int, ids: Sequence[int], *, where: Where | None = None,
        mask: Tensor | None = None, layers: int | None = None, taps: Sequence[int] = (), last: int | None = None,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """Write `ids` to slots begin, begin + 1, ... of a row of `cache`, which has room and all `layers` layers.

        where: the tokens' positions, those of their slots unless given; mask: see `Masks.mask`; last: the only token
        whose logits are wanted. Returns logits [T, V] (or [1, V]) and the states at `taps` [T, F], None without.
        """
        width = len(ids)
        end = begin + width
        b = self._buffers.get(width) or self._new_buffers(width)
        self._fill(ids, b.x)
        x, normed, normed_tensor = b.x, b.normed, b.normed_tensor
        where = slice(begin, end) if where is None else where
        cos, sin = self._cos[where], self._sin[where]
        tapped: dict[int, Floats] = {}
        for index, layer in enumerate(self._layers[:layers]):
            slots = cache.row_slots(index, row)
            if index in taps:
                tapped[index] = x.copy()
            layer.attention_norm.into(normed, x)
            self._turn(layer, layer.qkv(normed_tensor).numpy(), cos, sin, b, slots, begin, end)
            keys, values = slots.seen_keys.narrow(2, 0, end), slots.seen_values.narrow(2, 0, end)
            attended = F.scaled_dot_product_attention(b.queries_tensor, keys, values, mask)
            if width == 1:
                attended = attended.view(1, -1)
            else:
                b.attended[:] = attended.numpy().reshape(-1, width, self._shape.head_dim).transpose(1, 0, 2)
                attended = b.attended_tensor
            added = layer.out(attended).numpy()
            added *= 1.0 / layer.out.gain
            x += added
            if layer.out_bias is not None:
                x += layer.out_bias.numpy()
            layer.mlp_norm.into(normed, x)
            _gated(layer.gate_up(normed_tensor).numpy(), b)
            added = layer.down(b.active_tensor).numpy()
            added *= 1.0 / layer.down.gain
            x += added
        if FINAL_NORM in taps:
            tapped[FINAL_NORM] = self._norm.into(np.empty_like(x), x)
        states = torch.from_numpy(np.concatenate([tapped[tap] for tap in taps], axis=1)) if taps else None
        if last is None or width == 1:
            self._judge_norm.into(normed, x)
            return self._judge(normed_tensor), states
        self._judge_norm.into(normed[:1], x[last : last + 1])
        return self._judge(normed_tensor[:1]), states

    def _turn(
        self, layer: Layer, qkv: Floats, cos: Floats, sin: Floats, b: _Buffers, slots: RowSlots, begin: int, end: int
    ) -> None:
        """Queries, turned to their positions, to their buffer; turned keys, and values, to their slots."""
        shape, width = self._shape, len(qkv)
        heads, both = shape.heads, shape.heads + shape.kv_heads
        halves = qkv.reshape(width, both + shape.kv_heads, 2, -1)
        turning, turned = halves[:, :both], b.turned
        if layer.qk_norm is not None:
            whole = turning.reshape(width, both, -1)  # a view
            layer.qk_norm.into(whole, whole.copy())
        np.multiply(turning[:, :, ::-1], sin, turned)
        np.multiply(turning, cos, turning)
        np.add(turning[:, :heads], turned[:, :heads], b.queries)
        np.add(turning[:, heads:], turned[:, heads:], slots.keys[begin:end])
        slots.values[begin:end] = halves[:, both:].reshape(width, shape.kv_heads, -1)

    def _new_buffers(self, width: int) -> _Buffers:
        self._buffers[width] = _Buffers.of(width, self._shape, self._ff)
        return self._buffers[width]


def _filling(table: Tensor) -> Callable[[Sequence[int], Floats], None]:
    """What writes the rows `ids` of `table` to x."""
    if table.dtype != torch.bfloat16:
        numbers = table.numpy()

        def fill(ids: Sequence[int], x: Floats) -> None:
            x[:] = numbers[ids[0]] if len(ids) == 1 else numbers.take(ids, 0)

        return fill
    upper = table.view(torch.int16).numpy().view(np.uint16)  # numpy has no bfloat16, the upper half of a float32

    def widen(ids: Sequence[int], x: Floats) -> None:
        bits = x.view(np.uint32)
        bits[:] = upper[ids[0]] if len(ids) == 1 else upper.take(ids, 0)
        bits <<= 16

    return widen


def _gated(gate_up: Floats, b: _Buffers) -> None:
    """silu(gate) * up."""
    ff = b.active.shape[1]
    gate, scratch, active = gate_up[:, :ff], b.gate, b.active
    np.negative(gate, scratch)
    np.exp(scratch, scratch)
    np.add(scratch, 1.0, scratch)
    np.divide(gate, scratch, active)
    np.multiply(active, gate_up[:, ff:], active)
