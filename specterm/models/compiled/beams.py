"""Beams of one row grown in one call: what `decoding.drafters.host_beams` does level by level."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from llvmlite import ir

from specterm.kernels.emitter import DOUBLE, FLOAT, I8, I64, POINTER, Emitter, Value
from specterm.kernels.machine import Machine
from specterm.kernels.top import top_of_row
from specterm.models.compiled.layers import PassWord
from specterm.models.compiled.model import declared_forward
from specterm.models.compiled.words import BeamWord, ModelWord


def grow(module: Any, machine: Machine, name: str, forward: str, heads: bool) -> None:
    """The function NAME(model, words) of `module`; words: see `BeamWord`. `forward` names the model's, see
    `model.forward`; heads: whether it reads features."""
    run, top = declared_forward(module, forward), top_of_row(module, machine)
    e = Emitter(module, name, [POINTER, POINTER], shared=True)
    model, words = e.arguments
    b = e.b

    def word(which: IntEnum, kind: Any = I64, at: Value = words) -> Value:
        return e.load(e.at(at, int(which), I64), kind)

    depth, ranks, found = word(BeamWord.DEPTH), word(BeamWord.RANKS), word(BeamWord.FOUND)
    vocab, logits = word(ModelWord.VOCAB, at=model), word(BeamWord.LOGITS, POINTER)
    scores, next_scores = word(BeamWord.PATH_SCORES, POINTER), word(BeamWord.NEXT_SCORES, POINTER)
    nodes = word(BeamWord.PATH_NODES, POINTER)
    seen, seen_step = word(BeamWord.SEEN, POINTER), word(BeamWord.SEEN_STEP)
    told = word(BeamWord.LEVELS, POINTER)
    b.call(run, [model, word(BeamWord.FIRST_PASS, POINTER), word(BeamWord.FIRST_CALL, POINTER)])
    if heads:
        _copy_floats(e, word(BeamWord.ROOT_STATE, POINTER), word(BeamWord.STATES, POINTER), word(BeamWord.HIDDEN))
    paths, size, going = (e.variable(I64, I64(1)) for _ in range(3))
    reached = e.variable(DOUBLE, DOUBLE(1.0))
    e.store(DOUBLE(1.0), scores)
    e.store(I64(0), nodes)
    e.store(I8(1), seen)
    e.store(I64(0), told)
    with e.loop(0, depth) as level, b.if_then(b.icmp_signed("!=", b.load(going, typ=I64), I64(0))):
        here = e.at(told, b.add(I64(1), b.mul(level, I64(2))), I64)
        width = b.load(paths, typ=I64)
        begin = b.mul(level, b.mul(ranks, found))
        tokens, shares = (
            e.at(word(each, POINTER), begin, kind) for each, kind in ((BeamWord.TOKENS, I64), (BeamWord.SHARES, FLOAT))
        )
        with e.loop(0, width) as path:
            place = b.mul(path, found)
            b.call(top, [
                e.at(logits, b.mul(path, vocab)), word(BeamWord.CHOICE), found, e.at(tokens, place, I64),
                e.at(shares, place),
            ])  # fmt: skip
        _rename(e, word(BeamWord.TOKEN_IDS, POINTER), tokens, b.mul(width, found))
        chosen = e.at(word(BeamWord.CHOSEN, POINTER), b.mul(level, ranks), I64)
        candidates = word(BeamWord.CANDIDATES, POINTER)
        with e.loop(0, width) as path, e.loop(0, ranks) as rank:
            share = b.fpext(e.load(e.at(shares, b.add(b.mul(path, found), rank))), DOUBLE)
            score = b.fmul(e.load(e.at(scores, path, DOUBLE), DOUBLE), share)
            e.store(score, e.at(candidates, b.add(b.mul(path, ranks), rank), DOUBLE))
        _choose(e, candidates, b.mul(width, ranks), ranks, chosen, next_scores)
        e.store(width, here)
        e.store(ranks, e.at(here, 1, I64))
        e.store(b.add(level, I64(1)), told)
        b.store(I64(0), going)
        with b.if_then(b.icmp_signed("<", b.add(level, I64(1)), depth)):
            count = e.variable(I64, ranks)
            _gate(e, words, level, next_scores, ranks, reached, count)
            go_on = b.load(count, typ=I64)
            least = b.select(b.icmp_signed(">", go_on, I64(1)), go_on, I64(1))
            e.store(least, e.at(here, 1, I64))
            with b.if_then(b.icmp_signed(">", go_on, I64(0))):
                b.store(I64(1), going)
                first = b.load(size, typ=I64)
                _new_nodes(e, words, chosen, go_on, first, ranks, seen, seen_step, nodes)
                total = b.add(first, go_on)
                _pack(e, seen, seen_step, first, total, word(BeamWord.PACKED, POINTER))
                with e.loop(0, go_on) as j:
                    candidate = e.load(e.at(chosen, j, I64), I64)
                    parent, rank = b.sdiv(candidate, ranks), b.srem(candidate, ranks)
                    token = e.load(e.at(tokens, b.add(b.mul(parent, found), rank), I64), I64)
                    e.store(token, e.at(word(BeamWord.IDS, POINTER), j, I64))
                    e.store(e.load(e.at(next_scores, j, DOUBLE), DOUBLE), e.at(scores, j, DOUBLE))
                    if heads:
                        hidden = word(BeamWord.HIDDEN)
                        _copy_floats(
                            e, e.at(word(BeamWord.STATES, POINTER), b.mul(parent, hidden)),
                            e.at(word(BeamWord.FEATURES, POINTER), b.mul(j, hidden)), hidden,
                        )  # fmt: skip
                given = e.load(e.at(word(BeamWord.PASSES, POINTER), go_on, I64), POINTER)
                call = e.load(e.at(word(BeamWord.CALLS, POINTER), go_on, I64), POINTER)
                _describe(e, words, given, level, first, go_on, total)
                b.call(run, [model, given, call])
                b.store(total, size)
                b.store(go_on, paths)
    e.end()


def _copy_floats(e: Emitter, source: Value, target: Value, count: Value) -> None:
    with e.loop(0, count, 4) as i:  # all machines have vectors of four at least, and widths are multiples of them
        e.store(e.load(e.at(source, i), ir.VectorType(FLOAT, 4)), e.at(target, i))


def _rename(e: Emitter, table: Value, tokens: Value, count: Value) -> None:
    """The target's ids of tokens, where the model has a vocabulary of its own."""
    b = e.b
    with b.if_then(b.icmp_unsigned("!=", b.ptrtoint(table, I64), I64(0))), e.loop(0, count) as i:
        place = e.at(tokens, i, I64)
        e.store(e.load(e.at(table, e.load(place, I64), I64), I64), place)


def _choose(e: Emitter, scores: Value, count: Value, ranks: Value, chosen: Value, found: Value) -> None:
    """The `ranks` largest of the scores, falling, of those that are alike the first; they are overwritten."""
    b = e.b
    with e.loop(0, ranks) as number:
        best, at = e.variable(DOUBLE, DOUBLE(-1.0)), e.variable(I64, I64(0))
        with e.loop(0, count) as i:
            score = e.load(e.at(scores, i, DOUBLE), DOUBLE)
            with b.if_then(b.fcmp_ordered(">", score, b.load(best, typ=DOUBLE))):
                b.store(score, best)
                b.store(i, at)
        place = b.load(at, typ=I64)
        e.store(place, e.at(chosen, number, I64))
        e.store(b.load(best, typ=DOUBLE), e.at(found, number, DOUBLE))
        e.store(DOUBLE(-2.0), e.at(scores, place, DOUBLE))


def _gate(e: Emitter, words: Value, level: Value, scores: Value, ranks: Value, reached: Value, count: Value) -> None:
    """Takes off `count` the paths that are not worth their time: see `Budget.paths`."""
    b = e.b

    def word(which: BeamWord, kind: Any = DOUBLE) -> Value:
        return e.load(e.at(words, int(which), I64), kind)

    worths = word(BeamWord.WORTHS, POINTER)
    with b.if_then(b.icmp_unsigned("!=", b.ptrtoint(worths, I64), I64(0))):
        worth = e.load(e.at(worths, level, DOUBLE), DOUBLE)
        right, path = word(BeamWord.RIGHT), word(BeamWord.PATH)
        before, zero, one = b.load(reached, typ=DOUBLE), DOUBLE(0.0), DOUBLE(1.0)

        def smaller(x: Value, y: Value) -> Value:
            return b.select(b.fcmp_ordered("<", x, y), x, y)

        def summed(end: Value) -> Value:
            total = e.variable(DOUBLE, zero)
            with e.loop(0, end) as i:
                b.store(b.fadd(b.load(total, typ=DOUBLE), e.load(e.at(scores, i, DOUBLE), DOUBLE)), total)
            return b.load(total, typ=DOUBLE)

        now = summed(ranks)
        there = b.fcmp_ordered(">", now, zero)
        share = b.select(there, smaller(one, b.fdiv(now, before)), zero)

        def gain(score: Value) -> Value:
            return b.fmul(share, smaller(one, b.fmul(right, score)))

        needed = b.fmul(worth, path)
        going = e.variable(I64, I64(1))
        with e.loop(0, ranks) as i, b.if_then(b.icmp_signed("!=", b.load(going, typ=I64), I64(0))):
            last = b.sub(b.sub(ranks, I64(1)), i)
            brings = gain(e.load(e.at(scores, last, DOUBLE), DOUBLE))
            with b.if_else(b.fcmp_ordered("<=", brings, needed)) as (less, enough):
                with less:
                    b.store(last, count)
                with enough:
                    b.store(I64(0), going)
        left = b.load(count, typ=I64)
        spared = b.fmul(path, b.sitofp(b.sub(ranks, left), DOUBLE))
        kept = summed(left)
        poor = b.fcmp_ordered("<=", gain(kept), b.fmul(worth, b.fsub(one, spared)))
        with b.if_else(poor) as (ends, goes_on):
            with ends:
                b.store(I64(0), count)
            with goes_on:
                b.store(kept, reached)


def _new_nodes(
    e: Emitter, words: Value, chosen: Value, count: Value, first: Value, ranks: Value, seen: Value, seen_step: Value,
    nodes: Value,
) -> None:  # fmt: skip
    """Nodes `first` and on below those of the paths that they go on from: what they see, and whose they are."""
    b = e.b
    own = e.load(e.at(words, int(BeamWord.NEXT_NODES), I64), POINTER)
    with e.loop(0, count) as j:
        parent = e.load(e.at(nodes, b.sdiv(e.load(e.at(chosen, j, I64), I64), ranks), I64), I64)
        node = b.add(first, j)
        above, row = (e.at(seen, b.mul(each, seen_step), I8) for each in (parent, node))
        with e.loop(0, seen_step) as i:
            e.store(e.load(e.at(above, i, I8), I8), e.at(row, i, I8))
        e.store(I8(1), e.at(row, node, I8))
        e.store(node, e.at(own, j, I64))
    with e.loop(0, count) as j:
        e.store(e.load(e.at(own, j, I64), I64), e.at(nodes, j, I64))


def _pack(e: Emitter, seen: Value, seen_step: Value, first: Value, total: Value, packed: Value) -> None:
    """What nodes `first` to `total` see of `total`, row by row."""
    b = e.b
    with e.loop(first, total) as node:
        row = e.at(packed, b.mul(b.sub(node, first), total), I8)
        with e.loop(0, total) as i:
            e.store(e.load(e.at(e.at(seen, b.mul(node, seen_step), I8), i, I8), I8), e.at(row, i, I8))


def _describe(e: Emitter, words: Value, given: Value, level: Value, first: Value, count: Value, total: Value) -> None:
    """The pass over the nodes of a new level."""
    b = e.b

    def word(which: BeamWord, kind: Any = I64) -> Value:
        return e.load(e.at(words, int(which), I64), kind)

    root, positions = word(BeamWord.ROOT), word(BeamWord.PLACES, POINTER)
    e.store(positions, e.at(given, int(PassWord.POSITIONS), I64))
    e.store(b.add(root, first), e.load(e.at(given, int(PassWord.BEGINS), I64), POINTER))
    position, last = b.add(root, b.add(level, I64(1))), b.sub(word(BeamWord.POSITIONS), I64(1))
    position = b.select(b.icmp_signed("<", position, last), position, last)
    with e.loop(0, count) as j:
        e.store(position, e.at(positions, j, I64))
    e.store(word(BeamWord.PACKED), e.at(given, int(PassWord.SEEN), I64))
    e.store(I64(0), e.at(given, int(PassWord.SEEN_STEP), I64))
    e.store(total, e.at(given, int(PassWord.NODES), I64))
