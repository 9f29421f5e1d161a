"""Rounds of one row in one call: drafts, the target's pass over them, the exact rule's walk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import Any

from llvmlite import ir

from specterm.kernels.emitter import DOUBLE, I64, POINTER, VOID, Emitter, Value
from specterm.kernels.words import WalkWord
from specterm.models.compiled.layers import PassWord
from specterm.models.compiled.lookup import Lookup
from specterm.models.compiled.merging import Merging
from specterm.models.compiled.model import declared_forward, word
from specterm.models.compiled.words import BeamWord, CallWord, ChainWord, DrafterWord, StrideWord


class Record(IntEnum):
    """What is told of a round. The ticks are the processor's, when the round began and when each part was done."""

    COUNT = 0  # draft nodes
    KEPT = auto()  # how many of them
    FOLLOWING = auto()  # the token behind those
    BEGUN = auto()
    DRAFTED = auto()
    VERIFIED = auto()
    JUDGED = auto()
    LEVELS = auto()  # that all drafters made, of trees; likewise what follows
    RATE = auto()  # float64: the tokens a second that were expected of it
    PROMISED = auto()  # float64: the sum of the nodes' scores
    REST = auto()
    """From here on: tokens [MOST], and float64 [MOST] the probabilities that models gave them, where there are models;
    of trees also parents, from 1, and sources [MOST], the nodes kept [DEPTH], and how much of its chain stands in the
    cache of each drafter."""


def record_size(most: int, depth: int, drafters: int, *, tree: bool) -> int:
    """See `Record`."""
    return Record.REST + (4 * most + depth + drafters if tree else 2 * most)


@dataclass(frozen=True, slots=True)
class Draft:
    """How a model drafts: the name of its `chains.chain`, or of its `beams.grow`."""

    name: str
    beams: bool = False


def stride(module: Any, forward: str, drafts: Sequence[Draft], *, tree: bool = False, lookup: bool = False) -> None:
    """The function stride(words) of `module`, see `StrideWord`. `forward` names the target's, see `model.forward`.
    Without a tree there is one draft, a chain, or one that is looked up, or none."""
    run, walk = declared_forward(module, forward), ir.Function(module, ir.FunctionType(VOID, [POINTER]), "walk")
    e = Emitter(module, "stride", [POINTER], shared=True)
    words, b = e.arguments[0], e.b
    model, given, call, walked, ids, ends = (
        word(e, words, which, POINTER)
        for which in (
            StrideWord.MODEL, StrideWord.PASS, StrideWord.CALL, StrideWord.WALK, StrideWord.IDS, StrideWord.ENDS
        )
    )  # fmt: skip
    path = word(e, walked, WalkWord.PATH, POINTER)
    most, depth = word(e, words, StrideWord.MOST), word(e, words, StrideWord.DEPTH)
    start, index = e.variable(I64, word(e, words, StrideWord.START)), e.variable(I64, word(e, words, StrideWord.INDEX))
    count, going, done = (e.variable(I64, I64(n)) for n in (0, 1, 0))
    drafters = [
        Drafter(e, e.load(e.at(word(e, words, StrideWord.DRAFTERS, POINTER), i, I64), POINTER), draft)
        for i, draft in enumerate(drafts)
    ]
    text = Lookup(e, word(e, words, StrideWord.LOOKUP, POINTER), most) if lookup else None
    merging = Merging(e, word(e, words, StrideWord.TREE, POINTER), most) if tree else None
    rest = b.add(b.mul(most, I64(4)), b.add(depth, I64(len(drafts)))) if tree else b.mul(most, I64(2))
    tokens = e.at(ids, 1, I64)
    with e.loop(0, word(e, words, StrideWord.ROUNDS)) as number, b.if_then(_set(b, going)):
        size = b.add(rest, I64(int(Record.REST)))
        record = e.at(word(e, words, StrideWord.RECORDS, POINTER), b.mul(number, size), I64)

        def tell(place: Record, value: Value, record: Value = record) -> None:
            e.store(value, e.at(record, int(place), I64))

        def told(place: int, record: Value = record) -> Value:
            """Behind so many arrays as long as the most nodes."""
            return e.at(record, b.add(I64(int(Record.REST)), b.mul(most, I64(place))), I64)

        tell(Record.BEGUN, e.ticks())
        root, of_round = b.load(start, typ=I64), b.load(index, typ=I64)
        if merging is not None:
            merging.begin(len(drafts))
            for source, drafter in enumerate(drafters):
                drafter.draft(of_round, merging.worths())
                merging.add(drafter, source)
            b.store(merging.choose(tokens, root, told(1), told(2), told(3)), count)
            for place, value in merging.figures():
                tell(Record[place], value)
        elif drafters:
            drafters[0].draft(of_round, None)
            b.store(drafters[0].copy_chain(tokens, told(1)), count)
        elif text is not None:
            b.store(text.draft(tokens), count)
        nodes = b.load(count, typ=I64)
        _copy(e, tokens, told(0), nodes)
        tell(Record.COUNT, nodes)
        tell(Record.DRAFTED, e.ticks())
        place_pass(e, given, word(e, words, StrideWord.PLACES, POINTER), root, b.add(nodes, I64(1)))
        if merging is not None:
            merging.show(given, b.add(nodes, I64(1)))
        e.store(b.add(nodes, I64(1)), e.at(call, int(CallWord.JUDGED), I64))
        b.call(run, [model, given, call])
        tell(Record.VERIFIED, e.ticks())
        for which, value in ((WalkWord.NODES, nodes), (WalkWord.POSITION, root), (WalkWord.ROUND, of_round)):
            e.store(value, e.at(walked, int(which), I64))
        b.call(walk, [walked])
        for kind, at in ((CallWord.LOGITS, call), (WalkWord.LOGITS, walked)):
            e.store(b.add(word(e, at, kind), word(e, words, StrideWord.LOGITS_STEP)), e.at(at, int(kind), I64))
        kept, following = (e.load(e.at(path, i, I64), I64) for i in range(2))
        tell(Record.KEPT, kept)
        tell(Record.FOLLOWING, following)
        if merging is not None:
            _copy(e, e.at(path, 2, I64), told(4), kept)
            merging.move(path, kept, root)
            _gather(e, tokens, e.at(path, 2, I64), kept)  # from here on the tokens are those that are kept
        _look_for_ends(e, tokens, kept, following, (ends, word(e, words, StrideWord.END_COUNT)), going)
        e.store(following, ids)
        b.store(b.add(root, b.add(kept, I64(1))), start)
        for source, drafter in enumerate(drafters):
            in_place = drafter.learn(tokens, kept, following, b.load(start, typ=I64), nodes if not tree else None)
            if tree:
                e.store(in_place, e.at(told(4), b.add(depth, I64(source)), I64))
        if text is not None:
            text.learn(tokens, kept, following)
        b.store(b.add(of_round, word(e, words, StrideWord.INDEX_STEP)), index)
        b.store(b.add(number, I64(1)), done)
        tell(Record.JUDGED, e.ticks())
    e.store(b.load(done, typ=I64), e.at(words, int(StrideWord.ROUNDS), I64))
    e.end()


class Drafter:
    """A model's part in a stride."""

    def __init__(self, e: Emitter, words: Value, draft: Draft) -> None:
        self._e, self._at, self.beams = e, words, draft.beams
        kind = ir.FunctionType(VOID, [POINTER] * (2 if draft.beams else 6))
        self._make = e.module.globals.get(draft.name) or ir.Function(e.module, kind, draft.name)
        self.words = word(e, words, DrafterWord.WORDS, POINTER)
        self._ids = word(e, words, DrafterWord.IDS, POINTER)

    def _word(self, which: DrafterWord, kind: Any = I64) -> Value:
        return word(self._e, self._at, which, kind)

    def draft(self, index: Value, worths: Value | None) -> None:
        """From what is pending on. index: of the round's first random number; worths: see `BeamWord`."""
        e, b = self._e, self._e.b
        pending, start = self._word(DrafterWord.PENDING), self._word(DrafterWord.START)
        model, given, call, places = (
            self._word(which, POINTER)
            for which in (DrafterWord.MODEL, DrafterWord.PASS, DrafterWord.CALL, DrafterWord.PLACES)
        )
        last = b.sub(pending, I64(1))
        place_pass(e, given, places, start, pending)
        e.store(last, word(e, call, CallWord.PICKS, POINTER))
        if self.beams:
            e.store(b.add(start, last), e.at(self.words, int(BeamWord.ROOT), I64))
            if worths is not None:
                e.store(worths, e.at(self.words, int(BeamWord.WORTHS), I64))
            b.call(self._make, [model, self.words])
            return
        step, step_call = self._word(DrafterWord.STEP, POINTER), self._word(DrafterWord.STEP_CALL, POINTER)
        place_pass(e, step, places, b.add(start, last), I64(1))
        e.store(index, e.at(self.words, int(ChainWord.INDEX), I64))
        b.call(self._make, [model, given, call, step, step_call, self.words])

    def chain(self) -> tuple[Value, Value, Value]:
        """Of a chain: its tokens, their probabilities, and how many there are."""
        e = self._e
        drawn, shares = (word(e, self.words, which, POINTER) for which in (ChainWord.DRAWN, ChainWord.SHARES))
        return drawn, shares, e.load(e.at(drawn, word(e, self.words, ChainWord.MOST), I64), I64)

    def copy_chain(self, tokens: Value, chances: Value) -> Value:
        """The chain's tokens go there, and what they were likely by: how many there are."""
        e, b = self._e, self._e.b
        drawn, shares, count = self.chain()
        _copy(e, drawn, tokens, count)
        laws, width = word(e, self.words, ChainWord.LAWS, POINTER), word(e, self.words, ChainWord.WIDTH)
        greedy = b.icmp_signed("==", word(e, self.words, ChainWord.WARPS), I64(0))
        with e.loop(0, count) as i:
            own = b.add(b.mul(i, width), e.load(e.at(drawn, i, I64), I64))
            chance = e.load(b.select(greedy, e.at(shares, i), e.at(laws, own)))
            e.store(b.fpext(chance, DOUBLE), e.at(chances, i, DOUBLE))
        return count

    def learn(self, tokens: Value, kept: Value, following: Value, start: Value, count: Value | None) -> Value:
        """`kept` tokens and the `following` one came next, and the target's next root goes to slot `start`. What a
        chain wrote of them, all but its last token, stands in the cache and is not pending; returns how much that is.
        count: of a chain that was the whole draft, whose tokens those are that were kept."""
        e, b = self._e, self._e.b
        in_place, going = e.variable(I64, I64(0)), e.variable(I64, I64(1))
        if count is not None:
            b.store(b.select(b.icmp_signed("<", kept, count), kept, b.sub(count, I64(1))), in_place)
        elif not self.beams:
            drawn, _, own = self.chain()
            written = b.sub(own, I64(1))
            with e.loop(0, b.select(b.icmp_signed("<", kept, written), kept, written)) as i:
                same = b.icmp_signed("==", e.load(e.at(drawn, i, I64), I64), e.load(e.at(tokens, i, I64), I64))
                b.store(b.select(b.and_(same, _set(b, going)), I64(1), I64(0)), going)
                b.store(b.add(b.load(in_place, typ=I64), b.load(going, typ=I64)), in_place)
        stands = b.load(in_place, typ=I64)
        rest = b.sub(kept, stands)
        with b.if_else(b.icmp_signed("!=", self._word(DrafterWord.SHARED), I64(0))) as (shared, alone):
            with shared:
                e.store(following, self._ids)
                self._store(DrafterWord.PENDING, I64(1))
                self._store(DrafterWord.START, start)
            with alone:
                before = b.add(self._word(DrafterWord.START), self._word(DrafterWord.PENDING))
                _copy(e, e.at(tokens, stands, I64), self._ids, rest)
                e.store(following, e.at(self._ids, rest, I64))
                self._store(DrafterWord.PENDING, b.add(rest, I64(1)))
                self._store(DrafterWord.START, b.add(before, stands))
        return stands

    def _store(self, which: DrafterWord, value: Value) -> None:
        self._e.store(value, self._e.at(self._at, int(which), I64))


def place_pass(e: Emitter, given: Value, places: Value, slot: Value, tokens: Value) -> None:
    """One row's pass is over so many tokens of a chain, from this slot on."""
    e.store(slot, word(e, given, PassWord.BEGINS, POINTER))
    e.store(e.b.ptrtoint(e.at(places, slot, I64), I64), e.at(given, int(PassWord.POSITIONS), I64))
    e.store(tokens, e.at(given, int(PassWord.TOKENS), I64))


def _look_for_ends(
    e: Emitter, tokens: Value, kept: Value, following: Value, ends: tuple[Value, Value], going: Value
) -> None:
    """Nothing goes on where one of those that came is an end."""
    b = e.b

    def look(token: Value) -> None:
        with e.loop(0, ends[1]) as i, b.if_then(b.icmp_signed("==", e.load(e.at(ends[0], i, I64), I64), token)):
            b.store(I64(0), going)

    with e.loop(0, kept) as i:
        look(e.load(e.at(tokens, i, I64), I64))
    look(following)


def _copy(e: Emitter, source: Value, target: Value, count: Value) -> None:
    with e.loop(0, count) as i:
        e.store(e.load(e.at(source, i, I64), I64), e.at(target, i, I64))


def _gather(e: Emitter, tokens: Value, nodes: Value, count: Value) -> None:
    """The tokens of `nodes`, which are numbered from 1 and rise, go to the front."""
    with e.loop(0, count) as i:
        node = e.load(e.at(nodes, i, I64), I64)
        e.store(e.load(e.at(tokens, e.b.sub(node, I64(1)), I64), I64), e.at(tokens, i, I64))


def _set(b: Any, flag: Value) -> Value:
    return b.icmp_signed("!=", b.load(flag, typ=I64), I64(0))
