"""Chains of tokens in one call, greedy or sampled."""

from __future__ import annotations

from typing import Any

from specterm.kernels.emitter import FLOAT, I64, POINTER, Emitter
from specterm.kernels.laws import draw_of_row, law_of_row, uniform
from specterm.kernels.machine import Machine
from specterm.kernels.top import top_of_row
from specterm.models.compiled.layers import PassWord
from specterm.models.compiled.model import declared_forward, word
from specterm.models.compiled.words import CallWord, ChainWord, ModelWord


def chain(module: Any, machine: Machine, name: str, forward: str) -> None:
    """The function NAME(model, pass, call, step, step_call, chain) of `module`.

    `forward` names the model's, see `model.forward`. A chain begins with one row's pass whose last token is judged;
    `step` and `step_call` describe passes over one token of it, the first at the slot of that last token, where they
    are moved on from.
    """
    run = declared_forward(module, forward)
    top, law_of, draw_of = (make(module, machine) for make in (top_of_row, law_of_row, draw_of_row))
    e = Emitter(module, name, [POINTER] * 6, shared=True)
    model, given, call, step, step_call, chain = e.arguments
    b = e.b
    most, least = word(e, chain, ChainWord.MOST), word(e, chain, ChainWord.LEAST, FLOAT)
    choice, drawn = word(e, chain, ChainWord.CHOICE), word(e, chain, ChainWord.DRAWN, POINTER)
    vocab, first = word(e, model, ModelWord.VOCAB), word(e, call, CallWord.LOGITS, POINTER)
    b.call(run, [model, given, call])
    chance, going = e.variable(FLOAT, FLOAT(1.0)), e.variable(I64, I64(1))
    shares = word(e, chain, ChainWord.SHARES, POINTER)
    told = e.at(drawn, most, I64)
    warps = word(e, chain, ChainWord.WARPS, POINTER)
    greedy = b.icmp_unsigned("==", b.ptrtoint(warps, I64), I64(0))
    with e.loop(0, most) as number, b.if_then(b.icmp_signed("!=", b.load(going, typ=I64), I64(0))):
        logits, token = e.at(first, b.mul(number, vocab)), e.at(drawn, number, I64)
        with b.if_else(greedy) as (by_rank, by_law):
            with by_rank:
                share = e.at(shares, number)
                b.call(top, [logits, choice, I64(1), token, share])
                b.store(b.fmul(b.load(chance, typ=FLOAT), e.load(share)), chance)
            with by_law:
                width = word(e, chain, ChainWord.WIDTH)
                law = e.at(word(e, chain, ChainWord.LAWS, POINTER), b.mul(number, width))
                b.call(law_of, [logits, choice, warps, law, word(e, chain, ChainWord.ROOM, POINTER)])
                index = b.add(word(e, chain, ChainWord.INDEX), number)
                b.call(draw_of, [law, choice, uniform(e, word(e, chain, ChainWord.KEY), index), token])
        count = b.add(number, I64(1))
        e.store(count, told)
        goes = b.and_(b.icmp_signed("<", count, most), b.not_(b.fcmp_ordered("<", b.load(chance, typ=FLOAT), least)))
        b.store(b.zext(goes, I64), going)
        with b.if_then(goes):
            begin = word(e, step, PassWord.BEGINS, POINTER)
            e.store(b.add(e.load(begin, I64), I64(1)), begin)
            positions = e.at(step, int(PassWord.POSITIONS), I64)
            e.store(e.at(e.load(positions, POINTER), 1, I64), positions)
            e.store(token, e.at(step_call, int(CallWord.IDS), I64))
            e.store(e.at(first, b.mul(count, vocab)), e.at(step_call, int(CallWord.LOGITS), I64))
            b.call(run, [model, step, step_call])
    e.end()
