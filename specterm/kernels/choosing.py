"""The kernels that know logits only, compiled once a process."""

from __future__ import annotations

from functools import cache

from specterm.kernels.library import ADDRESS, WHOLE, Kernel, Library
from specterm.kernels.machine import Machine


@cache
def top_kernel(machine: Machine) -> Kernel:
    """See `top.top`."""
    from llvmlite import ir

    from specterm.kernels.top import top

    module = ir.Module("top")
    top(module, machine)
    return Library(machine, module).function("top", [ADDRESS, *[WHOLE] * 4, *[ADDRESS] * 2])


@cache
def law_kernels(machine: Machine) -> tuple[Kernel, Kernel]:
    """`law` and `draw`: see `laws.laws`."""
    from llvmlite import ir

    from specterm.kernels.laws import laws

    module = ir.Module("laws")
    laws(module, machine)
    library = Library(machine, module)
    law = library.function("law", [ADDRESS, WHOLE, WHOLE, *[ADDRESS] * 3])
    return law, library.function("draw", [ADDRESS, WHOLE, WHOLE, ADDRESS, ADDRESS])


@cache
def walk_kernel(machine: Machine) -> Kernel:
    """See `walk.walk`."""
    from llvmlite import ir

    from specterm.kernels.walk import walk

    module = ir.Module("walk")
    walk(module, machine)
    return Library(machine, module).function("walk", [ADDRESS])
