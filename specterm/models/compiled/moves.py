"""Moving the keys and values of accepted nodes together, in all layers."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from specterm.kernels.emitter import FLOAT, I64, POINTER, Emitter
from specterm.kernels.machine import Machine
from specterm.models.compiled.layers import LayerWord


def move(module: Any, machine: Machine) -> None:
    """The function move(layers, count, offset, heads, capacity, size, moves, moved) of `module`: in each of `count`
    layers, see `LayerWord`, and of all `heads` of keys and values of the row whose cache begins `offset` floats behind
    the first one's, slot moves[i, 1] goes to moves[i, 0], one after the other. moves: int64 [moved, 2]; a head is
    `size` floats wide, a multiple of eight."""
    e = Emitter(module, "move", [POINTER, *[I64] * 5, POINTER, I64], shared=True)
    layers, count, offset, heads, capacity, size, moves, moved = e.arguments
    b, vector = e.b, ir.VectorType(FLOAT, min(8, machine.lanes))
    with e.loop(0, count) as layer:
        place = b.add(b.mul(layer, I64(len(LayerWord))), I64(int(LayerWord.KEYS)))
        own = e.at(e.load(e.at(layers, place, I64), POINTER), offset)
        with e.loop(0, heads) as head, e.loop(0, moved) as number:
            pair = e.at(moves, b.mul(number, I64(2)), I64)
            target, source = (
                e.at(own, b.mul(b.add(b.mul(head, capacity), e.load(e.at(pair, i, I64), I64)), size)) for i in (0, 1)
            )
            with e.loop(0, size, vector.count) as i:
                e.store(e.load(e.at(source, i), vector), e.at(target, i))
    e.end()
