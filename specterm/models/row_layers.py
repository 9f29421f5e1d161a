"""Transformer layers over a few tokens of one row on a CPU in float32: products and attention are torch's, the rest is
numpy's.

With one token, or a handful, a layer is some twenty operations on a few thousand numbers. Numpy begins such an
operation in a third of the time that torch takes, and writes into memory that is there already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from specterm.decoding.ports import Block
from specterm.models.cache import RowSlots, SlotCache
from specterm.models.norm import RmsNorm
from specterm.models.products import Product

Floats: TypeAlias = NDArray[np.float32]
Where: TypeAlias = slice | NDArray[np.int64]
Through: TypeAlias = Callable[[int, Tensor, Tensor], Tensor]
"""The residual stream behind the layer of that number, [B, T, H], from what its attention reads, [B, T, width], and the
stream in front of it, [B, T, H]."""


class Sizes(Protocol):
    """Of every layer of a model."""

    @property
    def hidden(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def kv_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer behind its input norm; q, k and v stacked, gate and up stacked. What goes into qkv is divided by its
    gain already, the other norms divide by the gain of the product behind them."""

    qkv: Product
    qk_norm: RmsNorm | None
    out: Product
    out_bias: Tensor | None
    mlp_norm: RmsNorm
    gate_up: Product
    down: Product

    def norms(self) -> list[RmsNorm]:
        """All of them."""
        return [self.mlp_norm, *([] if self.qk_norm is None else [self.qk_norm])]

    def products(self) -> tuple[Product, ...]:
        """All of them."""
        return self.qkv, self.out, self.gate_up, self.down


@dataclass(slots=True)
class Buffers:
    """What a pass over T tokens writes to; each tensor is the memory of the array named like it."""

    x: Floats  # [T, hidden], the residual stream
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
    def of(tokens: int, sizes: Sizes, ff: int) -> Buffers:
        """For so many tokens, and a feed-forward part of width `ff`."""
        heads, size = sizes.heads, sizes.head_dim
        x, normed, active, gate, attended = (
            torch.empty((tokens, width)) for width in (sizes.hidden, sizes.hidden, ff, ff, heads * size)
        )
        queries = torch.empty((1, sizes.kv_heads, heads // sizes.kv_heads * tokens, size))
        return Buffers(
            x.numpy(), normed.numpy(), normed, active.numpy(), active, gate.numpy(),
            np.empty((tokens, heads + sizes.kv_heads, 2, size // 2), dtype=np.float32),
            queries.numpy().reshape(heads, tokens, 2, size // 2).transpose(1, 0, 2, 3), queries,
            attended.numpy().reshape(tokens, heads, size), attended,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class RowPass:
    """A pass over the tokens of slots `begin` to `end` of a row of `cache`; cosines and sines of their positions,
    [T, 1, 2, head_dim / 2], and who sees what: see `Masks.mask`."""

    cache: SlotCache
    row: int
    begin: int
    end: int
    cos: Floats
    sin: Floats
    mask: Tensor | None


class RowLayers:
    """The layers of one model, over one row at a time; not for two threads at once."""

    most_tokens = 16
    """Torch's own operations win where there are more."""

    def __init__(self, sizes: Sizes, layers: Sequence[Layer], cos: Tensor, sin: Tensor) -> None:
        """cos and `signed` sin: float32 [positions, head_dim]."""
        self._sizes, self._layers = sizes, layers
        self._cos, self._sin = (table.numpy().reshape(len(table), 1, 2, -1) for table in (cos, sin))
        self._ff = layers[0].down.parameters // sizes.hidden
        self._buffers: dict[int, Buffers] = {}

    def takes(self, block: Block) -> bool:
        """Whether the tokens of `block` are few, and of one row."""
        return len(block.rows) == 1 and block.width <= self.most_tokens

    def buffers(self, width: int) -> Buffers:
        """For passes over `width` tokens; the same ones each time."""
        found = self._buffers.get(width)
        if found is None:
            found = self._buffers[width] = Buffers.of(width, self._sizes, self._ff)
        return found

    def begin(self, cache: SlotCache, row: int, begin: int, width: int, where: Where, mask: Tensor | None) -> RowPass:
        """A pass over `width` tokens behind slot `begin`, of which `cache` has room in all layers, at the positions
        `where`."""
        return RowPass(cache, row, begin, begin + width, self._cos[where], self._sin[where], mask)

    @np.errstate(over="ignore")  # of exp(-gate): an infinity makes the 0 that is meant
    def layer(self, index: int, read: Tensor, b: Buffers, here: RowPass) -> None:
        """Layer `index`, whose attention reads `read`, [T, width]; the residual stream in `b` goes on."""
        layer, width, x = self._layers[index], len(b.x), b.x
        slots = here.cache.row_slots(index, here.row)
        self._turn(layer, layer.qkv(read).numpy(), b, slots, here)
        keys, values = slots.seen_keys.narrow(2, 0, here.end), slots.seen_values.narrow(2, 0, here.end)
        attended = F.scaled_dot_product_attention(b.queries_tensor, keys, values, here.mask)
        if width == 1:
            attended = attended.view(1, -1)
        else:
            b.attended[:] = attended.numpy().reshape(-1, width, self._sizes.head_dim).transpose(1, 0, 2)
            attended = b.attended_tensor
        added = layer.out(attended).numpy()
        added *= 1.0 / layer.out.gain
        x += added
        if layer.out_bias is not None:
            x += layer.out_bias.numpy()
        layer.mlp_norm.into(b.normed, x)
        _gated(layer.gate_up(b.normed_tensor).numpy(), b)
        added = layer.down(b.active_tensor).numpy()
        added *= 1.0 / layer.down.gain
        x += added

    def _turn(self, layer: Layer, qkv: Floats, b: Buffers, slots: RowSlots, here: RowPass) -> None:
        """Queries, turned to their positions, to their buffer; turned keys, and values, to their slots."""
        sizes, width = self._sizes, len(qkv)
        heads, both = sizes.heads, sizes.heads + sizes.kv_heads
        halves = qkv.reshape(width, both + sizes.kv_heads, 2, -1)
        turning, turned = halves[:, :both], b.turned
        if layer.qk_norm is not None:
            whole = turning.reshape(width, both, -1)  # a view
            layer.qk_norm.into(whole, whole.copy())
        np.multiply(turning[:, :, ::-1], here.sin, turned)
        np.multiply(turning, here.cos, turning)
        np.add(turning[:, :heads], turned[:, :heads], b.queries)
        np.add(turning[:, heads:], turned[:, heads:], slots.keys[here.begin : here.end])
        slots.values[here.begin : here.end] = halves[:, both:].reshape(width, sizes.kv_heads, -1)


def places(block: Block, max_positions: int) -> Where:
    """The positions of the tokens of `block`, which has one row; scratch tokens beyond the context are clamped."""
    begin = block.starts[0] + block.first
    if block.topology.chain and begin + block.width <= max_positions:
        return slice(begin, begin + block.width)
    depth: NDArray[np.int64] = block.topology.depth[0].numpy()[block.first : block.first + block.width]
    return np.minimum(depth + block.starts[0], max_positions - 1)


def _gated(gate_up: Floats, b: Buffers) -> None:
    """silu(gate) * up."""
    ff = b.active.shape[1]
    gate, scratch, active = gate_up[:, :ff], b.gate, b.active
    np.negative(gate, scratch)
    np.exp(scratch, scratch)
    np.add(scratch, 1.0, scratch)
    np.divide(gate, scratch, active)
    np.multiply(active, gate_up[:, ff:], active)
