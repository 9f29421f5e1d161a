"""The likeliest tokens of rows of logits, and their probabilities."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from specterm.kernels.emitter import DOUBLE, FLOAT, I32, I64, POINTER, VOID, Emitter, Value
from specterm.kernels.machine import Machine

ROW_FUNCTIONS = {
    "top_of_row": [POINTER, I64, I64, POINTER, POINTER],
    "law_of_row": [POINTER, I64, POINTER, POINTER, POINTER],
    "draw_of_row": [POINTER, I64, DOUBLE, POINTER],
}
"""What looks at one row of logits or at one law, and its arguments. A module has each once: its own, or one that is
declared."""


def declare_row_functions(module: Any) -> None:
    """They are in another module than this one."""
    for name, kinds in ROW_FUNCTIONS.items():
        ir.Function(module, ir.FunctionType(VOID, kinds), name)


def top(module: Any, machine: Machine) -> None:
    """The function top(logits, rows, step, choice, count, ids, shares) of `module`: of each row, which begin `step`
    floats apart, the `count` largest of the first `choice` logits; see `top_of_row`. ids: int64, shares: float32, both
    [rows, count]."""
    of_row = top_of_row(module, machine)
    e = Emitter(module, "top", [POINTER, *[I64] * 4, POINTER, POINTER], shared=True)
    logits, rows, step, choice, count, ids, shares = e.arguments
    with e.loop(0, rows) as row:
        done = e.b.mul(row, count)
        e.b.call(of_row, [
            e.at(logits, e.b.mul(row, step)), choice, count, e.at(ids, done, I64), e.at(shares, done),
        ])  # fmt: skip
    e.end()


def top_of_row(module: Any, machine: Machine) -> Any:
    """top_of_row(logits, choice, count, ids, shares) of `module`: the `count` largest of the first `choice` logits,
    falling, of those that are alike the first; and their probabilities by the softmax of those logits."""
    if (found := module.globals.get("top_of_row")) is not None:
        return found
    e = Emitter(module, "top_of_row", ROW_FUNCTIONS["top_of_row"], shared=True)
    logits, choice, count, ids, shares = e.arguments
    b, lanes = e.b, machine.lanes
    rest = b.sub(choice, b.srem(choice, I64(lanes)))
    last_value, last_at = e.variable(FLOAT, FLOAT(float("inf"))), e.variable(I64, I64(-1))
    with e.loop(0, count) as number:
        value, at = _next(e, lanes, logits, choice, rest, b.load(last_value, typ=FLOAT), b.load(last_at, typ=I64))
        b.store(value, last_value)
        b.store(at, last_at)
        e.store(at, e.at(ids, number, I64))
        e.store(value, e.at(shares, number))
    largest = e.load(shares)
    whole = _mass(e, lanes, logits, choice, rest, largest)
    with e.loop(0, count) as number:
        place = e.at(shares, number)
        grown = e.exp(e.splat(b.fsub(e.load(place), largest), 4))
        e.store(b.fdiv(b.extract_element(grown, I32(0)), whole), place)
    e.end()
    return e.function


def largest_of_row(module: Any, machine: Machine) -> Any:
    """largest_of_row(logits, choice, id) of `module`: the first of the largest of the first `choice` logits."""
    e = Emitter(module, "largest_of_row", [POINTER, I64, POINTER])
    logits, choice, found = e.arguments
    rest = e.b.sub(choice, e.b.srem(choice, I64(machine.lanes)))
    _, at = _next(e, machine.lanes, logits, choice, rest, FLOAT(float("inf")), I64(-1))
    e.store(at, found)
    e.end()
    return e.function


def _next(
    e: Emitter, lanes: int, logits: Value, choice: Value, rest: Value, last_value: Value, last_at: Value
) -> tuple[Value, Value]:
    """The largest logit of those behind the last one, falling, and where it is."""
    b = e.b
    vector, whole = ir.VectorType(FLOAT, lanes), ir.VectorType(I32, lanes)
    least = FLOAT(float("-inf"))
    best, where = e.variable(vector), e.variable(whole)
    b.store(e.splat(least, lanes), best)
    b.store(e.splat(I32(-1), lanes), where)
    bound, behind = e.splat(last_value, lanes), e.splat(b.trunc(last_at, I32), lanes)
    with e.loop(0, rest, lanes) as i:
        value = e.load(e.at(logits, i), vector)
        place = b.add(e.splat(b.trunc(i, I32), lanes), ir.Constant(whole, list(range(lanes))))
        left = _comes_after(b, value, place, bound, behind)
        none_yet = b.icmp_signed("<", b.load(where, typ=whole), ir.Constant(whole, None))
        more = b.and_(left, b.or_(none_yet, b.fcmp_ordered(">", value, b.load(best, typ=vector))))
        b.store(b.select(more, value, b.load(best, typ=vector)), best)
        b.store(b.select(more, place, b.load(where, typ=whole)), where)
    top, at = e.variable(FLOAT, least), e.variable(I64, I64(-1))
    for lane in range(lanes):
        value = b.extract_element(b.load(best, typ=vector), I32(lane))
        place = b.sext(b.extract_element(b.load(where, typ=whole), I32(lane)), I64)
        before = b.icmp_unsigned("<", place, b.load(at, typ=I64))  # not where the lane has found none: -1
        tie = b.and_(b.fcmp_ordered("==", value, b.load(top, typ=FLOAT)), before)
        more = b.or_(b.fcmp_ordered(">", value, b.load(top, typ=FLOAT)), tie)
        b.store(b.select(more, value, b.load(top, typ=FLOAT)), top)
        b.store(b.select(more, place, b.load(at, typ=I64)), at)
    with e.loop(rest, choice) as i:
        value = e.load(e.at(logits, i))
        left = _comes_after(b, value, i, last_value, last_at)
        none_yet = b.icmp_signed("<", b.load(at, typ=I64), I64(0))
        more = b.and_(left, b.or_(none_yet, b.fcmp_ordered(">", value, b.load(top, typ=FLOAT))))
        b.store(b.select(more, value, b.load(top, typ=FLOAT)), top)
        b.store(b.select(more, i, b.load(at, typ=I64)), at)
    found = b.load(at, typ=I64)  # none: they are no numbers, and the first token is as good as any
    return b.load(top, typ=FLOAT), b.select(b.icmp_signed("<", found, I64(0)), I64(0), found)


def _comes_after(b: Any, value: Value, place: Value, last_value: Value, last_at: Value) -> Value:
    alike = b.and_(b.fcmp_ordered("==", value, last_value), b.icmp_signed(">", place, last_at))
    return b.or_(b.fcmp_ordered("<", value, last_value), alike)


def _mass(e: Emitter, lanes: int, logits: Value, choice: Value, rest: Value, largest: Value) -> Value:
    """The sum of e^(logit - the largest)."""
    b, vector = e.b, ir.VectorType(FLOAT, lanes)
    level = e.splat(largest, lanes)
    total = e.variable(vector, ir.Constant(vector, None))
    with e.loop(0, rest, lanes) as i:
        grown = e.exp(b.fsub(e.load(e.at(logits, i), vector), level))
        b.store(b.fadd(b.load(total, typ=vector), grown), total)
    last = e.variable(ir.ArrayType(FLOAT, lanes))
    e.store(ir.Constant(vector, [float("-inf")] * lanes), last)
    with e.loop(rest, choice) as i:
        e.store(e.load(e.at(logits, i)), e.at(last, b.sub(i, rest)))
    return e.sum(b.fadd(b.load(total, typ=vector), e.exp(b.fsub(e.load(last, vector), level))))
