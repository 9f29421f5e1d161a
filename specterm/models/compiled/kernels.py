"""The kernels of this machine, compiled once a process."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

from specterm.models.compiled.machine import Library, Machine

Kernel: TypeAlias = Callable[..., None]
_ADDRESS, _WHOLE = ctypes.c_void_p, ctypes.c_int64


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
    return _function(Library(machine, module), f"product_{kind}", types)


@cache
def layers_kernel(machine: Machine, size: int, kinds: tuple[str, ...]) -> Kernel:
    """See `layers.layers`."""
    from llvmlite import ir

    from specterm.models.compiled.layers import layers

    for kind in kinds:
        _named(f"product_{kind}", product_kernel(machine, kind))
    module, name = ir.Module("layers"), _layers_name(size, kinds)
    layers(module, machine, size, kinds, name)  # type: ignore[arg-type]
    return _function(Library(machine, module), name, [_WHOLE, _WHOLE, _ADDRESS, _ADDRESS])


@cache
def model_kernels(
    machine: Machine, size: int, kinds: tuple[str, ...], head: str, table: str, front: tuple[str, str] | None = None
) -> tuple[Kernel, Kernel | None]:
    """`forward` and `chain`: see `model.model`."""
    from llvmlite import ir

    from specterm.models.compiled.model import model

    for kind in {head, head if front is None else front[1]}:
        _named(f"product_{kind}", product_kernel(machine, kind))
    name = _layers_name(size, kinds)
    _named(name, layers_kernel(machine, size, kinds))
    module = ir.Module("model")
    model(module, machine, name, head, table, front)  # type: ignore[arg-type]
    library = Library(machine, module)
    forward = _function(library, "forward", [_ADDRESS] * 3)
    return forward, None if front else _function(library, "chain", [_ADDRESS] * 6)


@cache
def top_kernel(machine: Machine) -> Kernel:
    """See `top.top`."""
    from llvmlite import ir

    from specterm.models.compiled.top import top

    module = ir.Module("top")
    top(module, machine)
    return _function(Library(machine, module), "top", [_ADDRESS, *[_WHOLE] * 4, *[_ADDRESS] * 2])


def _layers_name(size: int, kinds: tuple[str, ...]) -> str:
    return "_".join(("layers", str(size), *kinds))


def _named(name: str, kernel: Kernel) -> None:
    """Modules that are linked from now on find it."""
    from llvmlite import binding

    binding.add_symbol(name, kernel.address)  # type: ignore[attr-defined]


def _function(library: Library, name: str, types: list[Any]) -> Kernel:
    address = library.address(name)
    function = ctypes.CFUNCTYPE(None, *types)(address)
    function.library, function.address = library, address  # type: ignore[attr-defined]  # code goes with its library
    return function
