"""Medusa heads over a few states in one call, up to the likeliest tokens of each head."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from specterm.kernels.emitter import FLOAT, I64, POINTER, Emitter, Value
from specterm.kernels.machine import Machine
from specterm.kernels.top import top_of_row
from specterm.models.compiled.products import Kind, declared_product
from specterm.models.compiled.words import MedusaWord


def medusa(module: Any, machine: Machine, kind: Kind) -> None:
    """The function medusa(words) of `module`; words: see `MedusaWord`. kind: how all weights are held."""
    product, top = declared_product(module, kind), top_of_row(module, machine)
    e = Emitter(module, "medusa", [POINTER], shared=True)
    b, none = e.b, ir.Constant(POINTER, None)

    def word(which: MedusaWord, kind: Any = I64) -> Value:
        return e.load(e.at(e.arguments[0], int(which), I64), kind)

    def address(table: MedusaWord, index: Value) -> Value:
        return e.load(e.at(word(table, POINTER), index, I64), POINTER)

    rows, heads, hidden, vocab, found = (
        word(each)
        for each in (MedusaWord.ROWS, MedusaWord.HEADS, MedusaWord.HIDDEN, MedusaWord.VOCAB, MedusaWord.FOUND)
    )
    states, x, y = (word(each, POINTER) for each in (MedusaWord.STATES, MedusaWord.X, MedusaWord.Y))
    logits, scratch = word(MedusaWord.LOGITS, POINTER), word(MedusaWord.SCRATCH, POINTER)
    together, of_head = b.mul(heads, hidden), b.mul(rows, hidden)

    def multiply(source: Value, weight: Value, bias: Value, target: Value, out: Value) -> None:
        b.call(product, [source, hidden, weight, target, out, bias, rows, hidden, out, I64(0), scratch])

    multiply(states, word(MedusaWord.FIRST, POINTER), word(MedusaWord.FIRST_BIAS, POINTER), y, together)
    with e.loop(0, heads) as head, e.loop(0, rows) as row:
        own = e.at(x, b.add(b.mul(head, of_head), b.mul(row, hidden)))
        turned = e.at(y, b.add(b.mul(row, together), b.mul(head, hidden)))
        _add_silu(e, machine.lanes, e.at(states, b.mul(row, hidden)), turned, own, hidden)
    with e.loop(0, word(MedusaWord.FURTHER)) as layer, e.loop(0, heads) as head:
        place, own = b.add(b.mul(layer, heads), head), e.at(x, b.mul(head, of_head))
        multiply(own, address(MedusaWord.WEIGHTS, place), address(MedusaWord.BIASES, place), y, hidden)
        _add_silu(e, machine.lanes, own, y, own, of_head)
    with e.loop(0, heads) as head:
        multiply(e.at(x, b.mul(head, of_head)), address(MedusaWord.JUDGES, head), none, logits, vocab)
        with e.loop(0, rows) as row:
            place = b.mul(b.add(b.mul(row, heads), head), found)
            b.call(top, [
                e.at(logits, b.mul(row, vocab)), vocab, found, e.at(word(MedusaWord.IDS, POINTER), place, I64),
                e.at(word(MedusaWord.SHARES, POINTER), place),
            ])  # fmt: skip
    e.end()


def _add_silu(e: Emitter, lanes: int, x: Value, y: Value, target: Value, count: Value) -> None:
    """x + y / (1 + e^-y)."""
    b, vector = e.b, ir.VectorType(FLOAT, lanes)
    one = e.splat(FLOAT(1.0), lanes)
    with e.loop(0, count, lanes) as i:
        own, turned = (e.load(e.at(each, i), vector) for each in (x, y))
        e.store(b.fadd(own, b.fdiv(turned, b.fadd(one, e.exp(b.fneg(turned))))), e.at(target, i))
