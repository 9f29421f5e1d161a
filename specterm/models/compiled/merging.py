"""One tree of what several drafters made, in strides: `decoding.drafters.candidates` and `Budget.choose`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir

from specterm.kernels.emitter import DOUBLE, I8, I64, POINTER, VOID, Emitter, Value
from specterm.models.compiled.layers import PassWord
from specterm.models.compiled.model import word
from specterm.models.compiled.words import BeamWord, TreeWord

if TYPE_CHECKING:
    from specterm.models.compiled.strides import Drafter


class Merging:
    """Writes a tree's part in a stride."""

    def __init__(self, e: Emitter, words: Value, most: Value) -> None:
        """most: nodes that are verified."""
        self._e, self._at, self._most = e, words, most
        self._count, self._levels = e.variable(I64), e.variable(I64)
        self._rate, self._promised = e.variable(DOUBLE), e.variable(DOUBLE)
        self._move = ir.Function(e.module, ir.FunctionType(VOID, [POINTER, *[I64] * 5, POINTER, I64]), "move")

    def _word(self, which: TreeWord, kind: Any = I64) -> Value:
        return word(self._e, self._at, which, kind)

    def _of(self, which: TreeWord, place: Value | int, kind: Any = I64) -> Value:
        """The address of one entry of an array."""
        return self._e.at(self._word(which, POINTER), place, kind)

    def _get(self, which: TreeWord, place: Value | int, kind: Any = I64) -> Value:
        return self._e.load(self._of(which, place, kind), kind)

    def begin(self, drafters: int) -> None:
        """A round: nothing was drafted, and each drafter will make a level at least."""
        b = self._e.b
        b.store(I64(0), self._count)
        b.store(I64(drafters), self._levels)

    def worths(self) -> Value:
        """What further levels must bring, behind those that there are; 0 where that is not asked."""
        b, table = self._e.b, self._word(TreeWord.WORTHS)
        own = b.add(table, b.mul(b.load(self._levels, typ=I64), I64(8)))
        return b.select(b.icmp_signed("==", table, I64(0)), I64(0), own)

    def add(self, drafter: Drafter, source: int) -> None:
        """What a drafter made; `source` numbers it."""
        if drafter.beams:
            self._add_beams(drafter.words, source)
        else:
            self._add_chain(drafter, source)

    def _add_chain(self, drafter: Drafter, source: int) -> None:
        e, b = self._e, self._e.b
        drawn, shares, count = drafter.chain()
        score, node = e.variable(DOUBLE, DOUBLE(1.0)), e.variable(I64, I64(-1))
        with e.loop(0, count) as i:
            share = b.fpext(e.load(e.at(shares, i)), DOUBLE)
            b.store(b.fmul(b.load(score, typ=DOUBLE), share), score)
            token = e.load(e.at(drawn, i, I64), I64)
            b.store(self._added(b.load(node, typ=I64), token, share, b.load(score, typ=DOUBLE), source), node)
        b.store(b.add(b.load(self._levels, typ=I64), b.sub(count, I64(1))), self._levels)

    def _add_beams(self, words: Value, source: int) -> None:
        e, b = self._e, self._e.b
        levels, tokens, shares, chosen = (
            word(e, words, which, POINTER)
            for which in (BeamWord.LEVELS, BeamWord.TOKENS, BeamWord.SHARES, BeamWord.CHOSEN)
        )
        ranks, found = word(e, words, BeamWord.RANKS), word(e, words, BeamWord.FOUND)
        # What the beams had of their paths' scores is of no use to them any more.
        scores, above = (word(e, words, which, POINTER) for which in (BeamWord.CANDIDATES, BeamWord.PATH_SCORES))
        count = e.load(levels, I64)
        e.store(I64(-1), self._of(TreeWord.NODES, 0))
        e.store(DOUBLE(1.0), above)
        with e.loop(0, count) as level:
            here = e.at(levels, b.add(I64(1), b.mul(level, I64(2))), I64)
            paths, further = e.load(here, I64), e.load(e.at(here, 1, I64), I64)
            begin = b.mul(level, b.mul(ranks, found))
            with e.loop(0, paths) as path, e.loop(0, ranks) as rank:
                place = b.add(begin, b.add(b.mul(path, found), rank))
                share = b.fpext(e.load(e.at(shares, place)), DOUBLE)
                score = b.fmul(e.load(e.at(above, path, DOUBLE), DOUBLE), share)
                own = b.add(b.mul(path, ranks), rank)
                e.store(score, e.at(scores, own, DOUBLE))
                node = self._added(
                    self._get(TreeWord.NODES, path), e.load(e.at(tokens, place, I64), I64), share, score, source
                )
                e.store(node, self._of(TreeWord.NEXT_NODES, own))
            with e.loop(0, further) as i:
                own = e.load(e.at(chosen, b.add(b.mul(level, ranks), i), I64), I64)
                e.store(e.load(e.at(scores, own, DOUBLE), DOUBLE), e.at(above, i, DOUBLE))
                e.store(self._get(TreeWord.NEXT_NODES, own), self._of(TreeWord.NODES, i))
        b.store(b.add(b.load(self._levels, typ=I64), b.sub(count, I64(1))), self._levels)

    def _added(self, parent: Value, token: Value, share: Value, score: Value, source: int) -> Value:
        """A candidate below another (-1: the root), or the one that is there, which becomes stronger."""
        e, b = self._e, self._e.b
        count, bit = b.load(self._count, typ=I64), I64(1 << source)
        found = e.variable(I64, count)
        if source:  # one drafter names no token twice
            with e.loop(0, count) as i:
                same = b.icmp_signed("==", self._get(TreeWord.TOKENS, i), token)
                here = b.icmp_signed("==", self._get(TreeWord.PARENTS, i), parent)
                b.store(b.select(b.and_(same, here), i, b.load(found, typ=I64)), found)
        place = b.load(found, typ=I64)
        with b.if_else(b.icmp_signed("==", place, count)) as (new, known):
            with new:
                e.store(token, self._of(TreeWord.TOKENS, place))
                e.store(parent, self._of(TreeWord.PARENTS, place))
                depth = e.variable(I64, I64(1))
                with b.if_then(b.icmp_signed(">=", parent, I64(0))):
                    b.store(b.add(self._get(TreeWord.DEPTHS, parent), I64(1)), depth)
                e.store(b.load(depth, typ=I64), self._of(TreeWord.DEPTHS, place))
                e.store(share, self._of(TreeWord.CONFIDENCES, place, DOUBLE))
                e.store(score, self._of(TreeWord.SCORES, place, DOUBLE))
                e.store(bit, self._of(TreeWord.SOURCES, place))
                b.store(b.add(count, I64(1)), self._count)
            with known:
                for which, own in ((TreeWord.CONFIDENCES, share), (TreeWord.SCORES, score)):
                    before = self._get(which, place, DOUBLE)
                    higher = b.select(b.fcmp_ordered(">", own, before), own, before)
                    e.store(higher, self._of(which, place, DOUBLE))
                e.store(b.or_(self._get(TreeWord.SOURCES, place), bit), self._of(TreeWord.SOURCES, place))
        return place

    def choose(self, tokens: Value, root: Value, chances: Value, parents: Value, sources: Value) -> Value:
        """The candidates that are worth verifying become nodes: their tokens, confidences, parents (from 1, 0 is the
        root) and sources go there, and how many they are is returned. root: its slot."""
        b = self._e.b
        self._rank()
        keep = self._worth_verifying()
        self._lay_out(keep, tokens, root, (chances, parents, sources))
        b.store(keep, self._count)
        return keep

    def _rank(self) -> None:
        """The best candidates in ORDER, at most as many as may be verified: by falling score, then by depth, then as
        they came."""
        e, b = self._e, self._e.b
        there = e.variable(I64, I64(0))
        with e.loop(0, b.load(self._count, typ=I64)) as i:
            score, depth = self._get(TreeWord.SCORES, i, DOUBLE), self._get(TreeWord.DEPTHS, i)
            at, going = e.variable(I64, b.load(there, typ=I64)), e.variable(I64, I64(1))
            with e.loop(0, b.load(there, typ=I64)), b.if_then(b.icmp_signed("!=", b.load(going, typ=I64), I64(0))):
                place = b.sub(b.load(at, typ=I64), I64(1))
                other = self._get(TreeWord.ORDER, place)
                before = self._get(TreeWord.SCORES, other, DOUBLE)
                higher, alike = (b.fcmp_ordered(how, score, before) for how in (">", "=="))
                shallower = b.icmp_signed("<", depth, self._get(TreeWord.DEPTHS, other))
                with b.if_else(b.or_(higher, b.and_(alike, shallower))) as (passes, stays):
                    with passes:
                        with b.if_then(b.icmp_signed("<", b.add(place, I64(1)), self._most)):
                            e.store(other, self._of(TreeWord.ORDER, b.add(place, I64(1))))
                        b.store(place, at)
                    with stays:
                        b.store(I64(0), going)
            with b.if_then(b.icmp_signed("<", b.load(at, typ=I64), self._most)):
                e.store(i, self._of(TreeWord.ORDER, b.load(at, typ=I64)))
                fuller = b.add(b.load(there, typ=I64), I64(1))
                b.store(b.select(b.icmp_signed("<", fuller, self._most), fuller, self._most), there)
        b.store(b.load(there, typ=I64), self._count)

    def _worth_verifying(self) -> Value:
        """See `CalibratedBudget.choose`; all where there are no sizes."""
        e, b = self._e, self._e.b
        count, sizes = b.load(self._count, typ=I64), self._word(TreeWord.SIZE_COUNT)
        best, rate = e.variable(I64, count), e.variable(DOUBLE, DOUBLE(0.0))
        with b.if_then(b.icmp_signed(">", sizes, I64(0))):
            b.store(I64(1), best)
            draft_s = self._get(TreeWord.DRAFT_S, b.load(self._levels, typ=I64), DOUBLE)
            right, gained, at = (
                self._word(TreeWord.RIGHT, DOUBLE),
                e.variable(DOUBLE, DOUBLE(1.0)),
                e.variable(I64, I64(0)),
            )
            with e.loop(0, sizes) as i:
                wanted, reached = self._get(TreeWord.SIZES, i), b.load(at, typ=I64)
                until = b.select(b.icmp_signed("<", wanted, count), wanted, count)
                with b.if_then(b.icmp_signed(">", until, reached)):
                    with e.loop(reached, until) as node:
                        own = b.fmul(right, self._score(node))
                        own = b.select(b.fcmp_ordered("<", own, DOUBLE(1.0)), own, DOUBLE(1.0))
                        b.store(b.fadd(b.load(gained, typ=DOUBLE), own), gained)
                    b.store(until, at)
                    pass_s = self._get(TreeWord.PASS_S, i, DOUBLE)
                    now = b.fdiv(b.load(gained, typ=DOUBLE), b.fadd(draft_s, pass_s))
                    with b.if_then(b.fcmp_ordered(">", now, b.load(rate, typ=DOUBLE))):
                        b.store(now, rate)
                        b.store(until, best)
        b.store(b.load(rate, typ=DOUBLE), self._rate)
        return b.load(best, typ=I64)

    def _score(self, node: Value) -> Value:
        return self._get(TreeWord.SCORES, self._get(TreeWord.ORDER, node), DOUBLE)

    def _lay_out(self, keep: Value, tokens: Value, root: Value, told: tuple[Value, Value, Value]) -> None:
        e, b = self._e, self._e.b
        chances, parents, sources = told
        size = b.add(keep, I64(1))
        e.store(I64(0), self._of(TreeWord.ABOVE, 0))
        e.store(root, self._of(TreeWord.POSITIONS, 0))
        with e.loop(0, size) as i:
            e.store(b.trunc(b.zext(b.icmp_signed("==", i, I64(0)), I64), I8), self._of(TreeWord.SEEN, i, I8))
        b.store(DOUBLE(0.0), self._promised)
        with e.loop(0, keep) as i:
            own, node = self._get(TreeWord.ORDER, i), b.add(i, I64(1))
            e.store(node, self._of(TreeWord.PLACE, own))
            e.store(self._get(TreeWord.TOKENS, own), e.at(tokens, i, I64))
            e.store(self._get(TreeWord.CONFIDENCES, own, DOUBLE), e.at(chances, i, DOUBLE))
            e.store(self._get(TreeWord.SOURCES, own), e.at(sources, i, I64))
            candidate, parent = self._get(TreeWord.PARENTS, own), e.variable(I64, I64(0))
            with b.if_then(b.icmp_signed(">=", candidate, I64(0))):
                b.store(self._get(TreeWord.PLACE, candidate), parent)
            above = b.load(parent, typ=I64)
            e.store(above, e.at(parents, i, I64))
            e.store(above, self._of(TreeWord.ABOVE, node))
            e.store(b.add(root, self._get(TreeWord.DEPTHS, own)), self._of(TreeWord.POSITIONS, node))
            row, sees = (b.mul(each, size) for each in (node, above))
            with e.loop(0, size) as k:
                e.store(self._get(TreeWord.SEEN, b.add(sees, k), I8), self._of(TreeWord.SEEN, b.add(row, k), I8))
            e.store(I8(1), self._of(TreeWord.SEEN, b.add(row, node), I8))
            b.store(b.fadd(b.load(self._promised, typ=DOUBLE), self._score(i)), self._promised)

    def figures(self) -> list[tuple[str, Value]]:
        """What a record says of the tree, by the names of `strides.Record`."""
        b = self._e.b
        rate, promised = (b.bitcast(b.load(each, typ=DOUBLE), I64) for each in (self._rate, self._promised))
        return [("LEVELS", b.load(self._levels, typ=I64)), ("RATE", rate), ("PROMISED", promised)]

    def show(self, given: Value, size: Value) -> None:
        """The pass is over the tree's nodes, so many with the root."""
        e = self._e
        for which, value in (
            (PassWord.POSITIONS, self._word(TreeWord.POSITIONS)),
            (PassWord.SEEN, self._word(TreeWord.SEEN)),
            (PassWord.NODES, size),
        ):
            e.store(value, e.at(given, int(which), I64))

    def move(self, path: Value, kept: Value, root: Value) -> None:
        """The keys and values of the nodes that are kept go together behind the root's; path: see `WalkWord`."""
        e, b = self._e, self._e.b
        moved = e.variable(I64, I64(0))
        with e.loop(0, kept) as i:
            node, depth = e.load(e.at(path, b.add(i, I64(2)), I64), I64), b.add(i, I64(1))
            with b.if_then(b.icmp_signed(">", node, depth)):
                pair = self._of(TreeWord.MOVES, b.mul(b.load(moved, typ=I64), I64(2)))
                e.store(b.add(root, depth), pair)
                e.store(b.add(root, node), e.at(pair, 1, I64))
                b.store(b.add(b.load(moved, typ=I64), I64(1)), moved)
        count = b.load(moved, typ=I64)
        with b.if_then(b.icmp_signed(">", count, I64(0))):
            layers = self._get(TreeWord.CACHE, 0, POINTER)
            told = [self._get(TreeWord.CACHE, place) for place in range(1, 6)]
            b.call(self._move, [layers, *told, self._word(TreeWord.MOVES, POINTER), count])
