"""Passes of a Llama model over a few tokens of one row on a CPU in float32; see `RowLayers`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from specterm.decoding.ports import FINAL_NORM, Block
from specterm.models.cache import SlotCache
from specterm.models.masks import Masks
from specterm.models.norm import RmsNorm
from specterm.models.products import Product
from specterm.models.row_layers import Floats, Layer, RowLayers, Sizes, places


class OneRow:
    """Passes of one model over one row at a time; not for two threads at once."""

    def __init__(
        self, sizes: Sizes, norms: Sequence[RmsNorm], layers: Sequence[Layer], table: Tensor, norm: RmsNorm,
        judge: tuple[RmsNorm, Product], cos: Tensor, sin: Tensor, masks: Masks,
    ) -> None:  # fmt: skip
        """norms: those in front of the layers' attention. table: the embeddings, [V, hidden] in any floating dtype of
        at most 32 bits. judge: what gives the logits. cos and `signed` sin: float32 [positions, head_dim]."""
        self._masks, self._max_positions = masks, len(cos)
        self._norms, self._norm = norms, norm
        self._judge_norm, self._judge = judge
        self._fill = filling(table)
        self._layers = RowLayers(sizes, layers, cos, sin)

    def takes(self, block: Block) -> bool:
        """Whether `forward` is for such a block."""
        return self._layers.takes(block)

    def step(self, cache: SlotCache, row: int, slot: int, token: int) -> Tensor:
        """Write one token to a slot of a row of `cache`, which has room and all layers; the logits after it, [V]."""
        return self._pass(cache, row, slot, (token,))[0][0]

    def forward(
        self, cache: SlotCache, block: Block, layers: int, taps: Sequence[int], last: Sequence[int] | None
    ) -> tuple[Tensor, Tensor | None]:
        """Write the tokens of `block` to `cache`, which has room and all `layers` layers.

        last: the only token of each row whose logits are wanted. Returns logits [B, T, V] (or [B, 1, V]) and the states
        at `taps` [B, T, F], None without.
        """
        logits, states = self._pass(
            cache, block.rows[0], block.starts[0] + block.first, block.ids.tolist()[0], block=block, layers=layers,
            taps=taps, last=None if last is None else last[0],
        )  # fmt: skip
        return logits.unsqueeze(0), None if states is None else states.unsqueeze(0)

    def _pass(
        self, cache: SlotCache, row: int, begin: int, ids: Sequence[int], *, block: Block | None = None,
        layers: int | None = None, taps: Sequence[int] = (), last: int | None = None,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """Write `ids` to slots begin, begin + 1, ... of a row of `cache`, which has room and all `layers` layers.

        block: what says how the tokens hang together, a chain unless given; last: the only token whose logits are
        wanted. Returns logits [T, V] (or [1, V]) and the states at `taps` [T, F], None without.
        """
        width = len(ids)
        b = self._layers.buffers(width)
        self._fill(ids, b.x)
        x, normed, normed_tensor = b.x, b.normed, b.normed_tensor
        where = slice(begin, begin + width) if block is None else places(block, self._max_positions)
        mask = None if block is None else self._masks.mask(block)
        here = self._layers.begin(cache, row, begin, width, where, mask)
        tapped: dict[int, Floats] = {}
        for index, norm in enumerate(self._norms[:layers]):
            if index in taps:
                tapped[index] = x.copy()
            norm.into(normed, x)
            self._layers.layer(index, normed_tensor, b, here)
        if FINAL_NORM in taps:
            tapped[FINAL_NORM] = self._norm.into(np.empty_like(x), x)
        states = torch.from_numpy(np.concatenate([tapped[tap] for tap in taps], axis=1)) if taps else None
        if last is None or width == 1:
            self._judge_norm.into(normed, x)
            return self._judge(normed_tensor), states
        self._judge_norm.into(normed[:1], x[last : last + 1])
        return self._judge(normed_tensor[:1]), states


def filling(table: Tensor) -> Callable[[Sequence[int], Floats], None]:
    """What writes the rows `ids` of `table` to x."""
    if table.dtype != torch.bfloat16:
        numbers = table.numpy()

        def fill(ids: Sequence[int], x: Floats) -> None:
            x[:] = numbers[ids[0]] if len(ids) == 1 else numbers.take(ids, 0)

        return fill
    upper = table.view(torch.int16).numpy().view(np.uint16)  # numpy has no bfloat16, the upper half of a float32

    def widen(ids: Sequence[int], x: Floats) -> None:
        np.left_shift(upper[ids[0]] if len(ids) == 1 else upper.take(ids, 0), 16, x.view(np.uint32), dtype=np.uint32)

    return widen
