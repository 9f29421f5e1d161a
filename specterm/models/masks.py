"""Masks and positions of a block, from tables where its shape allows: a slice takes the place of a dozen operations."""

from __future__ import annotations

import torch
from torch import Tensor

from specterm.decoding.ports import Block
from specterm.models.attention import grouped_mask
from specterm.models.cache import positions_of, visibility

_WIDEST = 32


class Masks:
    """Of one model: `group` query heads to a KV head, scores in `dtype`."""

    def __init__(self, group: int, dtype: torch.dtype, device: torch.device, max_positions: int) -> None:
        self._group, self._dtype, self._device = group, dtype, device
        self._max_positions = max_positions
        self._chains: dict[int, Tensor] = {}  # by width: what a chain of that width behind `reach` slots sees
        self._reach = 0

    def mask(self, block: Block) -> Tensor | None:
        """The mask of `block`, to be added to the scores: [B, 1, group * T, end]; None where all is seen."""
        width, start, shape = block.width, block.starts[0], block.topology
        if len(block.starts) > 1 and len(set(block.starts)) > 1:
            return grouped_mask(visibility(block), self._group, self._dtype)
        if shape.visible is not None:
            nodes = block.first + width
            return self._tree(shape.visible[:, block.first : nodes, :nodes], start)
        if width > _WIDEST:
            return grouped_mask(visibility(block), self._group, self._dtype)
        if width == 1:
            return None
        begin = start + block.first
        if begin > self._reach:
            self._chains.clear()
            self._reach = max(2 * self._reach, begin, 256)
        if width not in self._chains:
            self._chains[width] = self._chain(width)
        return self._chains[width].narrow(3, self._reach - begin, begin + width)

    def _chain(self, width: int) -> Tensor:
        """A chain behind `reach` slots, [1, 1, group * width, reach + width]; behind fewer, its last columns."""
        table = torch.full((width, width), float("-inf"), dtype=self._dtype, device=self._device).triu_(1)
        before = torch.zeros((width, self._reach), dtype=self._dtype, device=self._device)
        return torch.cat((before, table), dim=1).repeat(self._group, 1).view(1, 1, self._group * width, -1)

    def _tree(self, seen: Tensor, before: int) -> Tensor:
        """What nodes see that see all of the slots `before` them, and `seen`, [R, T, nodes], of the tree."""
        rows, width, nodes = seen.shape
        shape = (rows, 1, self._group, width, before + nodes)
        mask = torch.zeros(shape, dtype=self._dtype, device=self._device)
        mask.narrow(4, before, nodes).masked_fill_(~seen.unsqueeze(1).unsqueeze(1), float("-inf"))
        return mask.view(rows, 1, self._group * width, -1)

    def rotary(self, block: Block, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of the tables `cos` and `sin`, [positions, D], for the tokens of `block`: [B or 1, T, 1, D]."""
        begin = block.starts[0] + block.first
        alone = len(block.starts) == 1 and begin + block.width <= self._max_positions
        if alone and block.topology.chain:
            return tuple(table.narrow(0, begin, block.width).view(1, block.width, 1, -1) for table in (cos, sin))  # type: ignore[return-value]
        positions = positions_of(block, self._max_positions)
        return cos[positions].unsqueeze(2), sin[positions].unsqueeze(2)
