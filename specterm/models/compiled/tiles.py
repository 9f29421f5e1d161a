"""Products by matrix units (Intel's AMX): up to sixteen tokens for one reading of the weights.

The unit multiplies bfloat16 by bfloat16 and sums in float32, or 8-bit integers and sums in 32 bits. Of an activation
goes in what makes it up, each part a row of its own. Beside bfloat16 weights these are three bfloat16 numbers, so
nothing is rounded that float32 would have kept. Beside 8-bit weights they are the two digits, to the base of 128, of an
integer: the activation as a share of the largest of its token, to 14 bits. What comes out of a row does not depend on
the rows beside it. The matrix lies in panels of two tiles' columns; reading it is a walk through memory.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from llvmlite import ir
from torch import Tensor

from specterm.kernels.emitter import FLOAT, I8, I16, I32, I64, POINTER, VOID, Emitter, Value
from specterm.models.compiled.products import ARGUMENTS, in_eight_bits, put

TileKind: TypeAlias = Literal["bfloat16_tiles", "int8_tiles"]
COLUMNS = 32
"""Of a panel: two tiles."""
_GROUP = 16
"""Tokens that go together: their parts fill two or three tiles."""
_BASE = 128
"""Of the digits of an integer."""
_LARGEST = 127 * _BASE
"""The integer of a token's largest activation."""
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


@dataclass(frozen=True, slots=True)
class _Format:
    """parts: of an activation; a tile's sums hold those of 16 // parts tokens. inputs: that an instruction multiplies.
    trailer: bytes behind a panel's weights."""

    kind: TileKind
    instruction: str
    parts: int
    inputs: int
    trailer: int


_FORMATS = {
    "bfloat16_tiles": _Format("bfloat16_tiles", "tdpbf16ps", parts=3, inputs=32, trailer=0),
    "int8_tiles": _Format("int8_tiles", "tdpbssd", parts=2, inputs=64, trailer=4 * COLUMNS),
}


def laid_out(weight: Tensor, kind: TileKind) -> Tensor:
    """`weight`, [out, in], float32, in panels, [panels, bytes]: [in / n, columns, n], n numbers that take 32 bits; both
    are filled up with zeros to whole tiles. Behind a panel's 8-bit weights are the columns' scales, in float32."""
    out, inner = weight.shape
    inputs = _FORMATS[kind].inputs
    panels, steps = -(-out // COLUMNS), -(-inner // inputs)
    padded = weight.new_zeros((panels * COLUMNS, steps * inputs))
    padded[:out, :inner] = weight
    scales = None
    if kind == "int8_tiles":
        padded, scales = in_eight_bits(padded)
    else:
        padded = padded.bfloat16()
    together = inputs // _LANES
    tiles = padded.view(panels, COLUMNS, -1, together).transpose(1, 2).contiguous()
    told = tiles.view(panels, -1).view(torch.uint8)
    return told if scales is None else torch.cat((told, scales.view(panels, COLUMNS).view(torch.uint8)), dim=1)


def scratch(rows: int, inner: int, kind: TileKind) -> int:
    """Bytes that a product needs for the parts of its activations, and for their scales."""
    how = _FORMATS[kind]
    return -(-rows // _GROUP) * (-(-inner // how.inputs) * how.parts * _TILE + 4 * _GROUP)


def product(module: Any, kind: TileKind) -> None:
    """The function product_KIND(...) of `module`, like that of `products.product`."""
    how = _FORMATS[kind]
    few = [_micro_kernel(module, how, tiles) for tiles in range(1, how.parts + 1)]
    split = _split_in_digits(module, how) if kind == "int8_tiles" else _split(module, how)
    e = Emitter(module, f"product_{kind}", ARGUMENTS, shared=True)
    x, x_step, weight, y, y_step, bias, rows, inner, out, add, parts = e.arguments
    b = e.b
    _configure(e, rows, how)
    steps = b.sdiv(b.add(inner, I64(how.inputs - 1)), I64(how.inputs))
    walks = b.sdiv(b.add(rows, I64(_GROUP - 1)), I64(_GROUP))
    group_size = b.mul(steps, I64(how.parts * _TILE))
    scales = e.at(parts, b.mul(walks, group_size), I8)
    with e.loop(0, rows) as row:
        group = e.at(parts, b.mul(b.sdiv(row, I64(_GROUP)), group_size), I8)
        first = b.mul(b.srem(row, I64(_GROUP)), I64(how.parts))
        b.call(split, [e.at(x, b.mul(row, x_step)), group, first, inner, steps, e.at(scales, row)])
    panel_size = b.add(b.mul(steps, I64(_STEP)), I64(how.trailer))
    alone = b.icmp_signed("==", walks, I64(1))
    share, pace = b.sdiv(panel_size, walks), b.sdiv(I64(_STEP), walks)
    at = e.variable(POINTER, weight)
    with e.loop(0, out, COLUMNS) as column:
        panel = b.load(at, typ=POINTER)
        left = b.sub(out, column)
        with e.loop(0, walks) as walk:
            row = b.mul(walk, I64(_GROUP))
            beyond = b.sub(rows, row)
            count = b.select(b.icmp_signed("<", beyond, I64(_GROUP)), beyond, I64(_GROUP))
            ahead = b.select(alone, I64(_AHEAD), b.add(panel_size, b.mul(walk, share)))
            own = e.at(parts, b.mul(walk, group_size), I8)
            arguments = [own, e.at(scales, row), panel, e.at(e.at(y, b.mul(row, y_step)), column), y_step, bias, column,
                         steps, left, add, count, ahead, pace]  # fmt: skip
            e.call_by_count(b.sdiv(b.add(b.mul(count, I64(how.parts)), I64(15)), I64(16)), few, arguments)
        b.store(b.gep(panel, [panel_size], source_etype=I8), at)
    e.call("llvm.x86.tilerelease", VOID)
    e.end()


def _configure(e: Emitter, rows: Value, how: _Format) -> None:
    """All eight tiles have 16 rows of 64 bytes; those of activations and sums only as many as a few tokens need."""
    b = e.b
    layout = struct.pack("<BB14x16H16B", 1, 0, *[_ROW] * 8, *[0] * 8, *[16] * 8, *[0] * 8)
    kind = ir.ArrayType(I8, len(layout))
    room = e.variable(kind, ir.Constant(kind, bytearray(layout)))
    few = b.icmp_signed("<=", rows, I64(16 // how.parts))
    count = b.select(few, b.trunc(b.mul(rows, I64(how.parts)), I8), I8(16))
    for register in (*_registers(1)[0], *range(2)):
        e.store(count, e.at(room, _ROWS_AT + register, I8))
    e.call("llvm.x86.ldtilecfg", VOID, room)


_SPLIT = [POINTER, POINTER, I64, I64, I64, POINTER]
"""x, where the parts of its group go, which row of those is its first, inner, steps, where its scale goes."""


def _split(module: Any, how: _Format) -> Any:
    """One token's activations as bfloat16 numbers: the first has the upper 8 bits of each, the second the next 8, the
    third the rest."""
    e = Emitter(module, "split", _SPLIT)
    b = e.b
    words = ir.VectorType(I32, _LANES)
    upper, sixteen = ir.Constant(words, [0xFFFF0000] * _LANES), ir.Constant(words, [16] * _LANES)

    def parts(left: Value) -> list[Value]:
        found = []
        for _ in range(how.parts):
            bits = b.and_(b.bitcast(left, words), upper)
            left = b.fsub(left, b.bitcast(bits, left.type))
            found.append(b.trunc(b.lshr(bits, sixteen), ir.VectorType(I16, _LANES)))
        return found

    _each_step(e, how, parts)
    e.end()
    return e.function


def _split_in_digits(module: Any, how: _Format) -> Any:
    """One token's activations as integers of two digits, and what those are to be multiplied with."""
    e = Emitter(module, "split_in_digits", _SPLIT)
    b, scale_at = e.b, e.arguments[5]
    vector, words = (ir.VectorType(kind, _LANES) for kind in (FLOAT, I32))
    largest, wrong = (e.variable(vector, ir.Constant(vector, None)) for _ in range(2))

    def look(x: Value) -> list[Value]:
        b.store(e.larger(b.load(largest, typ=vector), e.size(x)), largest)
        # Nothing, but of what is no finite number: that is not to be hidden.
        b.store(e.fma(x, ir.Constant(vector, None), b.load(wrong, typ=vector)), wrong)
        return []

    _each_step(e, how, look)
    top = b.extract_element(e.folded(b.load(largest, typ=vector), 1, e.larger), I32(0))
    e.store(b.fadd(b.fmul(top, FLOAT(1.0 / _LARGEST)), e.sum(b.load(wrong, typ=vector))), scale_at)
    nothing = b.fcmp_ordered("==", top, FLOAT(0.0))
    factor = e.splat(b.select(nothing, FLOAT(0.0), b.fdiv(FLOAT(float(_LARGEST)), top)), _LANES)

    def constant(value: int) -> Value:
        return ir.Constant(words, [value] * _LANES)

    def digits(x: Value) -> list[Value]:
        whole = b.fptosi(e.rint(b.fmul(x, factor)), words)
        high = b.ashr(b.add(whole, constant(_BASE // 2)), constant(7))
        low = b.sub(whole, b.shl(high, constant(7)))
        return [b.trunc(digit, ir.VectorType(I8, _LANES)) for digit in (high, low)]

    _each_step(e, how, digits)
    e.end()
    return e.function


def _each_step(e: Emitter, how: _Format, parts_of: Callable[[Value], Sequence[Value]]) -> None:
    """`parts_of` is emitted for each vector of x, behind whose last are zeros up to what goes into one instruction;
    what it finds is stored, if anything."""
    b = e.b
    x, group, first, inner, steps, _ = e.arguments

    def written(step: Value, source: Value) -> None:
        for number in range(how.inputs // _LANES):
            parts = parts_of(e.load(e.at(source, number * _LANES), ir.VectorType(FLOAT, _LANES)))
            for index, part in enumerate(parts):
                place = b.add(first, I64(index))
                tile = b.add(b.mul(b.sdiv(place, I64(16)), steps), step)
                offset = b.add(b.mul(tile, I64(_TILE)), b.mul(b.srem(place, I64(16)), I64(_ROW)))
                width = part.type.element.width // 8 * _LANES
                e.store(part, e.at(group, b.add(offset, I64(number * width)), I8))

    whole = b.sdiv(inner, I64(how.inputs))
    with e.loop(0, whole) as step:
        written(step, e.at(x, b.mul(step, I64(how.inputs))))
    with b.if_then(b.icmp_signed("<", whole, steps)):
        last = e.variable(ir.ArrayType(FLOAT, how.inputs))
        with e.loop(0, how.inputs) as i:
            e.store(FLOAT(0.0), e.at(last, i))
        done = b.mul(whole, I64(how.inputs))
        with e.loop(0, b.sub(inner, done)) as i:
            e.store(e.load(e.at(x, b.add(done, i))), e.at(last, i))
        written(whole, last)


def _registers(tiles: int) -> tuple[Sequence[int], Sequence[int]]:
    """Those of the activations and of the two tiles of weights; the sums have the first 2 * tiles of all eight. With
    three tiles of activations these take turns in one, and the weights in another."""
    return ((6, 6, 6), (7, 7)) if tiles == 3 else ((4, 5)[:tiles], (6, 7))


def _micro_kernel(module: Any, how: _Format, tiles: int) -> Any:
    """One panel with up to 16 tokens, whose parts are in so many tiles."""
    kinds = [POINTER, POINTER, POINTER, POINTER, I64, POINTER, *[I64] * 7]
    e = Emitter(module, f"panel_{how.kind}_{tiles}", kinds)
    parts, scales, panel, y, y_step, bias, column, steps, left, add, count, ahead, pace = e.arguments
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
                tile(how.instruction, sums[half, number], register, weight[half])
    found = e.variable(ir.ArrayType(FLOAT, tiles * 16 * COLUMNS))
    for (half, number), register in sums.items():
        tile("tilestored64", register, e.at(found, number * 16 * COLUMNS + half * _LANES), I64(4 * COLUMNS))
    biased = b.icmp_unsigned("!=", b.ptrtoint(bias, I64), I64(0))
    adding = b.icmp_signed("!=", add, I64(0))
    whole = b.icmp_signed(">=", left, I64(COLUMNS))
    with e.loop(0, count) as token:
        own, start = e.at(found, b.mul(token, I64(how.parts * COLUMNS))), e.at(y, b.mul(token, y_step))
        for half in (0, 1):
            kind = ir.VectorType(I32 if how.kind == "int8_tiles" else FLOAT, _LANES)
            of_parts = [e.load(e.at(own, part * COLUMNS + half * _LANES), kind) for part in range(how.parts)]
            if how.kind == "int8_tiles":
                high, low = (b.sitofp(each, vector) for each in of_parts)
                scale = e.load(e.at(e.at(panel, b.mul(steps, I64(_STEP)), I8), half * _LANES), vector)
                of_token = e.splat(e.load(e.at(scales, token)), _LANES)
                joined = b.fmul(e.fma(high, e.splat(FLOAT(float(_BASE)), _LANES), low), b.fmul(scale, of_token))
            else:
                high, middle, low = of_parts
                joined = b.fadd(b.fadd(low, middle), high)
            total = e.variable(vector, joined)
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
        with b.if_then(b.not_(whole)):
            put(e, own, start, left, adding)
    e.end()
    e.function.attributes.add("noinline")
    return e.function
