"""A whole model of the Llama family: from tokens to logits in one call, and greedy chains of tokens in one call."""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Any, Literal, TypeAlias

from llvmlite import ir

from specterm.models.compiled.emitter import FLOAT, HALF, I16, I32, I64, POINTER, VOID, Emitter, Value
from specterm.models.compiled.layers import PassWord, rms_norm
from specterm.models.compiled.machine import Machine
from specterm.models.compiled.products import Kind, declared_product
from specterm.models.compiled.top import top_of_row

Table: TypeAlias = Literal["bfloat16", "float16", "float32"]
"""What the embeddings are held in."""


class ModelWord(IntEnum):
    """Where the words that describe a model stand, 64 bits each."""

    LAYERS = 0  # see `layers`
    TABLE = auto()  # [VOCAB, hidden], the embeddings
    NORM = auto()  # float32 [hidden], the last one
    HEAD = auto()  # in panels
    VOCAB = auto()


class CallWord(IntEnum):
    """Likewise of what is asked of a pass, whose N tokens are described by the words of `layers`."""

    IDS = 0  # int64 [N]
    LAYERS = auto()  # how many of them
    TAPS = auto()  # states are wanted so many times
    TAPPED = auto()  # int64 [TAPS], ascending: in front of which layer; behind the last norm where it is LAYERS
    TAP_AT = auto()  # int64 [TAPS], where in a row of STATES
    STATES = auto()  # float32 [N, TAPS * hidden]
    JUDGED = auto()  # logits are wanted of so many tokens
    PICKS = auto()  # int64 [JUDGED], which; 0: the first ones
    LOGITS = auto()  # float32 [JUDGED, VOCAB]


class ChainWord(IntEnum):
    """Likewise of a chain."""

    MOST = 0  # tokens
    LEAST = auto()  # float32: the chain ends with the token at which the product of probabilities falls below it
    CHOICE = auto()  # among so many of the vocabulary
    DRAWN = auto()  # int64 [MOST + 1]: the tokens, and behind the room for them how many there are
    SHARES = auto()  # float32 [MOST]: their probabilities


def model(module: Any, machine: Machine, layers: str, head: Kind, table: Table) -> None:
    """The functions forward(model, pass, call) and chain(model, pass, call, step, step_call, chain) of `module`.

    `layers` names the function that runs the layers, which is in another module. A chain begins with one row's pass
    whose last token is judged; `step` and `step_call` describe passes over one token of it, the first at the slot of
    that last token, where they are moved on from.
    """
    forward = _forward(module, machine, layers, head, table)
    _chain(module, machine, forward)


def _word(e: Emitter, at: Value, word: IntEnum, kind: Any = I64) -> Value:
    return e.load(e.at(at, int(word), I64), kind)


def _forward(module: Any, machine: Machine, layers: str, head: Kind, table: Table) -> Any:
    run = ir.Function(module, ir.FunctionType(VOID, [I64, I64, POINTER, POINTER]), layers)
    judge, normed = declared_product(module, head), rms_norm(module, machine)
    e = Emitter(module, "forward", [POINTER, POINTER, POINTER], shared=True)
    model, given, call = e.arguments
    b = e.b
    hidden = _word(e, given, PassWord.HIDDEN)
    tokens = b.mul(_word(e, given, PassWord.ROWS), _word(e, given, PassWord.TOKENS))
    x, ids = _word(e, given, PassWord.X, POINTER), _word(e, call, CallWord.IDS, POINTER)
    vocab, embeddings = _word(e, model, ModelWord.VOCAB), _word(e, model, ModelWord.TABLE, POINTER)
    with e.loop(0, tokens) as token:
        told = e.load(e.at(ids, token, I64), I64)
        # A draft's table may end before the target's does; what lies behind it is not memory of ours.
        own = b.select(b.icmp_unsigned("<", told, vocab), told, b.sub(vocab, I64(1)))
        _embed(e, machine.lanes, embeddings, table, b.mul(own, hidden), e.at(x, b.mul(token, hidden)), hidden)
    described, weight = _word(e, model, ModelWord.LAYERS, POINTER), _word(e, model, ModelWord.NORM, POINTER)
    eps, end = _word(e, given, PassWord.EPS, FLOAT), _word(e, call, CallWord.LAYERS)
    taps = _word(e, call, CallWord.TAPS)
    states, width = _word(e, call, CallWord.STATES, POINTER), b.mul(taps, hidden)
    done = e.variable(I64, I64(0))
    with e.loop(0, taps) as tap:
        layer = e.load(e.at(_word(e, call, CallWord.TAPPED, POINTER), tap, I64), I64)
        place = e.at(states, e.load(e.at(_word(e, call, CallWord.TAP_AT, POINTER), tap, I64), I64))
        b.call(run, [b.load(done, typ=I64), layer, described, given])
        b.store(layer, done)
        with e.loop(0, tokens) as token:
            source, target = e.at(x, b.mul(token, hidden)), e.at(place, b.mul(token, width))
            with b.if_else(b.icmp_signed("==", layer, end)) as (last, inner):
                with last:
                    b.call(normed, [source, target, weight, I64(1), hidden, eps])
                with inner:
                    _copy(e, machine.lanes, source, target, hidden)
    b.call(run, [b.load(done, typ=I64), end, described, given])
    read, judged = _word(e, given, PassWord.READ, POINTER), _word(e, call, CallWord.JUDGED)
    picks = _word(e, call, CallWord.PICKS, POINTER)
    some = b.icmp_unsigned("!=", b.ptrtoint(picks, I64), I64(0))
    with e.loop(0, judged) as number:
        token = e.variable(I64, number)
        with b.if_then(some):
            b.store(e.load(e.at(picks, number, I64), I64), token)
        source = e.at(x, b.mul(b.load(token, typ=I64), hidden))
        b.call(normed, [source, e.at(read, b.mul(number, hidden)), weight, I64(1), hidden, eps])
    b.call(judge, [
        read, hidden, _word(e, model, ModelWord.HEAD, POINTER), _word(e, call, CallWord.LOGITS, POINTER), vocab,
        ir.Constant(POINTER, None), judged, hidden, vocab, I64(0), _word(e, given, PassWord.SCRATCH, POINTER),
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


def _chain(module: Any, machine: Machine, forward: Any) -> None:
    likeliest = top_of_row(module, machine)
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
    with e.loop(0, most) as number, b.if_then(b.icmp_signed("!=", b.load(going, typ=I64), I64(0))):
        logits, token = e.at(first, b.mul(number, vocab)), e.at(drawn, number, I64)
        share = e.at(shares, number)
        b.call(likeliest, [logits, choice, I64(1), token, share])
        count = b.add(number, I64(1))
        e.store(count, told)
        b.store(b.fmul(b.load(chance, typ=FLOAT), e.load(share)), chance)
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
