"""The kernels of this machine, compiled once a process."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

from specterm.models.compiled.machine import Library, Machine

Kernel: TypeAlias = Callable[..., None]
_ADDRESS, _WHOLE, _REAL = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


@cache
def product_kernel(machine: Machine, kind: str) -> Kernel:
    """See `products.product`; others of Python's threads run while it does."""
    from llvmlite import ir

    from specterm.models.compiled import products, tiles

    module = ir.Module("product")
    if kind.endswith("_tiles"):
        tiles.product(module, kind)  # type: ignore[arg-type]
    else:
        products.product(module, machine, kind)  # type: ignore[arg-type]
    types = [_ADDRESS, _WHOLE, _ADDRESS, _ADDRESS, _WHOLE, _ADDRESS, *[_WHOLE] * 4, _ADDRESS]
    return _function(machine, module, f"product_{kind}", types)


@cache
def layers_kernel(machine: Machine, size: int, kinds: tuple[str, ...]) -> Kernel:
    """See `layers.layers`."""
    from llvmlite import binding, ir

    from specterm.models.compiled.layers import layers

    for kind in kinds:
        product = product_kernel(machine, kind)
        binding.add_symbol(f"product_{kind}", product.address)  # type: ignore[attr-defined]
    module = ir.Module("layers")
    layers(module, machine, size, kinds)  # type: ignore[arg-type]
    return _function(machine, module, "layers", [_WHOLE, _WHOLE, _ADDRESS, _ADDRESS])


@cache
def norm_kernel(machine: Machine) -> Kernel:
    """See `layers.norm`."""
    from llvmlite import ir

    from specterm.models.compiled.layers import norm

    module = ir.Module("norm")
    norm(module, machine)
    return _function(machine, module, "norm", [*[_ADDRESS] * 3, _WHOLE, _WHOLE, _REAL])


def _function(machine: Machine, module: Any, name: str, types: list[Any]) -> Kernel:
    library = Library(machine, module)
    address = library.address(name)
    function = ctypes.CFUNCTYPE(None, *types)(address)
    function.library, function.address = library, address  # type: ignore[attr-defined]  # code goes with its library
    return function
