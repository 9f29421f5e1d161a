"""One level of an MLP speculator over a few states in one call."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from specterm.kernels.emitter import FLOAT, I64, POINTER, Emitter, Value, single
from specterm.kernels.machine import Machine
from specterm.models.compiled.layers import rms_norm
from specterm.models.compiled.products import Kind, declared_product
from specterm.models.compiled.words import MlpWord

_ERF = 0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429
_ERF_PACE = 0.3275911


def mlp(module: Any, machine: Machine, proj: Kind, head: Kind) -> None:
    """The function mlp(words) of `module`; words: see `MlpWord`. proj, head: how those weights are held."""
    products = {kind: declared_product(module, kind) for kind in {proj, head}}
    normed = rms_norm(module, machine)
    e = Emitter(module, "mlp", [POINTER], shared=True)
    b, none, vector = e.b, ir.Constant(POINTER, None), ir.VectorType(FLOAT, machine.lanes)

    def word(which: MlpWord, kind: Any = I64) -> Value:
        return e.load(e.at(e.arguments[0], int(which), I64), kind)

    rows, wide, inner, padded, vocab = (
        word(each) for each in (MlpWord.ROWS, MlpWord.WIDE, MlpWord.INNER, MlpWord.PADDED, MlpWord.VOCAB)
    )
    following, scratch, bias = (word(each, POINTER) for each in (MlpWord.NEXT, MlpWord.SCRATCH, MlpWord.BIAS))
    of_state, of_token = (
        e.splat(word(each, FLOAT), machine.lanes) for each in (MlpWord.STATE_WEIGHT, MlpWord.TOKEN_WEIGHT)
    )
    b.call(products[proj], [
        word(MlpWord.STATES, POINTER), wide, word(MlpWord.PROJ, POINTER), following, padded, none, rows, wide, inner,
        I64(0), scratch,
    ])  # fmt: skip
    with e.loop(0, rows) as row:
        token = e.load(e.at(word(MlpWord.IDS, POINTER), row, I64), I64)
        own, told = e.at(following, b.mul(row, padded)), e.at(word(MlpWord.EMBEDDING, POINTER), b.mul(token, padded))
        with e.loop(0, padded, machine.lanes) as i:
            place = e.at(own, i)
            mixed = b.fmul(e.load(e.at(told, i), vector), of_token)
            e.store(e.fma(e.load(place, vector), of_state, mixed), place)
    b.call(normed, [following, following, word(MlpWord.NORM, POINTER), rows, padded, word(MlpWord.EPS, FLOAT)])
    with e.loop(0, rows) as row, e.loop(0, padded, machine.lanes) as i:
        place = e.at(following, b.add(b.mul(row, padded), i))
        e.store(_gelu(e, b.fadd(e.load(place, vector), e.load(e.at(bias, i), vector))), place)
    b.call(products[head], [
        following, padded, word(MlpWord.HEAD, POINTER), word(MlpWord.LOGITS, POINTER), vocab, none, rows, inner, vocab,
        I64(0), scratch,
    ])  # fmt: skip
    e.end()


def _gelu(e: Emitter, x: Value) -> Value:
    """x times the normal distribution's function at x; the error function is that of Abramowitz & Stegun 1964, 7.1.26,
    which is off by 1.5e-7 at most."""
    b, lanes = e.b, x.type.count

    def all_(value: float) -> Value:
        return e.splat(FLOAT(single(value)), lanes)

    size = b.fmul(e.size(x), all_(0.5**0.5))
    t = b.fdiv(all_(1.0), e.fma(size, all_(_ERF_PACE), all_(1.0)))
    polynomial = all_(_ERF[-1])
    for factor in reversed(_ERF[:-1]):
        polynomial = e.fma(polynomial, t, all_(factor))
    tail = b.fmul(b.fmul(polynomial, t), e.exp(b.fneg(b.fmul(size, size))))  # 1 - erf(size)
    half = b.fmul(x, all_(0.5))
    negative = b.fcmp_ordered("<", x, all_(0.0))
    return b.fmul(half, b.select(negative, tail, b.fsub(all_(2.0), tail)))
