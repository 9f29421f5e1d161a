"""The kernels of this machine, compiled once a process."""

from __future__ import annotations

from functools import cache

from specterm.kernels.library import ADDRESS, WHOLE, Kernel, Library, named
from specterm.kernels.machine import Machine


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
    types = [ADDRESS, WHOLE, ADDRESS, ADDRESS, WHOLE, ADDRESS, *[WHOLE] * 4, ADDRESS]
    return Library(machine, module).function(f"product_{kind}", types)


@cache
def layers_kernel(machine: Machine, size: int, kinds: tuple[str, ...]) -> Kernel:
    """See `layers.layers`."""
    from llvmlite import ir

    from specterm.models.compiled.layers import layers

    for kind in kinds:
        named(f"product_{kind}", product_kernel(machine, kind))
    module, name = ir.Module("layers"), _layers_name(size, kinds)
    layers(module, machine, size, kinds, name)  # type: ignore[arg-type]
    return Library(machine, module).function(name, [WHOLE, WHOLE, ADDRESS, ADDRESS])


@cache
def model_kernels(
    machine: Machine, size: int, kinds: tuple[str, ...], head: str, table: str, front: tuple[str, str] | None = None
) -> tuple[Kernel, Kernel, Kernel | None]:
    """`forward`, `grow` and `chain`: see `model.model`."""
    from llvmlite import ir

    from specterm.models.compiled.model import model

    for kind in {head, head if front is None else front[1]}:
        named(f"product_{kind}", product_kernel(machine, kind))
    name = _layers_name(size, kinds)
    named(name, layers_kernel(machine, size, kinds))
    module = ir.Module("model")
    model(module, machine, name, head, table, front)  # type: ignore[arg-type]
    library = Library(machine, module)
    forward, grow = library.function("forward", [ADDRESS] * 3), library.function("grow", [ADDRESS] * 2)
    return forward, grow, None if front else library.function("chain", [ADDRESS] * 6)


@cache
def medusa_kernel(machine: Machine, kind: str) -> Kernel:
    """See `medusa.medusa`."""
    from llvmlite import ir

    from specterm.models.compiled.medusa import medusa

    named(f"product_{kind}", product_kernel(machine, kind))
    module = ir.Module("medusa")
    medusa(module, machine, kind)  # type: ignore[arg-type]
    return Library(machine, module).function("medusa", [ADDRESS])


@cache
def move_kernel(machine: Machine) -> Kernel:
    """See `moves.move`."""
    from llvmlite import ir

    from specterm.models.compiled.moves import move

    module = ir.Module("move")
    move(module, machine)
    return Library(machine, module).function("move", [ADDRESS, *[WHOLE] * 5, ADDRESS, WHOLE])


def _layers_name(size: int, kinds: tuple[str, ...]) -> str:
    return "_".join(("layers", str(size), *kinds))
