"""A whole model of the Llama family, or EAGLE heads: from tokens to logits in one call, and greedy chains of tokens in
one call."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Literal, TypeAlias

from llvmlite import ir

from specterm.kernels.emitter import FLOAT, HALF, I16, I32, I64, POINTER, VOID, Emitter, Value
from specterm.kernels.laws import draw_of_row, law_of_row, uniform
from specterm.kernels.machine import Machine
from specterm.kernels.top import top_of_row
from specterm.models.compiled.beams import beams
from specterm.models.compiled.layers import PassWord, rms_norm
from specterm.models.compiled.products import Kind, declared_product
from specterm.models.compiled.words import CallWord, ChainWord, ModelWord

Table: TypeAlias = Literal["bfloat16", "float16", "float32"]
"""What the embeddings are held in."""
Front: TypeAlias = Literal["joined", "beside"]
"""How heads begin from tokens and features: by a product with both, as EAGLE does, or with layers that read both beside
a residual stream of the feature, as EAGLE-3 does."""


def model(
    module: Any, machine: Machine, layers: str, head: Kind, table: Table, front: tuple[Front, Kind] | None
) -> None:
    """The functions forward(model, pass, call), chain(model, pass, call, step, step_call, chain) and grow(model, words)
    of `module`; see `beams` for the last one.

    `layers` names the function that runs the layers, which is in another module. A chain begins with one row's pass
    whose last token is judged; `step` and `step_call` describe passes over one token of it, the first at the slot of
    that last token, where they are moved on from. front: of heads, and how its matrix, if any, is held; they make no
    chains.
    """
    forward = _forward(module, machine, layers, head, table, front)
    top = top_of_row(module, machine)
    beams(module, forward, top, heads=front is not None)
    if front is None:
        _chain(module, machine, forward, top)


def _word(e: Emitter, at: Value, word: IntEnum, kind: Any = I64) -> Value:
    return e.load(e.at(at, int(word), I64), kind)


def _forward(
    module: Any, machine: Machine, layers: str, head: Kind, table: Table, front: tuple[Front, Kind] | None
) -> Any:
    run = ir.Function(module, ir.FunctionType(VOID, [I64, I64, POINTER, POINTER]), layers)
    normed = rms_norm(module, machine)
    products = {kind: declared_product(module, kind) for kind in {head, head if front is None else front[1]}}
    e = Emitter(module, "forward", [POINTER, POINTER, POINTER], shared=True)
    model, given, call = e.arguments
    b = e.b
    hidden = _word(e, given, PassWord.HIDDEN)
    tokens = b.mul(_word(e, given, PassWord.ROWS), _word(e, given, PassWord.TOKENS))
    x, ids = _word(e, given, PassWord.X, POINTER), _word(e, call, CallWord.IDS, POINTER)
    vocab, embeddings = _word(e, model, ModelWord.VOCAB), _word(e, model, ModelWord.TABLE, POINTER)
    count, read = _word(e, model, ModelWord.TOKENS), _word(e, given, PassWord.READ, POINTER)
    eps, scratch = _word(e, given, PassWord.EPS, FLOAT), _word(e, given, PassWord.SCRATCH, POINTER)

    def norm(weight: Value, source: Value, target: Value) -> None:
        """One token's; without a weight it is a copy."""
        with b.if_else(b.icmp_unsigned("!=", b.ptrtoint(weight, I64), I64(0))) as (there, not_there):
            with there:
                b.call(normed, [source, target, weight, I64(1), hidden, eps])
            with not_there:
                _copy(e, machine.lanes, source, target, hidden)

    def embedded(token: Value, target: Value) -> None:
        told = e.load(e.at(ids, token, I64), I64)
        # A draft's table may end before the target's does; what lies behind it is not memory of ours.
        own = b.select(b.icmp_unsigned("<", told, count), told, b.sub(count, I64(1)))
        _embed(e, machine.lanes, embeddings, table, b.mul(own, hidden), target, hidden)

    if front is None:
        with e.loop(0, tokens) as token:
            embedded(token, e.at(x, b.mul(token, hidden)))
    else:
        wide, features = b.mul(hidden, I64(2)), _word(e, call, CallWord.FEATURES, POINTER)
        with e.loop(0, tokens) as token:
            both, stream = e.at(read, b.mul(token, wide)), e.at(x, b.mul(token, hidden))
            feature, behind = e.at(features, b.mul(token, hidden)), e.at(both, hidden)
            embedded(token, both)
            if front[0] == "joined":
                _copy(e, machine.lanes, feature, behind, hidden)
            else:
                norm(_word(e, model, ModelWord.TABLE_NORM, POINTER), both, both)
                norm(_word(e, model, ModelWord.FEATURE_NORM, POINTER), feature, behind)
                residual = b.icmp_signed("!=", _word(e, model, ModelWord.RESIDUAL_NORMED), I64(0))
                _copy(e, machine.lanes, b.select(residual, behind, feature), stream, hidden)
        if front[0] == "joined":
            b.call(products[front[1]], [
                read, wide, _word(e, model, ModelWord.FRONT, POINTER), x, hidden,
                _word(e, model, ModelWord.FRONT_BIAS, POINTER), tokens, wide, hidden, I64(0), scratch,
            ])  # fmt: skip
            _copy(e, machine.lanes, x, read, b.mul(tokens, hidden))  # the first layer may read it as it is
    described, weight = _word(e, model, ModelWord.LAYERS, POINTER), _word(e, model, ModelWord.NORM, POINTER)
    end = _word(e, call, CallWord.LAYERS)
    taps = _word(e, call, CallWord.TAPS)
    states, width = _word(e, call, CallWord.STATES, POINTER), b.mul(taps, hidden)
    done = e.variable(I64, I64(0))
    with e.loop(0, taps) as tap:
        layer = e.load(e.at(_word(e, call, CallWord.TAPPED, POINTER), tap, I64), I64)
        place = e.at(states, e.load(e.at(_word(e, call, CallWord.TAP_AT, POINTER), tap, I64), I64))
        until = b.select(b.icmp_signed("<", layer, end), layer, end)
        b.call(run, [b.load(done, typ=I64), until, described, given])
        b.store(until, done)
        with e.loop(0, tokens) as token:
            source, target = e.at(x, b.mul(token, hidden)), e.at(place, b.mul(token, width))
            with b.if_else(b.icmp_signed("==", layer, end)) as (last, inner):
                with last:
                    norm(weight, source, target)
                with inner:
                    _copy(e, machine.lanes, source, target, hidden)
    b.call(run, [b.load(done, typ=I64), end, described, given])
    judged = _word(e, call, CallWord.JUDGED)
    picks = _word(e, call, CallWord.PICKS, POINTER)
    some = b.icmp_unsigned("!=", b.ptrtoint(picks, I64), I64(0))
    with e.loop(0, judged) as number:
        token = e.variable(I64, number)
        with b.if_then(some):
            b.store(e.load(e.at(picks, number, I64), I64), token)
        source = e.at(x, b.mul(b.load(token, typ=I64), hidden))
        norm(weight, source, e.at(read, b.mul(number, hidden)))
    b.call(products[head], [
        read, hidden, _word(e, model, ModelWord.HEAD, POINTER), _word(e, call, CallWord.LOGITS, POINTER), vocab,
        ir.Constant(POINTER, None), judged, hidden, vocab, I64(0), scratch,
    ])  # fmt: skip
    e.end()
    return e.function


def _embed(e: Emitter, lanes: int, table: Value, kind: Table, begin: Value, out: Value, hidden: Value) -> None:
    """One row of the table, from element `begin` on, in float32."""
    b, vector = e.b, ir.VectorType(FLOAT, lanes)
    with e.loop(0, hidden, lanes) as i:
        at = b.add(begin, i)
        if kind == "float32":
            value = e.load(e.at(table, at), vector)
        elif kind == "float16":
            value = b.fpext(e.load(e.at(table, at, HALF), ir.VectorType(HALF, lanes)), vector)
        else:
            words = ir.VectorType(I32, lanes)
            upper = b.zext(e.load(e.at(table, at, I16), ir.VectorType(I16, lanes)), words)
            value = b.bitcast(b.shl(upper, ir.Constant(words, [16] * lanes)), vector)
        e.store(value, e.at(out, i))


def _copy(e: Emitter, lanes: int, source: Value, target: Value, count: Value) -> None:
    vector = ir.VectorType(FLOAT, lanes)
    with e.loop(0, count, lanes) as i:
        e.store(e.load(e.at(source, i), vector), e.at(target, i))


def _chain(module: Any, machine: Machine, forward: Any, top: Any) -> None:
    law_of, draw_of = law_of_row(module, machine), draw_of_row(module, machine)
    e = Emitter(module, "chain", [POINTER] * 6, shared=True)
    model, given, call, step, step_call, chain = e.arguments
    b = e.b
    most, least = _word(e, chain, ChainWord.MOST), _word(e, chain, ChainWord.LEAST, FLOAT)
    choice, drawn = _word(e, chain, ChainWord.CHOICE), _word(e, chain, ChainWord.DRAWN, POINTER)
    vocab, first = _word(e, model, ModelWord.VOCAB), _word(e, call, CallWord.LOGITS, POINTER)
    b.call(forward, [model, given, call])
    chance, going = e.variable(FLOAT, FLOAT(1.0)), e.variable(I64, I64(1))
    shares = _word(e, chain, ChainWord.SHARES, POINTER)
    told = e.at(drawn, most, I64)
    warps = _word(e, chain, ChainWord.WARPS, POINTER)
    greedy = b.icmp_unsigned("==", b.ptrtoint(warps, I64), I64(0))
    with e.loop(0, most) as number, b.if_then(b.icmp_signed("!=", b.load(going, typ=I64), I64(0))):
        logits, token = e.at(first, b.mul(number, vocab)), e.at(drawn, number, I64)
        with b.if_else(greedy) as (by_rank, by_law):
            with by_rank:
                share = e.at(shares, number)
                b.call(top, [logits, choice, I64(1), token, share])
                b.store(b.fmul(b.load(chance, typ=FLOAT), e.load(share)), chance)
            with by_law:
                width = _word(e, chain, ChainWord.WIDTH)
                law = e.at(_word(e, chain, ChainWord.LAWS, POINTER), b.mul(number, width))
                b.call(law_of, [logits, choice, warps, law, _word(e, chain, ChainWord.ROOM, POINTER)])
                index = b.add(_word(e, chain, ChainWord.INDEX), number)
                b.call(draw_of, [law, choice, uniform(e, _word(e, chain, ChainWord.KEY), index), token])
        count = b.add(number, I64(1))
        e.store(count, told)
        goes = b.and_(b.icmp_signed("<", count, most), b.not_(b.fcmp_ordered("<", b.load(chance, typ=FLOAT), least)))
        b.store(b.zext(goes, I64), going)
        with b.if_then(goes):
            begin = _word(e, step, PassWord.BEGINS, POINTER)
            e.store(b.add(e.load(begin, I64), I64(1)), begin)
            positions = e.at(step, int(PassWord.POSITIONS), I64)
            e.store(e.at(e.load(positions, POINTER), 1, I64), positions)
            e.store(token, e.at(step_call, int(CallWord.IDS), I64))
            e.store(e.at(first, b.mul(count, vocab)), e.at(step_call, int(CallWord.LOGITS), I64))
            b.call(forward, [model, step, step_call])
    e.end()
