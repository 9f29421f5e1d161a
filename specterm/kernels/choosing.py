"""The kernels that know logits only, compiled once a process."""

from __future__ import annotations

from typing import Any

from specterm.kernels.library import ADDRESS, WHOLE, Kernel, Library, once
from specterm.kernels.machine import Machine


@once
def choosing(machine: Machine) -> Library:
    """All of them."""
    from llvmlite import ir

    from specterm.kernels.laws import laws
    from specterm.kernels.top import top
    from specterm.kernels.walk import walk

    module = ir.Module("choosing")
    top(module, machine)
    laws(module, machine)
    walk(module, machine)
    return Library(machine, module)


def top_kernel(machine: Machine) -> Kernel:
    """See `top.top`."""
    return choosing(machine).function("top", [ADDRESS, *[WHOLE] * 4, *[ADDRESS] * 2])


def law_kernels(machine: Machine) -> tuple[Kernel, Kernel]:
    """`law` and `draw`: see `laws.laws`."""
    law = choosing(machine).function("law", [ADDRESS, WHOLE, WHOLE, *[ADDRESS] * 3])
    return law, choosing(machine).function("draw", [ADDRESS, WHOLE, WHOLE, ADDRESS, ADDRESS])


def walk_kernel(machine: Machine) -> Kernel:
    """See `walk.walk`."""
    return choosing(machine).function("walk", [ADDRESS])


def use_row_functions(machine: Machine, module: Any) -> None:
    """A module that is written from now on, and linked next, has those of `top.ROW_FUNCTIONS`."""
    from specterm.kernels.top import ROW_FUNCTIONS, declare_row_functions

    library = choosing(machine)
    for name in ROW_FUNCTIONS:
        library.share(name)
    declare_row_functions(module)
