"""Passes of a Llama model over a few tokens of a few rows by kernels of this machine; see `CompiledLayers`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from specterm.decoding.ports import FINAL_NORM, Block
from specterm.models.cache import SlotCache
from specterm.models.compiled.rows import CompiledLayers, places, sight
from specterm.models.norm import RmsNorm
from specterm.models.products import Product
from specterm.models.row_layers import Layer, Sizes
from specterm.models.runners.one_row import filling


class CompiledPasses:
    """Passes of one model; not for two threads at once."""

    def __init__(
        self, sizes: Sizes, norms: Sequence[RmsNorm], layers: Sequence[Layer], table: Tensor, norm: RmsNorm,
        judge: tuple[RmsNorm, Product], cos: Tensor, sin: Tensor, eps: float,
    ) -> None:  # fmt: skip
        """See `OneRow`; the layers `suit`."""
        self._norm = norm
        self._judge_norm, self._judge = judge
        self._fill = filling(table)
        self._count, self._max_positions = len(layers), len(cos)
        self._layers = CompiledLayers(sizes, layers, norms, cos, sin, eps, sizes.hidden)

    def takes(self, block: Block) -> bool:
        """Whether `forward` is for such a block."""
        return self._layers.takes(block)

    def step(self, cache: SlotCache, row: int, slot: int, token: int) -> Tensor:
        """See `OneRow`."""
        passes, b = self._layers, self._layers.buffers(1, 1)
        self._fill((token,), b.x)
        passes.begin(cache, (row,), (slot,), b, None, None)
        passes.run(b, 0, self._count)
        return self._judge(passes.judged(b, self._judge_norm, None))[0]

    def forward(
        self, cache: SlotCache, block: Block, layers: int, taps: Sequence[int], last: Sequence[int] | None
    ) -> tuple[Tensor, Tensor | None]:
        """See `OneRow`."""
        rows, width = len(block.rows), block.width
        passes, b = self._layers, self._layers.buffers(rows, width)
        self._fill(block.ids.flatten().tolist(), b.x)
        begins = [start + block.first for start in block.starts]
        passes.begin(cache, block.rows, begins, b, places(block, self._max_positions), sight(block))
        done = 0
        tapped: dict[int, Tensor] = {}
        for tap in sorted(tap for tap in taps if 0 <= tap < layers):
            passes.run(b, done, tap)
            tapped[tap], done = torch.from_numpy(b.x.copy()), tap
        passes.run(b, done, layers)
        if FINAL_NORM in taps:
            tapped[FINAL_NORM] = passes.normed(b.x, self._norm)
        states = None
        if taps:
            states = tapped[taps[0]] if len(taps) == 1 else torch.cat([tapped[tap] for tap in taps], dim=1)
            states = states.view(rows, width, -1)
        if last is None or rows == 1:
            logits = self._judge(passes.judged(b, self._judge_norm, None if last is None else last[0]))
            return logits.view(rows, -1, logits.shape[1]), states
        picked = b.x[np.arange(rows) * width + np.array(last)]
        return self._judge(passes.normed(picked, self._judge_norm)).unsqueeze(1), states
