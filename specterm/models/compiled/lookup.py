"""Prompt lookup in strides: `decoding.drafters.ngram` for one branch, by a look through the whole text."""

from __future__ import annotations

from specterm.kernels.emitter import I64, POINTER, Emitter, Value
from specterm.models.compiled.model import word
from specterm.models.compiled.words import LookupWord


class Lookup:
    """Writes the lookups of a stride. The text grows with what is kept; behind it there is room for a draft."""

    def __init__(self, e: Emitter, words: Value, most: Value) -> None:
        self._e, self._at, self._most = e, words, most
        self._text = word(e, words, LookupWord.TEXT, POINTER)

    def draft(self, tokens: Value) -> Value:
        """Up to `most` tokens go there, each what followed the longest end of the text before it the last time, or of
        two that are as long; how many they are."""
        e, b = self._e, self._e.b
        length, count, going = word(e, self._at, LookupWord.LENGTH), e.variable(I64, I64(0)), e.variable(I64, I64(1))
        with e.loop(0, self._most) as i, b.if_then(b.icmp_signed("!=", b.load(going, typ=I64), I64(0))):
            b.store(I64(0), going)
            found = self._found(length, b.add(length, i))
            with b.if_then(b.icmp_signed(">=", found, I64(0))):
                token = e.load(e.at(self._text, found, I64), I64)
                e.store(token, e.at(self._text, b.add(length, i), I64))
                e.store(token, e.at(tokens, i, I64))
                b.store(b.add(i, I64(1)), count)
                b.store(I64(1), going)
        return b.load(count, typ=I64)

    def _found(self, length: Value, end: Value) -> Value:
        """The place of the token that followed, -1 where nothing did; end: of the text with the draft so far."""
        e, b = self._e, self._e.b
        longest, shortest = word(e, self._at, LookupWord.LONGEST), word(e, self._at, LookupWord.SHORTEST)
        best, at = e.variable(I64, b.sub(shortest, I64(1))), e.variable(I64, I64(-1))
        with e.loop(1, length) as back:  # the last place first: of matches of one length the first that is met counts
            place = b.sub(length, back)
            more = b.icmp_signed("<", b.load(best, typ=I64), longest)
            same = b.icmp_signed("==", self._before(place, I64(1)), self._before(end, I64(1)))
            with b.if_then(b.and_(more, same)):
                most = b.select(b.icmp_signed("<", place, longest), place, longest)
                size, going = e.variable(I64, I64(1)), e.variable(I64, I64(1))
                with e.loop(1, most) as further, b.if_then(b.icmp_signed("!=", b.load(going, typ=I64), I64(0))):
                    behind = b.add(further, I64(1))
                    alike = b.icmp_signed("==", self._before(place, behind), self._before(end, behind))
                    b.store(b.zext(alike, I64), going)
                    b.store(b.add(b.load(size, typ=I64), b.zext(alike, I64)), size)
                own = b.load(size, typ=I64)
                with b.if_then(b.icmp_signed(">", own, b.load(best, typ=I64))):
                    b.store(own, best)
                    b.store(place, at)
        return b.load(at, typ=I64)

    def _before(self, place: Value, back: Value) -> Value:
        return self._e.load(self._e.at(self._text, self._e.b.sub(place, back), I64), I64)

    def learn(self, tokens: Value, kept: Value, following: Value) -> None:
        """These tokens came next."""
        e, b = self._e, self._e.b
        length = word(e, self._at, LookupWord.LENGTH)
        with e.loop(0, kept) as i:
            e.store(e.load(e.at(tokens, i, I64), I64), e.at(self._text, b.add(length, i), I64))
        end = b.add(length, kept)
        e.store(following, e.at(self._text, end, I64))
        e.store(b.add(end, I64(1)), e.at(self._at, int(LookupWord.LENGTH), I64))
