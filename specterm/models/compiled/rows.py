"""Transformer layers over a few tokens of a few rows on a CPU, all in one call: see `compiled.layers`."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from ctypes import c_int64
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specterm.decoding.ports import Block
from specterm.kernels.machine import this_machine
from specterm.models.cache import SlotCache
from specterm.models.compiled.attention import QUERIES
from specterm.models.compiled.kernels import layers_kernel, move_kernel
from specterm.models.compiled.layers import LayerWord, PassWord
from specterm.models.compiled.matrix import CompiledMatrix
from specterm.models.norm import RmsNorm
from specterm.models.row_layers import Floats, Layer, Sizes, Through

_POSITIONS, _SEEN, _SEEN_STEP, _NODES = map(
    int, (PassWord.POSITIONS, PassWord.SEEN, PassWord.SEEN_STEP, PassWord.NODES)
)
"""What differs between passes over as many tokens, as plain numbers: members of enums are slow to index with."""


@dataclass(slots=True)
class Buffers:
    """What a pass over T tokens of each of B rows, N together, reads and writes; `words` has the addresses."""

    x: Floats  # [N, hidden], the residual stream
    read: Floats  # flat: what a layer's attention reads, and what is normed
    positions: NDArray[np.int64]  # [N], where they are not those of the slots
    offsets: NDArray[np.int64]  # [B]
    begins: NDArray[np.int64]  # [B]
    words: NDArray[np.int64]
    at: int  # the address of the words, and so of others
    positions_at: int
    rest: tuple[Tensor, ...]

    def reads(self, given: Floats) -> None:
        """The next layer has no norm in front, and reads `given`, [N, width]."""
        self.read[: given.size] = given.ravel()
        self.words[PassWord.READ_WIDTH] = given.shape[1]


class CompiledLayers:
    """The layers of one model; not for two threads at once."""

    most_tokens = 128
    """More, of all rows together, go through torch's operations, which use all threads."""

    def __init__(
        self, sizes: Sizes, layers: Sequence[Layer], norms: Sequence[RmsNorm | None], cos: Tensor, sin: Tensor,
        eps: float, read_width: int, further: Sequence[CompiledMatrix] = (),
    ) -> None:  # fmt: skip
        """norms: in front of each layer's attention, None where that reads what is put into the buffer, `read_width`
        wide. cos and `signed` sin: float32 [positions, head_dim]. All are for layers that `suit`. further:
        products that are to find the scratch memory that they need too."""
        machine = this_machine()
        assert machine is not None, "suit() said so"
        self.machine = machine
        self._sizes, self._eps = sizes, eps
        self._held = layers, norms  # whose memory the words have the addresses of
        self._cos, self._sin, self._read_width = cos.contiguous(), sin.contiguous(), read_width
        self._places = np.arange(len(cos))
        self.places_at = self._places.ctypes.data
        """Of the positions 0, 1, ... of all slots."""
        self._ff = layers[0].down.parameters // sizes.hidden
        self._products = [product for product in layers[0].products() if isinstance(product, CompiledMatrix)]
        self.kinds = tuple(product.kind for product in self._products)
        """Of the weights of a layer's products, which have kernels of their own each."""
        self._products += further
        self._run = layers_kernel(machine, sizes.head_dim, self.kinds)
        self._move = move_kernel(machine)
        self._lanes = machine.lanes
        self._described = np.zeros((len(layers), len(LayerWord)), dtype=np.int64)
        self.described_at = self._described.ctypes.data
        """Of the words that describe the layers."""
        self._biases: list[Tensor] = []
        for words, layer, norm in zip(self._described, layers, norms, strict=True):
            self._describe(words, layer, norm)
        self._buffers: dict[tuple[int, int], Buffers] = {}
        self._capacity = self._row_floats = 0
        self._scores: Floats = np.empty(0, dtype=np.float32)
        self._cache: Callable[[], SlotCache | None] = lambda: None  # a reference that lets it go
        self._generation = 0
        self._seen: Tensor | None = None

    def _describe(self, words: NDArray[np.int64], layer: Layer, norm: RmsNorm | None) -> None:
        words[LayerWord.INPUT_NORM] = 0 if norm is None else norm.address
        words[LayerWord.QK_NORM] = 0 if layer.qk_norm is None else layer.qk_norm.address
        words[LayerWord.MLP_NORM] = layer.mlp_norm.address
        places = LayerWord.QKV, LayerWord.OUT, LayerWord.GATE_UP, LayerWord.DOWN
        for place, product in zip(places, layer.products(), strict=True):
            assert isinstance(product, CompiledMatrix)
            words[place] = product.panels.data_ptr()
        assert isinstance(layer.qkv, CompiledMatrix)
        words[LayerWord.QKV_BIAS] = 0 if layer.qkv.bias is None else layer.qkv.bias.data_ptr()
        if layer.out_bias is not None:
            assert isinstance(layer.out, CompiledMatrix)
            self._biases.append(layer.out.filled(layer.out_bias))
            words[LayerWord.OUT_BIAS] = self._biases[-1].data_ptr()

    def takes(self, block: Block) -> bool:
        """Whether the tokens of `block` are few."""
        return block.ids.numel() <= self.most_tokens

    def buffers(self, rows: int, width: int) -> Buffers:
        """For passes over `width` tokens of so many rows; the same ones each time."""
        found = self._buffers.get((rows, width))
        if found is None:
            found = self._buffers[rows, width] = self.made(rows, width)
        return found

    def made(self, rows: int, width: int) -> Buffers:
        """Others, that are to be told of a cache: see `over`."""
        sizes, count = self._sizes, rows * width
        states = (sizes.heads + 2 * sizes.kv_heads) * sizes.head_dim
        widths = sizes.hidden, max(self._read_width, sizes.hidden), states, sizes.heads * sizes.head_dim, 2 * self._ff
        x, read, qkv, attended, gate_up = tensors = tuple(torch.zeros((count, each)) for each in widths)
        scratch = torch.empty(max(product.scratch(count) for product in self._products), dtype=torch.uint8)
        words = np.zeros(len(PassWord), dtype=np.int64)
        positions, offsets, begins = (np.zeros(each, dtype=np.int64) for each in (count, rows, rows))
        real = words.view(np.float32)[::2]  # the lower halves; all machines with kernels have them first
        real[PassWord.EPS], real[PassWord.SCALE] = self._eps, sizes.head_dim**-0.5
        for word, value in (
            (PassWord.HIDDEN, sizes.hidden),
            (PassWord.HEADS, sizes.heads),
            (PassWord.KV_HEADS, sizes.kv_heads),
            (PassWord.FF, self._ff),
            (PassWord.X, x.data_ptr()),
            (PassWord.READ, read.data_ptr()),
            (PassWord.QKV, qkv.data_ptr()),
            (PassWord.ATTENDED, attended.data_ptr()),
            (PassWord.GATE_UP, gate_up.data_ptr()),
            (PassWord.SCRATCH, scratch.data_ptr()),
            (PassWord.COS, self._cos.data_ptr()),
            (PassWord.SIN, self._sin.data_ptr()),
            (PassWord.ROWS, rows),
            (PassWord.TOKENS, width),
            (PassWord.OFFSETS, offsets.ctypes.data),
            (PassWord.BEGINS, begins.ctypes.data),
        ):
            words[word] = value
        self._tell(words)
        return Buffers(
            x.numpy(), read.view(-1).numpy(), positions, offsets, begins, words, words.ctypes.data,
            positions.ctypes.data, (*tensors, scratch),
        )  # fmt: skip

    def begin(
        self, cache: SlotCache, rows: Sequence[int], begins: Sequence[int], b: Buffers,
        where: NDArray[np.int64] | None, seen: Tensor | None,
    ) -> None:  # fmt: skip
        """A pass over the tokens of `b` at slots begins[r], begins[r] + 1, ... of `rows` of `cache`, of which that has
        room in all layers. where: their positions, [B, T], those of the slots of one row unless given; seen: bool
        [1 or B, T, nodes], None for chains."""
        words = b.words
        if self._generation != cache.generation or self._cache() is not cache:
            self._attach(cache)
        if where is None:
            words[_POSITIONS] = self.places_at + 8 * begins[0]
        else:
            b.positions[:] = where.ravel()
            words[_POSITIONS] = b.positions_at
        for index, (row, begin) in enumerate(zip(rows, begins, strict=True)):
            b.offsets[index], b.begins[index] = row * self._row_floats, begin
        self._seen = seen = None if seen is None else seen.contiguous()  # until the next pass
        words[_SEEN], words[_NODES] = (0, 0) if seen is None else (seen.data_ptr(), seen.shape[-1])
        words[_SEEN_STEP] = 0 if seen is None or len(seen) == 1 else seen[0].numel()

    def move(self, cache: SlotCache, row: int, moves: Sequence[tuple[int, int]]) -> None:
        """Slot moves[i][1] of `row` goes to moves[i][0] in all layers, which `cache` has, one after the other."""
        if self._generation != cache.generation or self._cache() is not cache:
            self._attach(cache)
        told = (c_int64 * (2 * len(moves)))(*[slot for pair in moves for slot in pair])
        self._move(*self._moving(row), told, len(moves))

    def moving(self, cache: SlotCache, row: int) -> tuple[int, ...]:
        """What `moves.move` is told of a row of `cache`, until that is of another generation."""
        if self._generation != cache.generation or self._cache() is not cache:
            self._attach(cache)
        return self._moving(row)

    def _moving(self, row: int) -> tuple[int, ...]:
        sizes, offset = self._sizes, row * self._row_floats
        return self.described_at, len(self._described), offset, 2 * sizes.kv_heads, self._capacity, sizes.head_dim

    def _attach(self, cache: SlotCache) -> None:
        """The passes to come are over this cache."""
        for index, words in enumerate(self._described):
            words[LayerWord.KEYS] = cache.address(index)
        slots = -(-cache.capacity // self._lanes) * self._lanes
        if self._scores.size < QUERIES * slots:
            self._scores = np.empty(QUERIES * slots, dtype=np.float32)
        self._cache, self._generation, self._capacity = weakref.ref(cache), cache.generation, cache.capacity
        self._row_floats = 2 * self._sizes.kv_heads * cache.capacity * self._sizes.head_dim
        for buffers in self._buffers.values():
            self._tell(buffers.words)

    def over(self, cache: SlotCache, row: int, b: Buffers) -> None:
        """The passes of `b`, which was `made`, are over a row of `cache`, until that is of another generation."""
        self.begin(cache, (row,), (0,), b, None, None)
        self._tell(b.words)

    def _tell(self, words: NDArray[np.int64]) -> None:
        """A pass of the cache that it is over."""
        words[PassWord.CAPACITY] = self._capacity
        words[PassWord.SCORES] = self._scores.ctypes.data

    def run(self, b: Buffers, first: int, end: int) -> None:
        """Layers `first` to `end`; the residual stream in `b` goes on."""
        self._run(first, end, self.described_at, b.at)

    def through(self, cache: SlotCache, block: Block, max_positions: int) -> Through:
        """Through layers without input norms with the few tokens of `block`, of which `cache` has room in all
        layers."""
        b = self.buffers(len(block.rows), block.width)
        begins = [start + block.first for start in block.starts]
        self.begin(cache, block.rows, begins, b, places(block, max_positions), sight(block))

        def through(index: int, x: Tensor, residual: Tensor) -> Tensor:
            b.x[:] = residual.numpy().reshape(b.x.shape)
            b.reads(x.numpy().reshape(len(b.x), -1))
            self.run(b, index, index + 1)
            return torch.from_numpy(b.x.copy()).view(residual.shape)

        return through


def suit(sizes: Sizes, layers: Sequence[Layer]) -> bool:
    """Whether there are kernels for the layers: all weights are compiled, alike in each layer, and vectors divide all
    widths."""
    machine = this_machine()
    kinds = {tuple(getattr(product, "kind", None) for product in layer.products()) for layer in layers}
    if machine is None or len(kinds) != 1 or None in next(iter(kinds)):
        return False
    ff = layers[0].down.parameters // sizes.hidden
    return sizes.hidden % machine.lanes == 0 and ff % machine.lanes == 0 and sizes.head_dim % 8 == 0


def sight(block: Block) -> Tensor | None:
    """What the tokens of `block` see of the slots of its tree, bool [1 or B, T, nodes]; None for chains."""
    visible, nodes = block.topology.visible, block.first + block.width
    if visible is None or (block.first == 0 and nodes == visible.shape[2]):
        return visible
    return visible[:, block.first : nodes, :nodes]


def places(block: Block, max_positions: int) -> NDArray[np.int64] | None:
    """The positions of the tokens of `block`, [B, T]; scratch tokens beyond the context are clamped. None where they
    are those of the slots of one row."""
    begin = block.starts[0] + block.first
    if len(block.rows) == 1 and block.topology.chain and begin + block.width <= max_positions:
        return None
    depth: NDArray[np.int64] = block.topology.depth.numpy()[:, block.first : block.first + block.width]
    where: NDArray[np.int64] = depth + np.array(block.starts)[:, None]
    reaches = max(block.starts) + block.topology.max_depth < max_positions
    return where if reaches else np.minimum(where, max_positions - 1, out=where)
