"""Laws of the next token from logits, and tokens drawn from them: `decoding.sampling` for what is in the processor's
own memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from specterm.kernels.emitter import DOUBLE, FLOAT, I32, I64, POINTER, Emitter, Value, single
from specterm.kernels.machine import Machine
from specterm.kernels.top import ROW_FUNCTIONS
from specterm.kernels.words import WarpWord

_CLEAR = 0.003
"""Of the likeliest token's probability: above it are a few tokens, and nearly always the whole nucleus."""
_ONE = 0x3F800000
"""The bits of 1.0."""
_GOLDEN, _C1, _C2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def law_of_row(module: Any, machine: Machine) -> Any:
    """law_of_row(logits, vocab, warps, law, room) of `module`: the warped law, float32 [vocab]; the warps, in their
    order, are those of `sampling.probabilities`. room: float32 [vocab]."""
    if (found := module.globals.get("law_of_row")) is not None:
        return found
    kth, nucleus = _kth_largest(module, machine), _nucleus(module, machine)
    e = Emitter(module, "law_of_row", ROW_FUNCTIONS["law_of_row"], shared=True)
    logits, vocab, warps, law, room = e.arguments
    b, lanes = e.b, machine.lanes
    top = _largest(e, lanes, logits, vocab)
    floor = e.variable(FLOAT, FLOAT(float("-inf")))
    top_k = e.load(e.at(warps, int(WarpWord.TOP_K), I64), I64)
    with b.if_then(b.and_(b.icmp_signed("<", I64(0), top_k), b.icmp_signed("<", top_k, vocab))):
        b.call(kth, [logits, vocab, top_k, floor])
    level, least = e.splat(top, lanes), e.splat(b.load(floor, typ=FLOAT), lanes)
    temperature = e.load(e.at(warps, int(WarpWord.TEMPERATURE), I64))
    pace = e.splat(b.fdiv(FLOAT(1.0), temperature), lanes)
    total = _Total(e, lanes)

    def grown(x: Value, _: Value) -> Value:
        mass = e.exp(b.fmul(b.fsub(x, level), pace))
        return total.add(b.select(b.fcmp_ordered("<", x, least), ir.Constant(mass.type, None), mass))

    _each(e, lanes, (logits,), vocab, float("-inf"), grown, law)
    top_p = e.load(e.at(warps, int(WarpWord.TOP_P), I64), DOUBLE)
    with b.if_then(b.fcmp_ordered("<", top_p, DOUBLE(1.0))):
        b.call(nucleus, [law, vocab, b.fptrunc(b.fmul(top_p, b.fpext(total.value(), DOUBLE)), FLOAT), room])
    unlikely, kept = e.splat(e.load(e.at(warps, int(WarpWord.MIN_P), I64)), lanes), _Total(e, lanes)
    _each(
        e, lanes, (law,), vocab, 0.0,
        lambda x, _: kept.add(b.select(b.fcmp_ordered("<", x, unlikely), ir.Constant(x.type, None), x)), law,
    )  # fmt: skip
    share = e.splat(b.fdiv(FLOAT(1.0), kept.value()), lanes)
    _each(e, lanes, (law,), vocab, 0.0, lambda x, _: b.fmul(x, share), law)
    e.end()
    return e.function


def laws(module: Any, machine: Machine) -> None:
    """The functions law(logits, rows, vocab, warps, laws, room) of `module`, for rows that stand one behind the other,
    and draw(laws, rows, vocab, uniforms, tokens), uniforms: float64 [rows], tokens: int64 [rows]."""
    law_of, draw_of = law_of_row(module, machine), draw_of_row(module, machine)
    e = Emitter(module, "law", [POINTER, I64, I64, *[POINTER] * 3], shared=True)
    logits, rows, vocab, warps, found, room = e.arguments
    with e.loop(0, rows) as row:
        at = e.b.mul(row, vocab)
        e.b.call(law_of, [e.at(logits, at), vocab, warps, e.at(found, at), room])
    e.end()
    e = Emitter(module, "draw", [POINTER, I64, I64, POINTER, POINTER], shared=True)
    given, rows, vocab, uniforms, tokens = e.arguments
    with e.loop(0, rows) as row:
        u = e.load(e.at(uniforms, row, DOUBLE), DOUBLE)
        e.b.call(draw_of, [e.at(given, e.b.mul(row, vocab)), vocab, u, e.at(tokens, row, I64)])
    e.end()


def draw_of_row(module: Any, machine: Machine) -> Any:
    """draw_of_row(law, vocab, u, token) of `module`: the first token whose cumulative mass exceeds the share u of all
    mass, in double precision; one without mass is never drawn, unless none has any."""
    if (there := module.globals.get("draw_of_row")) is not None:
        return there
    e = Emitter(module, "draw_of_row", ROW_FUNCTIONS["draw_of_row"], shared=True)
    law, vocab, u, token = e.arguments
    b, lanes = e.b, machine.lanes
    total, reached, found = (e.variable(kind) for kind in (DOUBLE, DOUBLE, I64))
    none = I64(-1)
    b.store(DOUBLE(0.0), total)
    b.store(DOUBLE(0.0), reached)
    b.store(none, found)

    def mass(x: Value) -> Value:
        wide = b.fpext(x, ir.VectorType(DOUBLE, lanes))
        return b.extract_element(e.folded(wide, 1, b.fadd), I32(0))

    def summed(x: Value, _: Value) -> None:
        b.store(b.fadd(b.load(total, typ=DOUBLE), mass(x)), total)

    _each(e, lanes, (law,), vocab, 0.0, summed)
    goal = b.fmul(u, b.load(total, typ=DOUBLE))
    rest = b.sub(vocab, b.srem(vocab, I64(lanes)))

    def look(begin: Value, end: Value) -> None:
        """Token by token."""
        with e.loop(begin, end) as i, b.if_then(b.icmp_signed("<", b.load(found, typ=I64), I64(0))):
            own = b.fpext(e.load(e.at(law, i)), DOUBLE)
            b.store(b.fadd(b.load(reached, typ=DOUBLE), own), reached)
            over = b.fcmp_ordered(">", b.load(reached, typ=DOUBLE), goal)
            with b.if_then(b.and_(over, b.fcmp_ordered(">", own, DOUBLE(0.0)))):
                b.store(i, found)

    with e.loop(0, rest, lanes) as begin, b.if_then(b.icmp_signed("<", b.load(found, typ=I64), I64(0))):
        before = b.load(reached, typ=DOUBLE)
        after = b.fadd(before, mass(e.load(e.at(law, begin), ir.VectorType(FLOAT, lanes))))
        with b.if_then(b.fcmp_ordered(">", after, goal)):
            look(begin, b.add(begin, I64(lanes)))
        with b.if_then(b.icmp_signed("<", b.load(found, typ=I64), I64(0))):
            b.store(after, reached)  # also where the sum of the single ones was rounded down to the goal
    look(rest, vocab)
    with b.if_then(b.icmp_signed("<", b.load(found, typ=I64), I64(0))):  # u * total was rounded up to it: the last one
        b.store(I64(0), found)
        with e.loop(0, vocab) as i, b.if_then(b.fcmp_ordered(">", e.load(e.at(law, i)), FLOAT(0.0))):
            b.store(i, found)
    e.store(b.load(found, typ=I64), token)
    e.end()
    return e.function


def uniform(e: Emitter, key: Value, index: Value) -> Value:
    """See `sampling.uniforms`: a float64, from the key of a purpose."""
    b = e.b
    state = b.add(key, b.mul(b.add(index, I64(1)), I64(_GOLDEN)))
    state = b.mul(b.xor(state, b.lshr(state, I64(30))), I64(_C1))
    state = b.mul(b.xor(state, b.lshr(state, I64(27))), I64(_C2))
    bits = b.lshr(b.xor(state, b.lshr(state, I64(31))), I64(11))
    return b.fmul(b.uitofp(bits, DOUBLE), DOUBLE(2.0**-53))


def residual(e: Emitter, lanes: int, law: Value, other: Value, vocab: Value, room: Value) -> Value:
    """Where max(law - other, 0) is, not normalised; the law itself where nothing is left: then they are alike up to
    rounding, and a refusal is itself a rounding event."""
    b, left, nothing = e.b, _Total(e, lanes), ir.Constant(ir.VectorType(FLOAT, lanes), None)

    def beyond(own: Value, others: Value, _: Value) -> Value:
        return left.add(e.larger(nothing, b.fsub(own, others)))

    _each(e, lanes, (law, other), vocab, 0.0, beyond, room)
    return b.select(b.fcmp_ordered(">", left.value(), FLOAT(0.0)), room, law)


def _each(
    e: Emitter, lanes: int, sources: Sequence[Value], count: Value, pad: float, body: Callable[..., Value | None],
    target: Value | None = None,
) -> None:  # fmt: skip
    """body(vector of each of `sources`, place) is emitted, where the last vectors are filled up with `pad`; what it
    gives is stored to `target`, if that is given."""
    b, vector = e.b, ir.VectorType(FLOAT, lanes)
    rest = b.sub(count, b.srem(count, I64(lanes)))
    with e.loop(0, rest, lanes) as i:
        found = body(*(e.load(e.at(source, i), vector) for source in sources), i)
        if target is not None:
            e.store(found, e.at(target, i))
    with b.if_then(b.icmp_signed("<", rest, count)):
        ends = []
        for source in sources:
            end = e.variable(ir.ArrayType(FLOAT, lanes))
            e.store(ir.Constant(vector, [pad] * lanes), end)
            with e.loop(rest, count) as i:
                e.store(e.load(e.at(source, i)), e.at(end, b.sub(i, rest)))
            ends.append(end)
        found = body(*(e.load(end, vector) for end in ends), rest)
        if target is not None:
            e.store(found, ends[0])
            with e.loop(rest, count) as i:
                e.store(e.load(e.at(ends[0], b.sub(i, rest))), e.at(target, i))


class _Total:
    """A sum of vectors, nothing at first."""

    def __init__(self, e: Emitter, lanes: int) -> None:
        self._e, self._kind = e, ir.VectorType(FLOAT, lanes)
        self._room = e.variable(self._kind, ir.Constant(self._kind, None))

    def add(self, x: Value) -> Value:
        """Returns `x`."""
        b = self._e.b
        b.store(b.fadd(b.load(self._room, typ=self._kind), x), self._room)
        return x

    def value(self) -> Value:
        """Of all lanes."""
        return self._e.sum(self._e.b.load(self._room, typ=self._kind))


def _largest(e: Emitter, lanes: int, values: Value, count: Value) -> Value:
    vector = ir.VectorType(FLOAT, lanes)
    best = e.variable(vector, ir.Constant(vector, [float("-inf")] * lanes))

    def look(x: Value, _: Value) -> None:
        e.b.store(e.larger(e.b.load(best, typ=vector), x), best)

    _each(e, lanes, (values,), count, float("-inf"), look)
    return e.b.extract_element(e.folded(e.b.load(best, typ=vector), 1, e.larger), I32(0))


def _key(b: Any, bits: Value) -> Value:
    """32 bits of floats as integers of the same order; and back."""
    vector = isinstance(bits.type, ir.VectorType)
    sign, others = (ir.Constant(bits.type, [n] * bits.type.count if vector else n) for n in (31, 0x7FFFFFFF))
    return b.xor(bits, b.and_(b.ashr(bits, sign), others))


def _kth_largest(module: Any, machine: Machine) -> Any:
    """kth_largest(values, count, k, found): halving what is left of all numbers."""
    e = Emitter(module, "kth_largest", [POINTER, I64, I64, POINTER])
    values, count, k, found = e.arguments
    b, words = e.b, ir.VectorType(I32, machine.lanes)
    low, high = e.variable(I64, I64(-(1 << 31))), e.variable(I64, I64(1 << 31))
    number = e.variable(words)
    with e.loop(0, 32):
        middle = b.ashr(b.add(b.load(low, typ=I64), b.load(high, typ=I64)), I64(1))
        bound = e.splat(b.trunc(middle, I32), machine.lanes)
        b.store(ir.Constant(words, None), number)

        def tell(x: Value, _: Value, bound: Value = bound) -> None:
            there = b.icmp_signed(">=", _key(b, b.bitcast(x, words)), bound)
            b.store(b.add(b.load(number, typ=words), b.zext(there, words)), number)

        _each(e, machine.lanes, (values,), count, float("-inf"), tell)
        all_of_them = b.extract_element(e.folded(b.load(number, typ=words), 1, b.add), I32(0))
        enough = b.icmp_signed(">=", b.zext(all_of_them, I64), k)
        b.store(b.select(enough, middle, b.load(low, typ=I64)), low)
        b.store(b.select(enough, b.load(high, typ=I64), middle), high)
    e.store(b.bitcast(_key(b, b.trunc(b.load(low, typ=I64), I32)), FLOAT), found)
    e.end()
    return e.function


def _least_of_mass(module: Any, machine: Machine) -> Any:
    """least_of_mass(masses, count, need, found): the largest number such that the masses from it on are together at
    least `need`; no mass is above 1."""
    e = Emitter(module, "least_of_mass", [POINTER, I64, FLOAT, POINTER])
    masses, count, need, found = e.arguments
    b, words = e.b, ir.VectorType(I32, machine.lanes)
    low, high = e.variable(I32, I32(0)), e.variable(I32, I32(_ONE + 1))
    with e.loop(0, 30):
        middle = b.lshr(b.add(b.load(low, typ=I32), b.load(high, typ=I32)), I32(1))
        bound, total = e.splat(middle, machine.lanes), _Total(e, machine.lanes)

        def tell(x: Value, _: Value, bound: Value = bound, total: _Total = total) -> None:
            there = b.icmp_signed(">=", b.bitcast(x, words), bound)
            total.add(b.select(there, x, ir.Constant(x.type, None)))

        _each(e, machine.lanes, (masses,), count, 0.0, tell)
        enough = b.fcmp_ordered(">=", total.value(), need)
        b.store(b.select(enough, middle, b.load(low, typ=I32)), low)
        b.store(b.select(enough, b.load(high, typ=I32), middle), high)
    e.store(b.bitcast(b.load(low, typ=I32), FLOAT), found)
    e.end()
    return e.function


def _nucleus(module: Any, machine: Machine) -> Any:
    """nucleus(masses, count, need, room): what is not needed for `need` by the likeliest, of which one has the mass 1,
    becomes 0; of those that are alike at the border the first ones stay. At least one stays."""
    least_of_mass = _least_of_mass(module, machine)
    e = Emitter(module, "nucleus", [POINTER, I64, FLOAT, POINTER])
    masses, count, need, room = e.arguments
    b, lanes = e.b, machine.lanes
    number = e.variable(I64, I64(0))

    def gather(x: Value, place: Value) -> None:
        clear = b.fcmp_ordered(">=", x, e.splat(FLOAT(single(_CLEAR)), lanes))
        some = b.icmp_unsigned("!=", b.bitcast(clear, ir.IntType(lanes)), ir.IntType(lanes)(0))
        beyond = b.sub(count, place)
        own = b.select(b.icmp_signed("<", beyond, I64(lanes)), beyond, I64(lanes))
        with b.if_then(some), e.loop(0, own) as lane:
            mass = e.load(e.at(masses, b.add(place, lane)))
            with b.if_then(b.fcmp_ordered(">=", mass, FLOAT(single(_CLEAR)))):
                e.store(mass, e.at(room, b.load(number, typ=I64)))
                b.store(b.add(b.load(number, typ=I64), I64(1)), number)

    _each(e, lanes, (masses,), count, 0.0, gather)
    listed = _Total(e, lanes)  # summed as it will be there: rounded otherwise it might not be enough
    _each(e, lanes, (room,), b.load(number, typ=I64), 0.0, lambda x, _: listed.add(x))
    few = b.fcmp_ordered(">=", listed.value(), need)
    least = e.variable(FLOAT, FLOAT(0.0))
    among, size = b.select(few, room, masses), b.select(few, b.load(number, typ=I64), count)
    b.call(least_of_mass, [among, size, need, least])
    border = b.load(least, typ=FLOAT)
    level, above, alike = e.splat(border, lanes), _Total(e, lanes), _Total(e, lanes)
    one, nothing = e.splat(FLOAT(1.0), lanes), ir.Constant(ir.VectorType(FLOAT, lanes), None)

    def cut(x: Value, _: Value) -> Value:
        above.add(b.select(b.fcmp_ordered(">", x, level), x, nothing))
        alike.add(b.select(b.fcmp_ordered("==", x, level), one, nothing))
        return b.select(b.fcmp_ordered("<", x, level), nothing, x)

    _each(e, lanes, (masses,), count, -1.0, cut, masses)
    wanted = e.ceil(b.fdiv(b.fsub(need, above.value()), border))
    wanted = b.select(b.fcmp_ordered(">", wanted, FLOAT(1.0)), wanted, FLOAT(1.0))
    left = e.variable(FLOAT, b.fsub(alike.value(), wanted))
    with b.if_then(b.fcmp_ordered(">", b.load(left, typ=FLOAT), FLOAT(0.0))), e.loop(0, count) as i:
        place = e.at(masses, b.sub(b.sub(count, I64(1)), i))
        more = b.fcmp_ordered(">", b.load(left, typ=FLOAT), FLOAT(0.0))
        with b.if_then(b.and_(more, b.fcmp_ordered("==", e.load(place), border))):
            e.store(FLOAT(0.0), place)
            b.store(b.fsub(b.load(left, typ=FLOAT), FLOAT(1.0)), left)
    e.end()
    return e.function
