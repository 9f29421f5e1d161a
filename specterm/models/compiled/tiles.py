"""Products of bfloat16 weights by matrix units (Intel's AMX): up to sixteen tokens for one reading of the weights.

The unit multiplies bfloat16 by bfloat16 and sums in float32. An activation goes in as three bfloat16 numbers whose sum
it is, each a row of its own, so nothing is rounded that float32 would have kept. What comes out of a row does not
depend on the rows beside it. The matrix lies in panels of two tiles' columns, all weights of two inputs side by side;
a walk through memory.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from torch import Tensor

from specterm.models.compiled.emitter import FLOAT, I8, I16, I32, I64, POINTER, VOID, Emitter, Value
from specterm.models.compiled.products import ARGUMENTS

COLUMNS = 32
"""Of a panel: two tiles."""
INPUTS = 32
"""That one instruction multiplies."""
GROUP = 16
"""Tokens that go together: their parts fill three tiles."""
_PARTS = 3
_LANES = 16
_TILE = 1024
"""Bytes: 16 rows of 64."""
_ROW = 64
_ROWS_AT = 48
"""Where the processor looks for how many rows each tile has."""
_STEP = 2 * _TILE
"""Bytes of weights that one instruction a tile needs."""
_AHEAD = 4096
"""Bytes that are asked for before they are needed."""


def laid_out(weight: Tensor) -> Tensor:
    """`weight`, [out, in], float32, in panels: [panels, in / 2, columns, 2], bfloat16; both are filled up with zeros to
    whole tiles."""
    out, inner = weight.shape
    panels, steps = -(-out // COLUMNS), -(-inner // INPUTS)
    padded = weight.new_zeros((panels * COLUMNS, steps * INPUTS))
    padded[:out, :inner] = weight
    pairs = padded.view(panels, COLUMNS, steps * INPUTS // 2, 2).transpose(1, 2)
    return pairs.bfloat16().contiguous()


def scratch(rows: int, inner: int) -> int:
    """Bytes that a product needs for the parts of its activations."""
    return -(-rows // GROUP) * -(-inner // INPUTS) * _PARTS * _TILE


def product(module: Any) -> None:
    """The function product_tiles(...) of `module`, like that of `products.product`."""
    few = [_micro_kernel(module, tiles) for tiles in range(1, _PARTS + 1)]
    split = _split(module)
    e = Emitter(module, "product_tiles", ARGUMENTS, shared=True)
    x, x_step, weight, y, y_step, bias, rows, inner, out, add, parts = e.arguments
    b = e.b
    _configure(e, rows)
    steps = b.sdiv(b.add(inner, I64(INPUTS - 1)), I64(INPUTS))
    with e.loop(0, rows) as row:
        b.call(split, [e.at(x, b.mul(row, x_step)), parts, row, inner, steps])
    panel_size = b.mul(steps, I64(_STEP))
    walks = b.sdiv(b.add(rows, I64(GROUP - 1)), I64(GROUP))
    alone = b.icmp_signed("==", walks, I64(1))
    share, pace = b.sdiv(panel_size, walks), b.sdiv(I64(_STEP), walks)
    at = e.variable(POINTER, weight)
    with e.loop(0, out, COLUMNS) as column:
        panel = b.load(at, typ=POINTER)
        left = b.sub(out, column)
        with e.loop(0, walks) as walk:
            row = b.mul(walk, I64(GROUP))
            beyond = b.sub(rows, row)
            count = b.select(b.icmp_signed("<", beyond, I64(GROUP)), beyond, I64(GROUP))
            ahead = b.select(alone, I64(_AHEAD), b.add(panel_size, b.mul(walk, share)))
            own = e.at(parts, b.mul(walk, b.mul(steps, I64(_PARTS * _TILE))), I8)
            arguments = [own, panel, e.at(e.at(y, b.mul(row, y_step)), column), y_step, bias, column, steps, left, add,
                         count, ahead, pace]  # fmt: skip
            behind = e.function.append_basic_block("behind")
            tiles = b.sdiv(b.add(b.mul(count, I64(_PARTS)), I64(15)), I64(16))
            choice = b.switch(tiles, full := e.function.append_basic_block("full"))
            for number, kernel in enumerate(few, start=1):
                block = full if number == _PARTS else e.function.append_basic_block("few")
                if number < _PARTS:
                    choice.add_case(I64(number), block)
                b.position_at_end(block)
                b.call(kernel, arguments)
                b.branch(behind)
            b.position_at_end(behind)
        b.store(b.gep(panel, [panel_size], source_etype=I8), at)
    e.call("llvm.x86.tilerelease", VOID)
    e.end()


def _configure(e: Emitter, rows: Value) -> None:
    """All eight tiles have 16 rows of 64 bytes; those of activations and sums only as many as a few tokens need."""
    b = e.b
    layout = struct.pack("<BB14x16H16B", 1, 0, *[_ROW] * 8, *[0] * 8, *[16] * 8, *[0] * 8)
    kind = ir.ArrayType(I8, len(layout))
    room = e.variable(kind, ir.Constant(kind, bytearray(layout)))
    few = b.icmp_signed("<=", rows, I64(16 // _PARTS))
    count = b.select(few, b.trunc(b.mul(rows, I64(_PARTS)), I8), I8(16))
    for register in (*_registers(1)[0], *range(2)):
        e.store(count, e.at(room, _ROWS_AT + register, I8))
    e.call("llvm.x86.ldtilecfg", VOID, room)


def _split(module: Any) -> Any:
    """split(x, parts, row, inner, steps): one row's activations as bfloat16 numbers: the first has the upper 8 bits of
    each, the second the next 8, the third the rest."""
    e = Emitter(module, "split", [POINTER, POINTER, I64, I64, I64])
    x, parts, row, inner, steps = e.arguments
    b = e.b
    vector, words, halves = (ir.VectorType(kind, _LANES) for kind in (FLOAT, I32, I16))
    upper, sixteen = ir.Constant(words, [0xFFFF0000] * _LANES), ir.Constant(words, [16] * _LANES)
    group = e.at(parts, b.mul(b.sdiv(row, I64(GROUP)), b.mul(steps, I64(_PARTS * _TILE))), I8)
    first = b.mul(b.srem(row, I64(GROUP)), I64(_PARTS))

    def put(step: Value, source: Value) -> None:
        for half in (0, 1):
            left = e.load(e.at(source, half * _LANES), vector)
            for part in range(_PARTS):
                bits = b.and_(b.bitcast(left, words), upper)
                left = b.fsub(left, b.bitcast(bits, vector))
                place = b.add(first, I64(part))
                tile = b.add(b.mul(b.sdiv(place, I64(16)), steps), step)
                offset = b.add(b.mul(tile, I64(_TILE)), b.mul(b.srem(place, I64(16)), I64(_ROW)))
                e.store(b.trunc(b.lshr(bits, sixteen), halves), e.at(group, b.add(offset, I64(half * _ROW // 2)), I8))

    whole = b.sdiv(inner, I64(INPUTS))
    with e.loop(0, whole) as step:
        put(step, e.at(x, b.mul(step, I64(INPUTS))))
    with b.if_then(b.icmp_signed("<", whole, steps)):
        last = e.variable(ir.ArrayType(FLOAT, INPUTS))
        for half in (0, 1):
            e.store(ir.Constant(vector, None), e.at(last, half * _LANES))
        done = b.mul(whole, I64(INPUTS))
        with e.loop(0, b.sub(inner, done)) as i:
            e.store(e.load(e.at(x, b.add(done, i))), e.at(last, i))
        put(whole, last)
    e.end()
    return e.function


def _registers(tiles: int) -> tuple[Sequence[int], Sequence[int]]:
    """Those of the activations and of the two tiles of weights; the sums have the first 2 * tiles of all eight. With
    three tiles of activations these take turns in one, and the weights in another."""
    return ((6, 6, 6), (7, 7)) if tiles == _PARTS else ((4, 5)[:tiles], (6, 7))


def _micro_kernel(module: Any, tiles: int) -> Any:
    """One panel with up to 16 tokens, whose parts are in so many tiles."""
    kinds = [POINTER, POINTER, POINTER, I64, POINTER, *[I64] * 7]
    e = Emitter(module, f"panel_tiles_{tiles}", kinds)
    parts, panel, y, y_step, bias, column, steps, left, add, count, ahead, pace = e.arguments
    b, vector = e.b, ir.VectorType(FLOAT, _LANES)

    def tile(name: str, *operands: int | Value) -> None:
        e.call(f"llvm.x86.{name}", VOID, *(I8(each) if isinstance(each, int) else each for each in operands))

    pairs = [(half, number) for half in (0, 1) for number in range(tiles)]
    sums = {pair: register for register, pair in enumerate(pairs)}
    x, weight = _registers(tiles)
    for register in sums.values():
        tile("tilezero", register)
    tile_row = b.mul(steps, I64(_TILE))
    with e.loop(0, steps) as step:
        here = e.at(panel, b.mul(step, I64(_STEP)), I8)
        later = e.at(panel, b.add(ahead, b.mul(step, pace)), I8)
        for line in range(0, _STEP, 64):
            e.prefetch(e.at(later, line, I8))
        source = e.at(parts, b.mul(step, I64(_TILE)), I8)
        for half in (0, 1):
            tile("tileloadd64", weight[half], e.at(here, half * _ROW, I8), I64(2 * _ROW))
            for number, register in enumerate(x):
                if half == 0 or len(set(x)) < tiles:  # or it is still there
                    tile("tileloadd64", register, e.at(source, b.mul(tile_row, I64(number)), I8), I64(_ROW))
                tile("tdpbf16ps", sums[half, number], register, weight[half])
    found = e.variable(ir.ArrayType(FLOAT, tiles * 16 * COLUMNS))
    for (half, number), register in sums.items():
        tile("tilestored64", register, e.at(found, number * 16 * COLUMNS + half * _LANES), I64(4 * COLUMNS))
    biased = b.icmp_unsigned("!=", b.ptrtoint(bias, I64), I64(0))
    adding = b.icmp_signed("!=", add, I64(0))
    whole = b.icmp_signed(">=", left, I64(COLUMNS))
    with e.loop(0, count) as token:
        own, start = e.at(found, b.mul(token, I64(_PARTS * COLUMNS))), e.at(y, b.mul(token, y_step))
        for half in (0, 1):
            first, second, third = (
                e.load(e.at(own, part * COLUMNS + half * _LANES), vector) for part in range(_PARTS)
            )
            total = e.variable(vector, b.fadd(b.fadd(third, second), first))
            with b.if_then(biased):
                more = e.load(e.at(bias, b.add(column, I64(half * _LANES))), vector)
                b.store(b.fadd(b.load(total, typ=vector), more), total)
            with b.if_else(whole) as (all_of_it, part_of_it):
                with all_of_it:
                    place = e.at(start, half * _LANES)
                    with b.if_then(adding):
                        b.store(b.fadd(e.load(place, vector), b.load(total, typ=vector)), total)
                    e.store(b.load(total, typ=vector), place)
                with part_of_it:
                    e.store(b.load(total, typ=vector), e.at(own, half * _LANES))
        with b.if_then(b.not_(whole)), e.loop(0, left) as i:
            value = e.variable(FLOAT, e.load(e.at(own, i)))
            with b.if_then(adding):
                b.store(b.fadd(e.load(e.at(start, i)), b.load(value, typ=FLOAT)), value)
            e.store(b.load(value, typ=FLOAT), e.at(start, i))
    e.end()
    e.function.attributes.add("noinline")
    return e.function
