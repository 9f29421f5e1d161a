"""Products of a few rows with a matrix that is read once, from the first byte to the last.

The matrix lies in panels of as many columns as four vectors hold, all weights of one input side by side, so that
reading it is one walk through memory, which processors foresee. Weights of 16 bits become floats in registers;
everything is summed in float32, for each output from the first input to the last: what comes out of a row does not
depend on the rows beside it.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import torch
from llvmlite import ir
from torch import Tensor

from specterm.kernels.emitter import FLOAT, HALF, I8, I32, I64, POINTER, VOID, Emitter, Value
from specterm.kernels.machine import Machine

Kind: TypeAlias = Literal["bfloat16", "float16", "float32", "int8"]
"""What the weights are held in. Those in 8 bits are whole numbers, and each output has a scale."""
_VECTORS = 4
_AHEAD = 4096
"""Bytes that are asked for before they are needed."""
_LINE = 64
"""Bytes that come at a time."""


def laid_out(weight: Tensor, kind: Kind, machine: Machine) -> Tensor:
    """`weight`, [out, in], float32, in panels, [panels, bytes]: [in, columns] of `kind`, the last one filled up with
    zeros. Behind a panel's 8-bit weights are the columns' scales, in float32."""
    out, inner = weight.shape
    columns = machine.columns
    panels = -(-out // columns)
    padded = weight.new_zeros((panels * columns, inner))
    padded[:out] = weight
    scales = None
    if kind == "int8":
        padded, scales = in_eight_bits(padded)
    tiles = padded.view(panels, columns, inner).transpose(1, 2)
    if kind == "bfloat16":  # two vectors share their words: the first has the lower halves
        tiles = tiles.reshape(panels, inner, _VECTORS // 2, 2, machine.lanes).transpose(3, 4)
    told = tiles.reshape(panels, inner * columns).to(getattr(torch, kind)).contiguous().view(torch.uint8)
    return told if scales is None else torch.cat((told, scales.view(panels, columns).view(torch.uint8)), dim=1)


def in_eight_bits(weight: Tensor) -> tuple[Tensor, Tensor]:
    """`weight`, [out, in], as int8, and what each row of that is to be multiplied with, float32 [out]."""
    scales = weight.abs().amax(dim=1) / 127
    return (weight / scales.clamp(min=torch.finfo(torch.float32).tiny).unsqueeze(1)).round_().to(torch.int8), scales


ARGUMENTS = [POINTER, I64, POINTER, POINTER, I64, POINTER, *[I64] * 4, POINTER]


def declared_product(module: Any, kind: Kind) -> Any:
    """The function that `product` writes, which is in another module than this one."""
    return ir.Function(module, ir.FunctionType(VOID, ARGUMENTS), f"product_{kind}")


def product(module: Any, machine: Machine, kind: Kind) -> None:
    """The function product_KIND(x, x_step, weight, y, y_step, bias, rows, inner, out, add, scratch) of `module`.

    y[r, o] = (y[r, o] if add else 0) + bias[o] + sum over i of x[r, i] * weight[o, i]; rows of x and y begin x_step and
    y_step floats apart. `bias`, which may be null, has zeros up to the end of the last panel. `scratch` is for tiles.
    """
    few = [_micro_kernel(module, machine, kind, rows) for rows in range(1, machine.rows + 1)]
    e = Emitter(module, f"product_{kind}", ARGUMENTS, shared=True)
    x, x_step, weight, y, y_step, bias, rows, inner, out, add, _ = e.arguments
    columns, size = machine.columns, _size(kind)
    b = e.b
    panel_size = b.add(b.mul(inner, I64(columns * size)), I64(4 * columns if kind == "int8" else 0))
    # One walk along a panel asks for what lies a little ahead, several share the next panel among them.
    alone = b.icmp_signed("<=", rows, I64(machine.rows))
    walks = b.sdiv(b.add(rows, I64(machine.rows - 1)), I64(machine.rows))
    share = b.sdiv(panel_size, walks)
    pace = b.sdiv(I64(columns * size), walks)
    at = e.variable(POINTER, weight)
    with e.loop(0, out, columns) as column:
        panel = b.load(at, typ=POINTER)
        left = b.sub(out, column)
        with e.loop(0, rows, machine.rows) as row:
            walk = b.sdiv(row, I64(machine.rows))
            ahead = b.select(alone, I64(_AHEAD), b.add(panel_size, b.mul(walk, share)))
            arguments = [
                e.at(x, b.mul(row, x_step)), x_step, panel, e.at(e.at(y, b.mul(row, y_step)), column), y_step,
                bias, column, inner, left, add, ahead, pace,
            ]  # fmt: skip
            e.call_by_count(b.sub(rows, row), few, arguments)
        b.store(e.b.gep(panel, [panel_size], source_etype=I8), at)
    e.end()


def _micro_kernel(module: Any, machine: Machine, kind: Kind, rows: int) -> Any:
    """One panel with so many rows."""
    e = Emitter(module, f"panel_{kind}_{rows}", [*ARGUMENTS[:-1], I64, I64])
    x, x_step, panel, y, y_step, bias, column, inner, left, add, ahead, pace = e.arguments
    b, lanes, columns = e.b, machine.lanes, machine.columns
    vector = ir.VectorType(FLOAT, lanes)
    zero = ir.Constant(vector, None)
    sums = [[e.variable(vector, zero) for _ in range(_VECTORS)] for _ in range(rows)]
    inputs = [e.at(x, b.mul(x_step, I64(row))) for row in range(rows)]
    bytes_a_step = columns * _size(kind)
    with e.loop(0, inner) as i:
        here = b.gep(panel, [b.mul(i, I64(bytes_a_step))], source_etype=I8)
        later = b.add(ahead, b.mul(i, pace))
        for line in range(0, bytes_a_step, _LINE):
            e.prefetch(b.gep(panel, [b.add(later, I64(line))], source_etype=I8))
        weights = _weights(e, here, kind, lanes)
        for own, source in zip(sums, inputs, strict=True):
            factor = e.splat(e.load(e.at(source, i)), lanes)
            for room, weight in zip(own, weights, strict=True):
                b.store(e.fma(weight, factor, b.load(room, typ=vector)), room)
    if kind == "int8":
        scales = b.gep(panel, [b.mul(inner, I64(columns))], source_etype=I8)
        for number in range(_VECTORS):
            scale = e.load(e.at(scales, number * lanes), vector)
            for own in sums:
                b.store(b.fmul(b.load(own[number], typ=vector), scale), own[number])
    biased = b.icmp_unsigned("!=", b.ptrtoint(bias, I64), I64(0))
    with b.if_then(biased):
        for own in sums:
            for number, room in enumerate(own):
                more = e.load(e.at(bias, b.add(column, I64(number * lanes))), vector)
                b.store(b.fadd(b.load(room, typ=vector), more), room)
    adding = b.icmp_signed("!=", add, I64(0))
    with b.if_else(b.icmp_signed(">=", left, I64(columns))) as (whole, part):
        with whole:
            for row, own in enumerate(sums):
                start = e.at(y, b.mul(y_step, I64(row)))
                for number, room in enumerate(own):
                    address = e.at(start, number * lanes)
                    with b.if_then(adding):
                        b.store(b.fadd(e.load(address, vector), b.load(room, typ=vector)), room)
                    e.store(b.load(room, typ=vector), address)
        with part:
            scratch = e.variable(ir.ArrayType(FLOAT, columns))
            for row, own in enumerate(sums):
                start = e.at(y, b.mul(y_step, I64(row)))
                for number, room in enumerate(own):
                    e.store(b.load(room, typ=vector), e.at(scratch, number * lanes))
                put(e, scratch, start, left, adding)
    e.end()
    e.function.attributes.add("noinline")
    return e.function


def put(e: Emitter, source: Value, target: Value, count: Value, adding: Value) -> None:
    """`count` floats, which are added to those that are there where `adding` is true."""
    b = e.b
    with e.loop(0, count) as i:
        value = e.variable(FLOAT, e.load(e.at(source, i)))
        with b.if_then(adding):
            b.store(b.fadd(e.load(e.at(target, i)), b.load(value, typ=FLOAT)), value)
        e.store(b.load(value, typ=FLOAT), e.at(target, i))


def _weights(e: Emitter, here: Value, kind: Kind, lanes: int) -> list[Value]:
    """The four vectors of floats of one input's weights."""
    b, vector = e.b, ir.VectorType(FLOAT, lanes)
    if kind == "float32":
        return [e.load(e.at(here, number * lanes), vector) for number in range(_VECTORS)]
    if kind == "int8":
        whole = ir.VectorType(I8, lanes)
        return [
            b.sitofp(b.sext(e.load(e.at(here, number * lanes, I8), whole), ir.VectorType(I32, lanes)), vector)
            for number in range(_VECTORS)
        ]
    if kind == "float16":
        half = ir.VectorType(HALF, lanes)
        return [b.fpext(e.load(e.at(here, number * lanes, HALF), half), vector) for number in range(_VECTORS)]
    words, found = ir.VectorType(I32, lanes), []
    for number in range(_VECTORS // 2):
        word = e.load(e.at(here, number * lanes, I32), words)
        low = b.shl(word, ir.Constant(words, [16] * lanes))
        high = b.and_(word, ir.Constant(words, [0xFFFF0000] * lanes))
        found += [b.bitcast(low, vector), b.bitcast(high, vector)]
    return found


def _size(kind: Kind) -> int:
    return {"float32": 4, "int8": 1}.get(kind, 2)
