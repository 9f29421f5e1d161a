"""Passes of a Llama model over a few tokens of one row by kernels of this machine; see `CompiledLayers`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from specterm.decoding.ports import FINAL_NORM, Block
from specterm.models.cache import SlotCache
from specterm.models.compiled.rows import CompiledLayers, places, sight
from specterm.models.norm import RmsNorm
from specterm.models.products import Product
from specterm.models.row_layers import Layer, Sizes
from specterm.models.runners.one_row import filling


class CompiledRow:
    """Passes of one model over one row at a time; not for two threads at once."""

    most_tokens = CompiledLayers.most_tokens

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

    def forward(
        self, cache: SlotCache, row: int, begin: int, ids: Sequence[int], *, block: Block | None = None,
        layers: int | None = None, taps: Sequence[int] = (), last: int | None = None,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """See `OneRow`."""
        passes, b = self._layers, self._layers.buffers(len(ids))
        self._fill(ids, b.x)
        where, seen = (None, None) if block is None else (places(block, self._max_positions), sight(block))
        passes.begin(cache, row, begin, b, where, seen)
        end, done = self._count if layers is None else layers, 0
        tapped: dict[int, Tensor] = {}
        for tap in sorted(tap for tap in taps if 0 <= tap < end):
            passes.run(b, done, tap)
            tapped[tap], done = torch.from_numpy(b.x.copy()), tap
        passes.run(b, done, end)
        if FINAL_NORM in taps:
            tapped[FINAL_NORM] = passes.normed(b.x, self._norm)
        states = None
        if taps:
            states = tapped[taps[0]] if len(taps) == 1 else torch.cat([tapped[tap] for tap in taps], dim=1)
        return self._judge(passes.judged(b, self._judge_norm, last)), states
