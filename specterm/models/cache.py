"""The slot KV cache: preallocated, written by slot, rolled back by not advancing a length, compacted by path.

A forward pass writes the keys and values of its tokens behind each row's committed length and reads every slot up to
there; a mask says who sees what. Which slots hold the truth is the caller's knowledge alone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specterm.decoding.ports import Block

Move: TypeAlias = Callable[[int, Sequence[tuple[int, int]]], None]
"""move(row, moves): slot moves[i][1] of the row goes to moves[i][0] in every layer, one after the other."""


@dataclass(frozen=True, slots=True)
class RowSlots:
    """One layer's float32 cache of one row on a CPU, four views: arrays to write to, tensors to attend to."""

    keys: NDArray[np.float32]  # [capacity, kv_heads, 2, head_dim / 2], the halves that the rotation pairs
    values: NDArray[np.float32]  # [capacity, kv_heads, head_dim]
    seen_keys: Tensor  # [1, kv_heads, capacity, head_dim]
    seen_values: Tensor  # likewise

    @staticmethod
    def of(both: Tensor) -> RowSlots:
        """both: [1, 2 * kv_heads, capacity, head_dim], keys first."""
        heads = both.shape[1] // 2
        keys, values = np.split(both.numpy()[0], 2)
        halves = keys.reshape(heads, keys.shape[1], 2, -1)
        return RowSlots(halves.transpose(1, 0, 2, 3), values.transpose(1, 0, 2), both[:, :heads], both[:, heads:])


class SlotCache:
    """Keys and values of all layers, made when a layer first writes: in one buffer [rows, 2 * kv_heads, capacity,
    head_dim] where a layer writes them together, else in two of [rows, kv_heads, capacity, head_dim]."""

    def __init__(self, rows: int, capacity: int) -> None:
        self.rows = rows
        self.capacity = capacity
        self._layers: dict[int, tuple[Tensor, ...]] = {}
        self._taken: dict[int, tuple[Tensor, ...]] = {}  # the buffers of each layer for the rows of `_taken_rows`
        self._taken_rows: tuple[int, ...] = ()
        self._alone: dict[int, RowSlots] = {}  # of each layer for the row `_alone_row`
        self._alone_row = -1
        self._arrays: list[NDArray[np.int16]] = []  # the buffers of a row
        self._arrays_of = -1, -1  # the generation, and the row
        self._block: Block | None = None
        self._together = False  # whether the block's rows follow one another and begin at the same slot
        self._begin = self._end = 0  # the first slot of the block's first row, and one past the last of all
        self._index: tuple[Tensor, Tensor] | None = None
        self.generation = 0
        """Counts the buffers that were made: views of those before are of no use."""
        self.kept: tuple[Hashable, ...] = ()
        """What the caller says that slots at the beginning of row 0 hold; those that are written to are taken off."""

    def begin(self, block: Block) -> None:
        """A forward pass over `block` begins."""
        self._begin, self._end = block.starts[0] + block.first, block.end
        for row, start in zip(block.rows, block.starts, strict=True):
            self.claim(row, start + block.first, self._end)
        self._block = block
        self._index = None
        self._together = len(set(block.starts)) == 1 and follow(block.rows)
        if self._taken_rows != block.rows:
            self._taken_rows, self._taken = block.rows, {}

    def claim(self, row: int, begin: int, end: int) -> None:
        """Slots `begin` to `end` of a row are about to be written.

        Raises:
            ValueError: there are not so many.
        """
        if end > self.capacity:
            raise ValueError(f"slot {end - 1} is beyond the cache's {self.capacity}")
        if row == 0 and begin < len(self.kept):
            self.kept = self.kept[:begin]

    def resize(self, rows: int, capacity: int) -> None:
        """Make the buffers larger or smaller, one after the other; what is in them stays as far as it fits."""
        both = min(rows, self.rows), min(capacity, self.capacity)
        self.rows, self.capacity, self.kept = rows, capacity, self.kept[:capacity]
        self._arrays, self._arrays_of = [], (-1, -1)
        for layer in self.layers():
            old = self._layers.pop(layer)
            self._taken.pop(layer, None)
            self._alone.pop(layer, None)
            new = tuple(self._buffer(buffer) for buffer in old)
            for buffer, before in zip(new, old, strict=True):
                buffer[: both[0], :, : both[1]] = before[: both[0], :, : both[1]]
            self._layers[layer] = new

    def update(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write the block's keys and values, [B, kv_heads, T, head_dim]; returns what its tokens may attend to,
        [B, kv_heads, end, head_dim]."""
        assert self._block is not None, "begin() names the block first"
        if layer not in self._layers:
            self._layers[layer] = (self._buffer(keys), self._buffer(values))
        stored = self._layers[layer]
        self._write(stored[0], keys)
        self._write(stored[1], values)
        return self._read(stored[0]), self._read(stored[1])

    def update_both(self, layer: int, keys_values: Tensor) -> tuple[Tensor, Tensor]:
        """`update` in one go; keys_values: [B, T, 2 * kv_heads, head_dim], keys first."""
        block = self._block
        assert block is not None, "begin() names the block first"
        new = keys_values.transpose(1, 2)
        if layer not in self._layers:
            self._layers[layer] = (self._buffer(new),)
        (stored,) = self._layers[layer]
        heads = new.shape[1] // 2
        if not self._together:
            self._write(stored, new)
            both = self._read(stored)
            return both[:, :heads], both[:, heads:]
        if layer not in self._taken:
            own = stored[block.rows[0] : block.rows[0] + len(block.rows)]
            self._taken[layer] = (own, own[:, :heads], own[:, heads:])
        own, keys, values = self._taken[layer]
        own.narrow(2, self._begin, new.shape[2]).copy_(new)
        return keys.narrow(2, 0, self._end), values.narrow(2, 0, self._end)

    @torch.inference_mode()
    def compact(self, rows: Sequence[int], starts: Sequence[int], path: Tensor, move: Move | None = None) -> None:
        """Move slot starts[b] + path[b, d] to starts[b] + d in every layer; path: int64 [B, D + 1]. move: what moves
        slots of one row on a CPU sooner, if anything does."""
        device = path.device
        if device.type == "cpu":
            for number, start, own in zip(rows, starts, path.tolist(), strict=True):
                # What is repeated at the end of a path, and nodes that follow one another from the root, stay.
                steps = enumerate(pairwise(own), start=1)
                moved = [(start + depth, start + node) for depth, (above, node) in steps if node > max(depth, above)]
                if moved:
                    (move or self._move)(number, moved)
            return
        row = torch.tensor(rows, device=device).unsqueeze(1)
        base = torch.tensor(starts, device=device).unsqueeze(1)
        source, target = base + path, base + torch.arange(path.shape[1], device=device)
        for buffers in self._layers.values():
            for buffer in buffers:
                if len(rows) == 1:
                    own = buffer[rows[0]]
                    own.index_copy_(1, target[0], own.index_select(1, source[0]))
                else:
                    buffer[row, :, target] = buffer[row, :, source]

    def _move(self, row: int, moves: Sequence[tuple[int, int]]) -> None:
        """See `Move`; in numpy, whose copies begin sooner than torch's."""
        if self._arrays_of != (self.generation, row):
            buffers = [buffer[row] for own in self._layers.values() for buffer in own]
            # Whole numbers, as numpy does not know every number format.
            self._arrays = [buffer.view(torch.int16).numpy() for buffer in buffers]
            self._arrays_of = self.generation, row
        for own in self._arrays:
            for target, source in moves:  # which is behind every target so far
                own[:, target] = own[:, source]

    def slots(self, layer: int, row: int, end: int) -> tuple[Tensor, Tensor]:
        """Keys and values of one row up to `end`, [kv_heads, end, head_dim]: for tests and inspection."""
        stored = self._layers[layer]
        keys, values = stored if len(stored) == 2 else stored[0].chunk(2, dim=1)
        return keys[row, :, :end], values[row, :, :end]

    def row_slots(self, layer: int, row: int) -> RowSlots:
        """One row of a layer that writes keys and values together; to be asked for anew in each pass."""
        if self._alone_row != row:
            self._alone_row, self._alone = row, {}
        if layer not in self._alone:
            (stored,) = self._layers[layer]
            self._alone[layer] = RowSlots.of(stored[row : row + 1])
        return self._alone[layer]

    def address(self, layer: int) -> int:
        """Where row 0 begins, on a CPU, of a layer that writes keys and values together; good for one `generation`."""
        (stored,) = self._layers[layer]
        return stored.data_ptr()

    def of_rows(self, layer: int, first: int, count: int) -> Tensor:
        """Keys and values of rows that follow one another, as they lie in the buffer of a layer that writes them
        together: a view, [count, 2 * kv_heads, capacity, head_dim]."""
        (stored,) = self._layers[layer]
        return stored[first : first + count]

    def token_bytes(self) -> int | None:
        """Bytes of the keys and values of one token in all layers that have written; None where none has."""
        buffers = [buffer for own in self._layers.values() for buffer in own]
        return sum(b.shape[1] * b.shape[3] * b.element_size() for b in buffers) or None

    def layers(self) -> list[int]:
        """The layers that have written."""
        return sorted(self._layers)

    def _buffer(self, like: Tensor) -> Tensor:
        self.generation += 1
        # Zeros, not garbage: a masked NaN would still poison the weighted sum.
        shape = (self.rows, like.shape[1], self.capacity, like.shape[3])
        return torch.zeros(shape, dtype=like.dtype, device=like.device)

    def _write(self, buffer: Tensor, new: Tensor) -> None:
        block = self._block
        assert block is not None
        if self._together:
            first, begin = block.rows[0], block.starts[0] + block.first
            buffer[first : first + len(block.rows), :, begin : begin + block.width] = new
            return
        row, slot = self._indices(buffer.device)
        buffer[row, :, slot] = new.transpose(1, 2).to(buffer.dtype)

    def _read(self, buffer: Tensor) -> Tensor:
        block = self._block
        assert block is not None
        if follow(block.rows):  # then reading them is a view
            return buffer[block.rows[0] : block.rows[0] + len(block.rows), :, : block.end]
        return buffer[:, :, : block.end].index_select(0, self._indices(buffer.device)[0].squeeze(1))

    def _indices(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Rows [B, 1] and slots [B, T] of the block."""
        if self._index is None or self._index[0].device != device:
            assert self._block is not None
            row = torch.tensor(self._block.rows, device=device).unsqueeze(1)
            starts = torch.tensor(self._block.starts, device=device).unsqueeze(1) + self._block.first
            self._index = (row, starts + torch.arange(self._block.width, device=device))
        return self._index


def follow(rows: tuple[int, ...]) -> bool:
    """Whether the rows follow one another."""
    return len(rows) == 1 or rows == tuple(range(rows[0], rows[0] + len(rows)))


def positions_of(block: Block, limit: int) -> Tensor:
    """The position of each token of `block`, int64 [B, T]; scratch tokens beyond the context are clamped."""
    starts = torch.tensor(block.starts, device=block.ids.device).unsqueeze(1)
    positions = starts + block.topology.depth[:, block.first : block.first + block.width]
    return positions.clamp(max=limit - 1) if max(block.starts) + block.topology.max_depth >= limit else positions


def visibility(block: Block, window: int | None = None) -> Tensor | None:
    """Which slot each token of `block` sees: bool [B, T, end]; None where every token sees every slot.

    window: the sliding window in positions; a token sees those less than `window` before it.
    """
    width, end, device = block.width, block.end, block.ids.device
    first, shape, rows = block.first, block.topology, len(block.rows)
    alone = width == 1 and (shape.chain or first == 0) and len(set(block.starts)) == 1
    if alone and (window is None or end <= window):
        return None
    starts = torch.tensor(block.starts, device=device).unsqueeze(1)
    seen = sight(starts, first, width, end, shape.visible)
    if window is not None:
        nodes = first + width  # of the tree so far
        relative = torch.arange(end, device=device).unsqueeze(0) - starts
        depth = shape.depth[:, :nodes].expand(rows, nodes)
        # A slot of the tree stands at its node's depth, not at its slot number.
        place = torch.where(relative < 0, relative, depth.gather(1, relative.clamp(0, nodes - 1)))
        seen = seen & (depth[:, first:].unsqueeze(2) - place.unsqueeze(1) < window)
    return seen


def sight(starts: Tensor, first: int, width: int, end: int, visible: Tensor | None) -> Tensor:
    """Which of `end` slots nodes first, first + 1, ... of each row see: bool [B, width, end]. starts: int64 [B, 1];
    visible: see `Topology`."""
    rows, nodes, device = len(starts), first + width, starts.device
    relative = torch.arange(end, device=device).unsqueeze(0) - starts  # [B, end], 0 is the root
    if visible is None:
        return relative.unsqueeze(1) <= torch.arange(first, nodes, device=device).view(1, width, 1)
    index = relative.clamp(0, nodes - 1).unsqueeze(1).expand(rows, width, end)
    inside = (relative >= 0) & (relative < nodes)
    tree = visible[:, first:nodes, :nodes].expand(rows, width, nodes).gather(2, index)
    return (relative < 0).unsqueeze(1) | (tree & inside.unsqueeze(1))
