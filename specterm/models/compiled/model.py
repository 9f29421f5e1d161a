"""A whole model of the Llama family, or EAGLE heads: from tokens to logits in one call."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Literal, TypeAlias

from llvmlite import ir

from specterm.kernels.emitter import FLOAT, HALF, I16, I32, I64, POINTER, VOID, Emitter, Value
from specterm.kernels.machine import Machine
from specterm.models.compiled.layers import PassWord, rms_norm
from specterm.models.compiled.products import Kind, declared_product
from specterm.models.compiled.words import CallWord, ModelWord

Table: TypeAlias = Literal["bfloat16", "float16", "float32"]
"""What the embeddings are held in."""
Front: TypeAlias = Literal["joined", "beside"]
"""How heads begin from tokens and features: by a product with both, as EAGLE does, or with layers that read both beside
a residual stream of the feature, as EAGLE-3 does."""


def word(e: Emitter, at: Value, which: IntEnum, kind: Any = I64) -> Value:
    """One of the words that begin at `at`."""
    return e.load(e.at(at, int(which), I64), kind)


def forward(
    module: Any, machine: Machine, name: str, layers: str, head: Kind, table: Table, front: tuple[Front, Kind] | None
) -> None:
    """The function NAME(model, pass, call) of `module`.

    `layers` names the function that runs the layers, which is in another module. front: of heads, and how its matrix,
    if any, is held.
    """
    run = ir.Function(module, ir.FunctionType(VOID, [I64, I64, POINTER, POINTER]), layers)
    normed = rms_norm(module, machine)
    products = {kind: declared_product(module, kind) for kind in {head, head if front is None else front[1]}}
    e = Emitter(module, name, [POINTER, POINTER, POINTER], shared=True)
    model, given, call = e.arguments
    b = e.b
    hidden = word(e, given, PassWord.HIDDEN)
    tokens = b.mul(word(e, given, PassWord.ROWS), word(e, given, PassWord.TOKENS))
    x, ids = word(e, given, PassWord.X, POINTER), word(e, call, CallWord.IDS, POINTER)
    vocab, embeddings = word(e, model, ModelWord.VOCAB), word(e, model, ModelWord.TABLE, POINTER)
    count, read = word(e, model, ModelWord.TOKENS), word(e, given, PassWord.READ, POINTER)
    eps, scratch = word(e, given, PassWord.EPS, FLOAT), word(e, given, PassWord.SCRATCH, POINTER)

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
        wide, features = b.mul(hidden, I64(2)), word(e, call, CallWord.FEATURES, POINTER)
        with e.loop(0, tokens) as token:
            both, stream = e.at(read, b.mul(token, wide)), e.at(x, b.mul(token, hidden))
            feature, behind = e.at(features, b.mul(token, hidden)), e.at(both, hidden)
            embedded(token, both)
            if front[0] == "joined":
                _copy(e, machine.lanes, feature, behind, hidden)
            else:
                norm(word(e, model, ModelWord.TABLE_NORM, POINTER), both, both)
                norm(word(e, model, ModelWord.FEATURE_NORM, POINTER), feature, behind)
                residual = b.icmp_signed("!=", word(e, model, ModelWord.RESIDUAL_NORMED), I64(0))
                _copy(e, machine.lanes, b.select(residual, behind, feature), stream, hidden)
        if front[0] == "joined":
            b.call(products[front[1]], [
                read, wide, word(e, model, ModelWord.FRONT, POINTER), x, hidden,
                word(e, model, ModelWord.FRONT_BIAS, POINTER), tokens, wide, hidden, I64(0), scratch,
            ])  # fmt: skip
            _copy(e, machine.lanes, x, read, b.mul(tokens, hidden))  # the first layer may read it as it is
    described, weight = word(e, model, ModelWord.LAYERS, POINTER), word(e, model, ModelWord.NORM, POINTER)
    end = word(e, call, CallWord.LAYERS)
    taps = word(e, call, CallWord.TAPS)
    states, width = word(e, call, CallWord.STATES, POINTER), b.mul(taps, hidden)
    done = e.variable(I64, I64(0))
    with e.loop(0, taps) as tap:
        layer = e.load(e.at(word(e, call, CallWord.TAPPED, POINTER), tap, I64), I64)
        place = e.at(states, e.load(e.at(word(e, call, CallWord.TAP_AT, POINTER), tap, I64), I64))
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
    judged = word(e, call, CallWord.JUDGED)
    picks = word(e, call, CallWord.PICKS, POINTER)
    some = b.icmp_unsigned("!=", b.ptrtoint(picks, I64), I64(0))
    with e.loop(0, judged) as number:
        token = e.variable(I64, number)
        with b.if_then(some):
            b.store(e.load(e.at(picks, number, I64), I64), token)
        source = e.at(x, b.mul(b.load(token, typ=I64), hidden))
        norm(weight, source, e.at(read, b.mul(number, hidden)))
    b.call(products[head], [
        read, hidden, word(e, model, ModelWord.HEAD, POINTER), word(e, call, CallWord.LOGITS, POINTER), vocab,
        ir.Constant(POINTER, None), judged, hidden, vocab, I64(0), scratch,
    ])  # fmt: skip
    e.end()


def declared_forward(module: Any, name: str) -> Any:
    """What `forward` writes, which is in another module than this one."""
    return ir.Function(module, ir.FunctionType(VOID, [POINTER] * 3), name)


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
