"""Walking a draft from its root by the exact rule: see `decoding.acceptance.exact`."""

from __future__ import annotations

from typing import Any

from specterm.kernels.emitter import DOUBLE, FLOAT, I64, POINTER, Emitter, Value
from specterm.kernels.laws import draw_of_row, law_of_row, residual, uniform
from specterm.kernels.machine import Machine
from specterm.kernels.top import largest_of_row
from specterm.kernels.words import WalkWord, WarpWord


def walk(module: Any, machine: Machine) -> None:
    """The function walk(words) of `module`. Laws are made of what the walk comes to only."""
    law_of, draw_of, largest = (
        law_of_row(module, machine),
        draw_of_row(module, machine),
        largest_of_row(module, machine),
    )
    e = Emitter(module, "walk", [POINTER], shared=True)
    words = e.arguments[0]
    b = e.b

    def word(which: WalkWord, kind: Any = I64) -> Value:
        return e.load(e.at(words, int(which), I64), kind)

    vocab, nodes, path = word(WalkWord.VOCAB), word(WalkWord.NODES), word(WalkWord.PATH, POINTER)
    tokens, parents, laws = (word(each, POINTER) for each in (WalkWord.TOKENS, WalkWord.PARENTS, WalkWord.LAWS))
    warps, law = word(WalkWord.WARPS, POINTER), word(WalkWord.ROOM, POINTER)
    room = e.at(law, vocab)
    greedy = b.fcmp_ordered("==", e.load(e.at(warps, int(WarpWord.TEMPERATURE), I64)), FLOAT(0.0))
    drawn_from = b.icmp_unsigned("!=", b.ptrtoint(laws, I64), I64(0))
    chain = b.icmp_unsigned("==", b.ptrtoint(parents, I64), I64(0))
    node, kept, going, token = (e.variable(I64, I64(n)) for n in (0, 0, 1, 0))

    def draw(own: Value, key: WalkWord, index: Value) -> None:
        b.call(draw_of, [own, vocab, uniform(e, word(key), index), token])

    def target_draw() -> None:
        draw(law, WalkWord.TARGET_KEY, b.add(b.add(word(WalkWord.POSITION), I64(1)), b.load(kept, typ=I64)))

    def keep(child: Value) -> None:
        b.store(child, node)
        number = b.add(b.load(kept, typ=I64), I64(1))
        b.store(number, kept)
        e.store(child, e.at(path, b.add(number, I64(1)), I64))
        b.store(I64(1), going)

    def matching_child() -> None:
        """Goes on where the token is a child's."""
        here, chosen = b.load(node, typ=I64), b.load(token, typ=I64)
        behind = b.add(here, I64(1))
        last = b.add(nodes, I64(1))
        end = b.select(b.and_(chain, b.icmp_signed("<", behind, last)), b.add(behind, I64(1)), last)
        with e.loop(behind, end) as child:
            below = e.variable(I64, here)
            with b.if_then(b.not_(chain)):
                b.store(e.load(e.at(parents, child, I64), I64), below)
            own = b.icmp_signed("==", b.load(below, typ=I64), here)
            same = b.icmp_signed("==", e.load(e.at(tokens, b.sub(child, I64(1)), I64), I64), chosen)
            first = b.icmp_signed("==", b.load(going, typ=I64), I64(0))
            with b.if_then(b.and_(b.and_(own, same), first)):
                keep(child)

    def ratio_test() -> None:
        """Goes on where the drawn child is kept; otherwise draws from what its law left."""
        here = b.load(node, typ=I64)
        with b.if_else(b.icmp_signed("==", here, nodes)) as (at_the_end, before):
            with at_the_end:
                target_draw()
            with before:
                child = e.load(e.at(tokens, here, I64), I64)
                q = e.at(laws, b.mul(here, vocab))
                index = b.add(word(WalkWord.ROUND), here)
                u = uniform(e, word(WalkWord.RATIO_KEY), index)
                p, of_draft = (b.fpext(e.load(e.at(each, child)), DOUBLE) for each in (law, q))
                # u * q < p needs no division, and refuses p = 0 even where u = 0.
                with b.if_else(b.fcmp_ordered("<", b.fmul(u, of_draft), p)) as (yes, no):
                    with yes:
                        keep(b.add(here, I64(1)))
                    with no:
                        draw(residual(e, machine.lanes, law, q, vocab, room), WalkWord.RESIDUAL_KEY, index)

    with e.loop(0, b.add(nodes, I64(1))), b.if_then(b.icmp_signed("!=", b.load(going, typ=I64), I64(0))):
        b.store(I64(0), going)
        logits = e.at(word(WalkWord.LOGITS, POINTER), b.mul(b.load(node, typ=I64), vocab))
        with b.if_else(greedy) as (likeliest, sampled):
            with likeliest:
                b.call(largest, [logits, vocab, token])
                matching_child()
            with sampled:
                b.call(law_of, [logits, vocab, warps, law, room])
                with b.if_else(drawn_from) as (by_ratio, by_match):
                    with by_ratio:
                        ratio_test()
                    with by_match:
                        target_draw()
                        matching_child()
    e.store(b.load(kept, typ=I64), path)
    e.store(b.load(token, typ=I64), e.at(path, 1, I64))
    e.end()
