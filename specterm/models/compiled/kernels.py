"""The kernels of this machine, compiled once a process."""

from __future__ import annotations

from dataclasses import dataclass

from specterm.kernels.choosing import use_row_functions, walk_kernel
from specterm.kernels.library import ADDRESS, WHOLE, Kernel, Library, named, once
from specterm.kernels.machine import Machine


@once
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


@once
def layers_kernel(machine: Machine, size: int, kinds: tuple[str, ...]) -> Kernel:
    """See `layers.layers`."""
    from llvmlite import ir

    from specterm.models.compiled.layers import layers

    for kind in kinds:
        named(f"product_{kind}", product_kernel(machine, kind))
    module, name = ir.Module("layers"), _layers_name(size, kinds)
    layers(module, machine, size, kinds, name)  # type: ignore[arg-type]
    return Library(machine, module).function(name, [WHOLE, WHOLE, ADDRESS, ADDRESS])


@dataclass(frozen=True, slots=True)
class ModelKind:
    """What models with the same kernels have alike: the width of a head of theirs, how the weights of a layer's
    products, of the head and of the embeddings are held, and, of heads, how they begin: see `model.forward`."""

    size: int
    kinds: tuple[str, ...]
    head: str
    table: str
    front: tuple[str, str] | None = None

    @property
    def name(self) -> str:
        """Of `forward`."""
        return "_".join(("forward", str(self.size), *self.kinds, self.head, self.table, *(self.front or ())))

    @property
    def chain(self) -> str:
        """Of `chains.chain`."""
        return f"chain_{self.name}"

    @property
    def beams(self) -> str:
        """Of `beams.grow`."""
        return f"grow_{self.name}"


@once
def forward_kernel(machine: Machine, model: ModelKind) -> Kernel:
    """See `model.forward`."""
    from llvmlite import ir

    from specterm.models.compiled.model import forward

    for kind in {model.head, model.head if model.front is None else model.front[1]}:
        named(f"product_{kind}", product_kernel(machine, kind))
    layers = _layers_name(model.size, model.kinds)
    named(layers, layers_kernel(machine, model.size, model.kinds))
    module = ir.Module("forward")
    forward(module, machine, model.name, layers, model.head, model.table, model.front)  # type: ignore[arg-type]
    return Library(machine, module).function(model.name, [ADDRESS] * 3)


@once
def chain_kernel(machine: Machine, model: ModelKind) -> Kernel:
    """See `chains.chain`; not of heads."""
    from llvmlite import ir

    from specterm.models.compiled.chains import chain

    named(model.name, forward_kernel(machine, model))
    module = ir.Module("chain")
    use_row_functions(machine, module)
    chain(module, machine, model.chain, model.name)
    return Library(machine, module).function(model.chain, [ADDRESS] * 6)


@once
def stride_kernel(
    machine: Machine, target: ModelKind, drafts: tuple[ModelKind, ...], *, beams: bool, tree: bool, lookup: bool
) -> Kernel:
    """See `strides.stride`; beams: whether the drafts are grown by these, and are not chains."""
    from llvmlite import ir

    from specterm.models.compiled.strides import Draft, stride

    named("walk", walk_kernel(machine))
    named("move", move_kernel(machine))
    named(target.name, forward_kernel(machine, target))
    for draft in drafts:
        named(draft.beams if beams else draft.chain, (grow_kernel if beams else chain_kernel)(machine, draft))
    module = ir.Module("stride")
    made = [Draft(draft.beams if beams else draft.chain, beams) for draft in drafts]
    stride(module, target.name, made, tree=tree, lookup=lookup)
    return Library(machine, module).function("stride", [ADDRESS])


@once
def grow_kernel(machine: Machine, model: ModelKind) -> Kernel:
    """See `beams.grow`."""
    from llvmlite import ir

    from specterm.models.compiled.beams import grow

    named(model.name, forward_kernel(machine, model))
    module = ir.Module("grow")
    use_row_functions(machine, module)
    grow(module, machine, model.beams, model.name, heads=model.front is not None)
    return Library(machine, module).function(model.beams, [ADDRESS] * 2)


@once
def medusa_kernel(machine: Machine, kind: str) -> Kernel:
    """See `medusa.medusa`."""
    from llvmlite import ir

    from specterm.models.compiled.medusa import medusa

    named(f"product_{kind}", product_kernel(machine, kind))
    module = ir.Module("medusa")
    use_row_functions(machine, module)
    medusa(module, machine, kind)  # type: ignore[arg-type]
    return Library(machine, module).function("medusa", [ADDRESS])


@once
def mlp_kernel(machine: Machine, proj: str, head: str) -> Kernel:
    """See `mlp.mlp`."""
    from llvmlite import ir

    from specterm.models.compiled.mlp import mlp

    for kind in {proj, head}:
        named(f"product_{kind}", product_kernel(machine, kind))
    module = ir.Module("mlp")
    mlp(module, machine, proj, head)  # type: ignore[arg-type]
    return Library(machine, module).function("mlp", [ADDRESS])


@once
def move_kernel(machine: Machine) -> Kernel:
    """See `moves.move`."""
    from llvmlite import ir

    from specterm.models.compiled.moves import move

    module = ir.Module("move")
    move(module, machine)
    return Library(machine, module).function("move", [ADDRESS, *[WHOLE] * 5, ADDRESS, WHOLE])


def _layers_name(size: int, kinds: tuple[str, ...]) -> str:
    return "_".join(("layers", str(size), *kinds))
