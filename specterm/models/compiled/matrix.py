"""A matrix that kernels of this machine multiply with."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from specterm.kernels.machine import this_machine
from specterm.models.compiled.kernels import product_kernel

_ROWS_A_THREAD = 24
"""From so many on, further threads are woken."""


class CompiledMatrix:
    """The weight in bfloat16 or half precision where that is exact, else in float32, or in 8 bits; in panels; x is
    float32. A row's result does not depend on how many others there are."""

    gain = 1.0

    def __init__(self, weight: Tensor, bias: Tensor | None = None, *, eight_bits: bool = False) -> None:
        """`weight` is float32, [out, in]; it is not kept. With `eight_bits` it is rounded to those, each output with a
        scale of its own.

        Raises:
            RuntimeError: there are no kernels for this machine.
        """
        from specterm.models.compiled import products, tiles

        machine = this_machine()
        if machine is None:
            raise RuntimeError("no kernels can be compiled for this machine")
        self.out, self.inner = weight.shape
        numbers = "int8" if eight_bits else _exact(weight)
        if machine.tiles and numbers in ("int8", "bfloat16"):
            self.kind, self._columns = f"{numbers}_tiles", tiles.COLUMNS
            self.panels = tiles.laid_out(weight, self.kind)  # type: ignore[arg-type]
        else:
            self.kind, self._columns = numbers, machine.columns
            self.panels = products.laid_out(weight, self.kind, machine)  # type: ignore[arg-type]
        self._panel_bytes = self.panels[0].nbytes
        self._multiply = product_kernel(machine, self.kind)
        self._set_bias(bias)

    def with_bias(self, bias: Tensor) -> CompiledMatrix:
        """The same weights and another bias, [out], float32."""
        other = copy(self)
        other._set_bias(bias)
        return other

    def _set_bias(self, bias: Tensor | None) -> None:
        self.bias = None if bias is None else self.filled(bias)
        """Up to the end of the last panel."""
        self.parameters = self.out * self.inner + (0 if bias is None else self.out)
        self.nbytes = self.panels.nbytes + (0 if self.bias is None else self.bias.nbytes)
        self._begin = self.panels.data_ptr(), 0 if self.bias is None else self.bias.data_ptr()

    def filled(self, bias: Tensor) -> Tensor:
        """`bias`, [out], with zeros up to the end of the last panel."""
        return F.pad(bias.float(), (0, len(self.panels) * self._columns - self.out))

    def __call__(self, x: Tensor) -> Tensor:
        """See `Product`."""
        x = x if x.is_contiguous() else x.contiguous()
        rows = x.numel() // self.inner
        y = torch.empty((*x.shape[:-1], self.out))
        if rows < 2 * _ROWS_A_THREAD:
            self._part(x.data_ptr(), y.data_ptr(), rows, 0, self.out)
            return y
        threads = min(torch.get_num_threads(), rows // _ROWS_A_THREAD, len(self.panels))
        if threads < 2:
            self._part(x.data_ptr(), y.data_ptr(), rows, 0, self.out)
            return y
        a_thread = -(-len(self.panels) // threads) * self._columns
        begins = range(0, self.out, a_thread)
        parts = [
            _pool().submit(self._part, x.data_ptr(), y.data_ptr(), rows, begin, min(a_thread, self.out - begin))
            for begin in begins[1:]
        ]
        self._part(x.data_ptr(), y.data_ptr(), rows, 0, begins.step)
        for part in parts:
            part.result()
        return y

    def _part(self, x: int, y: int, rows: int, begin: int, out: int) -> None:
        """`out` outputs from `begin` on, which is where a panel begins."""
        panels, bias = self._begin
        if begin:
            panels += begin // self._columns * self._panel_bytes
            bias += 4 * begin if bias else 0
        scratch = torch.empty(self.scratch(rows), dtype=torch.uint8)
        self._multiply(
            x, self.inner, panels, y + 4 * begin, self.out, bias, rows, self.inner, out, 0, scratch.data_ptr()
        )

    def scratch(self, rows: int) -> int:
        """Bytes that a product with so many rows needs beside its result."""
        if not self.kind.endswith("_tiles"):
            return 0
        from specterm.models.compiled.tiles import scratch

        return scratch(rows, self.inner, self.kind)  # type: ignore[arg-type]


def in_eight_bits(weight: Tensor, bias: Tensor | None = None) -> CompiledMatrix:
    """`weight`, float32, rounded to 8 bits; see `CompiledMatrix`."""
    return CompiledMatrix(weight, bias, eight_bits=True)


def _exact(weight: Tensor) -> str:
    """The narrowest format that holds every number of `weight`, float32."""
    for name in ("bfloat16", "float16"):
        if torch.equal(weight.to(getattr(torch, name)).float(), weight):
            return name
    return "float32"


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="specterm-product")
