"""Products with weight matrices, and how a matrix is held so that few rows go through it fast.

Decoding multiplies one row, or a handful, with every matrix of the model, so reading the matrix is what costs. On CPUs
torch's plain kernels for that are slow: the float32 ones read four bytes a weight, those for bfloat16 are made for
instructions that most CPUs lack. `CompiledMatrix` holds a matrix in 16 bits a weight and multiplies in float32 on one
thread, with a handful of rows in hardly more time than with one: weights that were stored in 16 bits stay exactly what
they are. Large matrices are worth all threads (`HalfPacked`), or instructions for bfloat16 (`Bfloat16Packed`).
"""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from specterm.kernels.machine import this_machine
from specterm.models.compiled.matrix import CompiledMatrix, in_eight_bits
from specterm.models.devices import cpu_has_bf16

_SUBNORMAL = 2.0**-25
"""Half precision rounds numbers below its normal range by at most this."""
_PROBED_WEIGHTS = 1 << 23
_WORTH = 0.5, 0.8
"""Other ways must take less than this part of a compiled product's time, for few and for `_MANY_WEIGHTS`: behind
compiled products the rest of a layer is compiled too, which counts where matrices are small."""
_FEW_WEIGHTS = 1 << 18
"""One thread has multiplied so many before others have begun."""
_MANY_WEIGHTS = 1 << 22
"""What is quicker with so many is so with more."""
_PASSES = 5
_PACKED_FOR = 8
"""oneDNN lays weights out for so many rows, and multiplies other numbers of them as well."""

TARGET_WIDTHS = (1, 5, 20)
"""Rows of a target's products: decoding alone, verifying a chain, verifying a tree."""
DRAFT_WIDTHS = (1, 3)
"""Rows of a drafter's: a chain, or the branches of a tree."""


class Product(Protocol):
    """x [..., in] times the transposed weight [out, in], plus the bias.

    `gain`, a power of two, is taken out of the weights: what is to be multiplied must be divided by it, or what comes
    out (then there is no bias), wherever that costs nothing. parameters, nbytes: the weights, and what they take.
    """

    gain: float
    parameters: int
    nbytes: int

    def __call__(self, x: Tensor) -> Tensor: ...


Packing: TypeAlias = Callable[[Tensor, Tensor | None], Product]
"""A product from a weight in float32, [out, in], and perhaps a bias."""


class Plain:
    """The weight as it is."""

    gain = 1.0

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self._weight, self._bias = weight, bias
        self.parameters = weight.numel() + (0 if bias is None else bias.numel())
        self.nbytes = self.parameters * weight.element_size()

    def __call__(self, x: Tensor) -> Tensor:
        """See `Product`; x has the weight's dtype."""
        return F.linear(x, self._weight, self._bias)


class HalfPacked:
    """The weight in half precision, times the power of two that keeps even the smallest weights, in FBGEMM's layout; x
    is float32. All of torch's threads multiply, which pays for large matrices."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """`weight` is float32 and `packs_exactly`; it is not kept.

        Raises:
            AttributeError, RuntimeError: torch cannot pack here.
        """
        self.gain = _gain(weight)
        self.parameters, self.nbytes = _held(weight, bias)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says once that it is to go some day
            self._packed: Any = torch.ops.quantized.linear_prepack_fp16(weight * self.gain, bias)
        by_name = torch.ops.quantized.linear_dynamic_fp16.default
        # What it calls in the end; before that it looks for stand-ins among its arguments, a fifth of a small product.
        self._multiply: Callable[..., Tensor] = getattr(by_name, "_op", by_name)

    def __call__(self, x: Tensor) -> Tensor:
        """See `Product`."""
        return self._multiply(x, self._packed)


class Bfloat16Packed:
    """The weight in bfloat16, in oneDNN's layout. x is float32; it is rounded to bfloat16, and so is what comes out,
    which is float32 again. A row's result does not depend on how many others there are, up to a few dozen."""

    gain = 1.0

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """`weight` is float32, exactly what it is in bfloat16; it is not kept.

        Raises:
            AttributeError, RuntimeError: torch cannot pack here.
        """
        self._bias = bias
        by_name = torch.ops.mkldnn._linear_pointwise.default
        self._multiply: Callable[..., Tensor] = getattr(by_name, "_op", by_name)
        self._packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.bfloat16(), _PACKED_FOR)
        self._multiply(torch.zeros((1, weight.shape[1]), dtype=torch.bfloat16), self._packed, None, "none", [], None)
        self.parameters, self.nbytes = _held(weight, bias)

    def __call__(self, x: Tensor) -> Tensor:
        """See `Product`."""
        y = self._multiply(x.bfloat16(), self._packed, None, "none", [], None).float()
        return y if self._bias is None else y.add_(self._bias)


class Rescaled:
    """`product` with what its gain did undone, and a bias behind it."""

    gain = 1.0

    def __init__(self, product: Product, bias: Tensor | None = None) -> None:
        self._product, self._bias = product, bias
        self.parameters = product.parameters + (0 if bias is None else bias.numel())
        self.nbytes = product.nbytes + (0 if bias is None else bias.nbytes)

    def __call__(self, x: Tensor) -> Tensor:
        """See `Product`."""
        y = self._product(x).mul_(1.0 / self._product.gain)
        return y if self._bias is None else y.add_(self._bias)


def unscaled(product: Product, bias: Tensor | None = None) -> Product:
    """`product` with a gain of one, and a bias behind it."""
    if isinstance(product, CompiledMatrix):
        return product if bias is None else product.with_bias(bias)
    return Rescaled(product, bias)


class PackedLinear:
    """`F.linear` for a module that decodes on a CPU: weights that were packed are known by the tensor that is held in
    their place."""

    def __init__(self, pack: Packing) -> None:
        self._pack = pack
        self._products: dict[int, Product] = {}
        self.nbytes = 0
        """What the packed weights take, the narrow copies included."""

    def pack(self, weight: Tensor) -> Tensor:
        """Pack `weight`, [out, in], float32, that `may_hold` it; returns the narrow copy that is to be
        passed in its place from now on, and to be kept as long as this object."""
        product, narrow = self._pack(weight, None), narrowest(weight)
        self._products[id(narrow)] = product
        self.nbytes += product.nbytes + narrow.nbytes
        return narrow

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """See `F.linear`."""
        product = self._products.get(id(weight))
        return F.linear(x, weight, bias) if product is None else unscaled(product, bias)(x)

    def product(self, weight: Tensor) -> Product:
        """The product with `weight`, which may have been packed."""
        return self._products.get(id(weight)) or Plain(weight)


def packs_exactly(weight: Tensor) -> bool:
    """Whether half precision holds `weight` (float32): exactly, but for what is less than 2^-29 of the largest weight,
    which is rounded by less than 2^-39 of it, far below what float32 products round."""
    scaled = weight * _gain(weight)
    return _largest(scaled.half().float().sub_(scaled)) <= _SUBNORMAL  # false where there is a NaN or an infinity


def quickest(weight: Tensor, dtype: torch.dtype, widths: Sequence[int]) -> Packing | None:
    """How matrices like `weight` (of `dtype`, on its device) are packed for products that take the least time, with
    `widths` rows in turn, of those ways that are there and lose nothing of `dtype`; None where plain products do. A
    measurement of some milliseconds, of a tenth of a second with large matrices."""
    if weight.device.type != "cpu" or dtype not in (torch.float32, torch.bfloat16):
        return None
    part = weight[: max(1, _PROBED_WEIGHTS // weight.shape[1])]
    full = part.float()
    plain = _probe(Plain(part), dtype, full.shape[1], widths)

    def against_plain(product: Product) -> float:
        took = _probe(product, torch.float32, full.shape[1], widths)
        return sum(own / other for own, other in zip(took, plain, strict=True)) / len(plain)

    took: dict[Packing | None, float] = {None: 1.0}
    if this_machine() is not None:
        took[CompiledMatrix] = _worth(weight.numel()) * against_plain(CompiledMatrix(full))
    # Torch may be without FBGEMM or oneDNN, or the CPU too old for them.
    if torch.get_num_threads() > 1 and packs_exactly(full):
        with contextlib.suppress(AttributeError, RuntimeError):
            took[half_packed] = against_plain(half_packed(full))
    if dtype == torch.bfloat16 and cpu_has_bf16():
        with contextlib.suppress(AttributeError, RuntimeError):
            took[Bfloat16Packed] = against_plain(Bfloat16Packed(full))
    return min(took, key=took.__getitem__)


def for_drafting(weight: Tensor, eight_bits: bool) -> Packing | None:
    """How a drafter's matrices like `weight` are packed, which decodes in float32: with `eight_bits` rounded to those,
    else as is `quickest`."""
    return in_eight_bits if eight_bits else quickest(weight, torch.float32, DRAFT_WIDTHS)


def may_hold(pack: Packing, weight: Tensor) -> bool:
    """Whether `weight`, float32, is as it was in what `pack` makes of it, or is meant to be rounded."""
    return pack in (CompiledMatrix, in_eight_bits) or packs_exactly(weight)


def half_packed(weight: Tensor, bias: Tensor | None = None) -> Product:
    """`weight`, float32 and `packs_exactly`, for products on one thread or on all, whichever take less time."""
    return packed_quickest(weight)(weight, bias)


def packed_quickest(weight: Tensor) -> type[CompiledMatrix] | type[HalfPacked]:
    """How a matrix of the shape of `weight` is packed for products that take the least time: threads that must be
    woken for a small one cost more than they bring.

    Raises:
        AttributeError, RuntimeError: torch cannot pack here.
    """
    threads = torch.get_num_threads()
    if this_machine() is None:
        return HalfPacked
    if threads == 1 or weight.numel() < _FEW_WEIGHTS:
        return CompiledMatrix
    rows, columns = weight.shape
    return HalfPacked if _threads_pay(min(rows, _MANY_WEIGHTS // columns + 1), columns, threads) else CompiledMatrix


@lru_cache
def _threads_pay(rows: int, columns: int, threads: int) -> bool:
    """A measurement of some milliseconds, with so many of torch's threads."""
    weight = torch.zeros((rows, columns))
    alone, together = (
        sum(_probe(way(weight), torch.float32, columns, DRAFT_WIDTHS)) for way in (CompiledMatrix, HalfPacked)
    )
    return together < _worth(rows * columns) * alone


def _worth(weights: int) -> float:
    return _WORTH[weights >= _MANY_WEIGHTS]


def narrowest(table: Tensor) -> Tensor:
    """`table` in bfloat16 or float16 where that holds every number of it; else the table itself."""
    for dtype in (torch.bfloat16, torch.float16):
        if torch.equal(narrow := table.to(dtype), table) or torch.equal(narrow.to(table.dtype), table):
            return narrow
    return table


def _held(weight: Tensor, bias: Tensor | None) -> tuple[int, int]:
    """Weights, and bytes of them at 16 bits each."""
    if bias is None:
        return weight.numel(), 2 * weight.numel()
    return weight.numel() + bias.numel(), 2 * weight.numel() + bias.nbytes


def _largest(weight: Tensor) -> float:
    low, high = torch.aminmax(weight)
    return max(-float(low), float(high)) if bool(low <= high) else math.nan  # a NaN is both


def _gain(weight: Tensor) -> float:
    largest = _largest(weight)
    return 2.0 ** (14 - math.floor(math.log2(largest))) if 0.0 < largest < math.inf else 1.0


@torch.inference_mode()
def _probe(product: Product, dtype: torch.dtype, columns: int, widths: Sequence[int]) -> list[float]:
    """Seconds of a product with so many rows each: the quickest of some."""
    quickest_of = []
    for rows in widths:
        x = torch.zeros((rows, columns), dtype=dtype)
        took = []
        for _ in range(1 + _PASSES):
            began = time.perf_counter()
            product(x)
            took.append(time.perf_counter() - began)
        quickest_of.append(min(took[1:]))
    return quickest_of
