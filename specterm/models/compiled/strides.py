"""Rounds of one row in one call: the draft model's chain, the target's pass over it, the exact rule's walk."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from specterm.kernels.emitter import I64, POINTER, VOID, Emitter, Value
from specterm.kernels.machine import Machine
from specterm.kernels.words import WalkWord
from specterm.models.compiled.layers import PassWord
from specterm.models.compiled.model import declared_forward, word
from specterm.models.compiled.words import CallWord, ChainWord, StrideWord

COUNT, KEPT, FOLLOWING, BEGUN, DRAFTED, VERIFIED, JUDGED, TOKENS = range(8)
"""Where a round's figures stand in its record: draft tokens, those kept and the token behind them; the processor's
ticks when it began and when each of its parts was done; and from the last place on the draft tokens."""


def stride(module: Any, machine: Machine, forward: str, chain: str | None) -> None:
    """The function stride(words) of `module`, see `StrideWord`. `forward` names the target's, see `model.forward`;
    chain: the draft's, see `chains.chain`; None: there is none."""
    run, walk = declared_forward(module, forward), ir.Function(module, ir.FunctionType(VOID, [POINTER]), "walk")
    e = Emitter(module, "stride", [POINTER], shared=True)
    words, b = e.arguments[0], e.b
    model, walked = (word(e, words, which, POINTER) for which in (StrideWord.MODEL, StrideWord.WALK))
    most, ids = word(e, words, StrideWord.MOST), word(e, words, StrideWord.IDS, POINTER)
    drawn, path = word(e, words, StrideWord.DRAWN, POINTER), word(e, words, StrideWord.PATH, POINTER)
    ends, end_count = word(e, words, StrideWord.ENDS, POINTER), word(e, words, StrideWord.END_COUNT)
    start, index = e.variable(I64, word(e, words, StrideWord.START)), e.variable(I64, word(e, words, StrideWord.INDEX))
    count, going, done = (e.variable(I64, I64(n)) for n in (0, 1, 0))
    draft = None if chain is None else _Draft(e, words, chain)

    def look_for_end(token: Value) -> None:
        with e.loop(0, end_count) as i, b.if_then(b.icmp_signed("==", e.load(e.at(ends, i, I64), I64), token)):
            b.store(I64(0), going)

    with e.loop(0, word(e, words, StrideWord.ROUNDS)) as number, b.if_then(_set(b, going)):
        record = e.at(word(e, words, StrideWord.RECORDS, POINTER), b.mul(number, b.add(most, I64(TOKENS))), I64)

        def tell(place: int, value: Value, record: Value = record) -> None:
            e.store(value, e.at(record, place, I64))

        tell(BEGUN, e.ticks(machine))
        if draft is not None:
            b.store(draft.make(b.load(index, typ=I64)), count)
        tell(DRAFTED, e.ticks(machine))
        nodes, root = b.load(count, typ=I64), b.load(start, typ=I64)
        with e.loop(0, nodes) as node:
            token = e.load(e.at(drawn, node, I64), I64)
            e.store(token, e.at(ids, b.add(node, I64(1)), I64))
            e.store(token, e.at(record, b.add(node, I64(TOKENS)), I64))
        given, call = (
            e.load(e.at(word(e, words, which, POINTER), b.add(nodes, I64(1)), I64), POINTER)
            for which in (StrideWord.PASSES, StrideWord.CALLS)
        )
        _place(e, given, word(e, words, StrideWord.PLACES, POINTER), root)
        b.call(run, [model, given, call])
        tell(VERIFIED, e.ticks(machine))
        told = ((WalkWord.NODES, nodes), (WalkWord.POSITION, root), (WalkWord.ROUND, b.load(index, typ=I64)))
        for which, value in told:
            e.store(value, e.at(walked, int(which), I64))
        b.call(walk, [walked])
        kept, following = (e.load(e.at(path, i, I64), I64) for i in range(2))
        tell(COUNT, nodes)
        tell(KEPT, kept)
        tell(FOLLOWING, following)
        with e.loop(0, kept) as node:
            look_for_end(e.load(e.at(drawn, node, I64), I64))
        look_for_end(following)
        if draft is not None:
            draft.learn(nodes, kept, following)
        e.store(following, ids)
        b.store(b.add(root, b.add(kept, I64(1))), start)
        b.store(b.add(b.load(index, typ=I64), word(e, words, StrideWord.INDEX_STEP)), index)
        b.store(b.add(number, I64(1)), done)
        tell(JUDGED, e.ticks(machine))
    e.store(b.load(done, typ=I64), e.at(words, int(StrideWord.ROUNDS), I64))
    e.end()


class _Draft:
    """The draft's part in a stride: what is pending of it, one token or two, and where they go to."""

    def __init__(self, e: Emitter, words: Value, chain: str) -> None:
        self._e, self._chain = e, ir.Function(e.module, ir.FunctionType(VOID, [POINTER] * 6), chain)
        address = StrideWord.DRAFT, StrideWord.DRAFT_PLACES, StrideWord.DRAFT_IDS, StrideWord.CHAIN
        self._model, self._places, self._ids, self._words = (word(e, words, which, POINTER) for which in address)
        self._passes, self._calls = (
            word(e, words, which, POINTER) for which in (StrideWord.DRAFT_PASSES, StrideWord.DRAFT_CALLS)
        )
        self._start = e.variable(I64, word(e, words, StrideWord.DRAFT_START))
        self._pending = e.variable(I64, word(e, words, StrideWord.PENDING))
        self._logits = word(e, words, StrideWord.DRAFT_LOGITS)

    def make(self, index: Value) -> Value:
        """The round's chain; how many tokens it has."""
        e, b = self._e, self._e.b
        pending, start = b.load(self._pending, typ=I64), b.load(self._start, typ=I64)
        given, call = (e.load(e.at(each, pending, I64), POINTER) for each in (self._passes, self._calls))
        step, step_call = (e.load(e.at(each, 1, I64), POINTER) for each in (self._passes, self._calls))
        _place(e, step, self._places, b.add(start, b.sub(pending, I64(1))))
        with b.if_then(b.icmp_signed(">", pending, I64(1))):
            _place(e, given, self._places, start)
        for which, value in ((CallWord.IDS, b.ptrtoint(self._ids, I64)), (CallWord.LOGITS, self._logits)):
            e.store(value, e.at(step_call, int(which), I64))
        e.store(index, e.at(self._words, int(ChainWord.INDEX), I64))
        b.call(self._chain, [self._model, given, call, step, step_call, self._words])
        drawn, most = word(e, self._words, ChainWord.DRAWN, POINTER), word(e, self._words, ChainWord.MOST)
        return e.load(e.at(drawn, most, I64), I64)

    def learn(self, count: Value, kept: Value, following: Value) -> None:
        """What was kept of it stands in its cache, but for the last token of the chain, which was never read."""
        e, b = self._e, self._e.b
        whole = b.icmp_signed("==", kept, count)
        last = b.sub(count, I64(1))
        in_place = b.select(whole, last, kept)
        b.store(b.add(b.load(self._start, typ=I64), b.add(b.load(self._pending, typ=I64), in_place)), self._start)
        drawn = word(e, self._words, ChainWord.DRAWN, POINTER)
        e.store(b.select(whole, e.load(e.at(drawn, last, I64), I64), following), self._ids)
        e.store(following, e.at(self._ids, 1, I64))
        b.store(b.select(whole, I64(2), I64(1)), self._pending)


def _place(e: Emitter, given: Value, places: Value, slot: Value) -> None:
    """One row's pass begins at this slot."""
    e.store(slot, word(e, given, PassWord.BEGINS, POINTER))
    e.store(e.b.ptrtoint(e.at(places, slot, I64), I64), e.at(given, int(PassWord.POSITIONS), I64))


def _set(b: Any, flag: Value) -> Value:
    return b.icmp_signed("!=", b.load(flag, typ=I64), I64(0))
