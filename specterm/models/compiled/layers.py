"""Transformer layers of the Llama family over a few tokens of a few rows: one call runs them all."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, auto
from typing import Any

from llvmlite import ir

from specterm.kernels.emitter import FLOAT, I8, I64, POINTER, Emitter, Value
from specterm.kernels.machine import Machine
from specterm.models.compiled.attention import attention
from specterm.models.compiled.products import Kind, declared_product


class LayerWord(IntEnum):
    """Where the words that describe a layer stand, 64 bits each: addresses of float32 vectors and of weights in panels.
    Biases reach to the end of the last panel; absent norms and biases are 0."""

    INPUT_NORM = 0
    QKV = auto()
    QKV_BIAS = auto()
    QK_NORM = auto()  # [heads + kv_heads, head_dim]
    OUT = auto()
    OUT_BIAS = auto()
    MLP_NORM = auto()
    GATE_UP = auto()
    DOWN = auto()
    KEYS = auto()  # of row 0, [kv_heads, capacity, head_dim], values behind them, other rows behind those


class PassWord(IntEnum):
    """Likewise of a pass, and of the model that all layers belong to. N are all tokens: T of each of B rows, row by
    row."""

    HIDDEN = 0
    READ_WIDTH = auto()  # of what the first layer's attention reads
    HEADS = auto()
    KV_HEADS = auto()
    FF = auto()
    EPS = auto()  # the bits of a float32
    SCALE = auto()  # likewise, of scores
    X = auto()  # [N, hidden], the residual stream
    READ = auto()  # [N, READ_WIDTH]; where a layer has an input norm, what comes out of that
    QKV = auto()  # [N, heads + 2 * kv_heads, head_dim]
    ATTENDED = auto()  # [N, heads, head_dim]
    GATE_UP = auto()  # [N, 2 * ff]
    SCORES = auto()  # see `attention`
    SCRATCH = auto()  # see `tiles.scratch`; for the widest product
    CAPACITY = auto()
    ROWS = auto()  # B
    TOKENS = auto()  # T
    OFFSETS = auto()  # int64 [B], where the cache of each row begins, in floats behind that of row 0
    BEGINS = auto()  # int64 [B], the slot of each row's first token
    COS = auto()  # [positions, head_dim]
    SIN = auto()
    POSITIONS = auto()  # int64 [N]
    SEEN = auto()  # see `attention`
    SEEN_STEP = auto()  # bytes from one row's to the next's
    NODES = auto()
    ATTENTION_TICKS = auto()  # that attention has taken so far, see `Emitter.ticks`


def layers(module: Any, machine: Machine, size: int, kinds: Sequence[Kind], name: str) -> None:
    """The function NAME(first, end, described, pass) of `module`: layers `first` to `end` of those described, one
    after the other in blocks of words. size: of a head; kinds: of the weights of qkv, out, gate_up and
    down, whose products are in modules of their own."""
    products = {kind: declared_product(module, kind) for kind in dict.fromkeys(kinds)}
    qkv, out, gate_up, down = (products[kind] for kind in kinds)
    attend = attention(module, machine, size)
    normed, turned, gated = rms_norm(module, machine), _turn(module, machine, size), _gate(module, machine)
    e = Emitter(module, name, [I64, I64, POINTER, POINTER], shared=True)
    first, end, described, given = e.arguments
    b, null = e.b, ir.Constant(POINTER, None)

    def number(word: PassWord) -> Value:
        return e.load(e.at(given, int(word), I64), I64)

    def address(word: PassWord) -> Value:
        return e.load(e.at(given, int(word), I64), POINTER)

    def real(word: PassWord) -> Value:
        return e.load(e.at(given, int(word), I64), FLOAT)

    hidden, rows, width = number(PassWord.HIDDEN), number(PassWord.ROWS), number(PassWord.TOKENS)
    tokens = b.mul(rows, width)
    heads, kv_heads, ff = number(PassWord.HEADS), number(PassWord.KV_HEADS), number(PassWord.FF)
    x, read, states, attended, active = (
        address(word) for word in (PassWord.X, PassWord.READ, PassWord.QKV, PassWord.ATTENDED, PassWord.GATE_UP)
    )
    queries_width = b.mul(heads, I64(size))
    kv_width = b.mul(kv_heads, I64(size))
    qkv_width = b.add(queries_width, b.mul(kv_width, I64(2)))
    double = b.mul(ff, I64(2))
    eps, group, capacity = real(PassWord.EPS), b.sdiv(heads, kv_heads), number(PassWord.CAPACITY)
    no, yes, scratch = I64(0), I64(1), address(PassWord.SCRATCH)
    with e.loop(first, end) as layer:
        own = e.at(described, b.mul(layer, I64(len(LayerWord))), I64)

        def part(word: LayerWord, own: Value = own) -> Value:
            return e.load(e.at(own, int(word), I64), POINTER)

        norm = part(LayerWord.INPUT_NORM)
        read_width = e.variable(I64, number(PassWord.READ_WIDTH))
        with b.if_then(b.icmp_unsigned("!=", b.ptrtoint(norm, I64), I64(0))):
            b.store(hidden, read_width)
            b.call(normed, [x, read, norm, tokens, hidden, eps])
        reads = b.load(read_width, typ=I64)
        b.call(qkv, [read, reads, part(LayerWord.QKV), states, qkv_width, part(LayerWord.QKV_BIAS), tokens, reads,
                     qkv_width, no, scratch])  # fmt: skip
        keys = part(LayerWord.KEYS)
        kv_size = b.mul(capacity, I64(size))
        with e.loop(0, rows) as row:
            done = b.mul(row, width)
            begin = e.load(e.at(address(PassWord.BEGINS), row, I64), I64)
            row_keys = e.at(keys, e.load(e.at(address(PassWord.OFFSETS), row, I64), I64))
            row_values = e.at(row_keys, b.mul(kv_size, kv_heads))
            row_states, row_attended = e.at(states, b.mul(done, qkv_width)), e.at(attended, b.mul(done, queries_width))
            seen = e.at(address(PassWord.SEEN), b.mul(row, number(PassWord.SEEN_STEP)), I8)
            b.call(turned, [
                row_states, part(LayerWord.QK_NORM), width, heads, kv_heads, eps, address(PassWord.COS),
                address(PassWord.SIN), e.at(address(PassWord.POSITIONS), done, I64), row_keys, kv_size, begin,
            ])  # fmt: skip
            began = e.ticks()
            with e.loop(0, kv_heads) as head:
                offset, behind = b.mul(b.mul(head, group), I64(size)), b.mul(head, kv_size)
                b.call(attend, [
                    e.at(row_states, offset), qkv_width, group, width, e.at(row_keys, behind),
                    e.at(row_values, behind), begin, seen, number(PassWord.NODES), address(PassWord.SCORES),
                    real(PassWord.SCALE), e.at(row_attended, offset), queries_width,
                ])  # fmt: skip
            taken = b.add(number(PassWord.ATTENTION_TICKS), b.sub(e.ticks(), began))
            e.store(taken, e.at(given, int(PassWord.ATTENTION_TICKS), I64))
        b.call(out, [attended, queries_width, part(LayerWord.OUT), x, hidden, part(LayerWord.OUT_BIAS), tokens,
                     queries_width, hidden, yes, scratch])  # fmt: skip
        b.call(normed, [x, read, part(LayerWord.MLP_NORM), tokens, hidden, eps])
        b.call(gate_up, [read, hidden, part(LayerWord.GATE_UP), active, double, null, tokens, hidden, double, no,
                         scratch])  # fmt: skip
        b.call(gated, [active, tokens, ff])
        b.call(down, [active, double, part(LayerWord.DOWN), x, hidden, null, tokens, ff, hidden, yes,
                      scratch])  # fmt: skip
    e.end()


def rms_norm(module: Any, machine: Machine) -> Any:
    """norm(x, out, weight, rows, width, eps): out[r] = x[r] * weight / sqrt(mean(x[r]^2) + eps); x and out may be
    one."""
    e = Emitter(module, "norm", [POINTER, POINTER, POINTER, I64, I64, FLOAT])
    x, out, weight, rows, width, eps = e.arguments
    with e.loop(0, rows) as row:
        offset = e.b.mul(row, width)
        _normed(e, machine.lanes, e.at(x, offset), e.at(out, offset), weight, width, eps)
    e.end()
    return e.function


def _normed(e: Emitter, lanes: int, x: Value, out: Value, weight: Value, width: Value, eps: Value) -> None:
    """One row; `lanes` divide `width`."""
    b, vector = e.b, ir.VectorType(FLOAT, lanes)
    squares = e.variable(vector, ir.Constant(vector, None))
    with e.loop(0, width, lanes) as i:
        value = e.load(e.at(x, i), vector)
        b.store(e.fma(value, value, b.load(squares, typ=vector)), squares)
    mean = b.fdiv(e.sum(b.load(squares, typ=vector)), b.sitofp(width, FLOAT))
    factor = e.splat(b.fdiv(FLOAT(1.0), e.root(b.fadd(mean, eps))), lanes)
    with e.loop(0, width, lanes) as i:
        value = b.fmul(b.fmul(e.load(e.at(x, i), vector), e.load(e.at(weight, i), vector)), factor)
        e.store(value, e.at(out, i))


def _turn(module: Any, machine: Machine, size: int) -> Any:
    """Queries are normed, where there is a norm, and turned to their positions in their place; keys likewise, and
    values as they are, go to their slots."""
    half = size // 2
    lanes = min(machine.lanes, half & -half)
    vector = ir.VectorType(FLOAT, lanes)
    kinds = [POINTER, POINTER, I64, I64, I64, FLOAT, POINTER, POINTER, POINTER, POINTER, I64, I64]
    e = Emitter(module, f"turn_{size}", kinds)
    states, norm, tokens, heads, kv_heads, eps, cos, sin, positions, keys, kv_size, begin = e.arguments
    b = e.b
    both = b.add(heads, kv_heads)
    width = b.mul(b.add(both, kv_heads), I64(size))
    normed = b.icmp_unsigned("!=", b.ptrtoint(norm, I64), I64(0))
    with e.loop(0, tokens) as token:
        row, slot = e.at(states, b.mul(token, width)), b.mul(b.add(begin, token), I64(size))
        angle = b.mul(e.load(e.at(positions, token, I64), I64), I64(size))
        turns = [[e.load(e.at(e.at(table, angle), i), vector) for i in range(0, size, lanes)] for table in (cos, sin)]
        with e.loop(0, both) as head:
            own = e.at(row, b.mul(head, I64(size)))
            with b.if_then(normed):
                _normed(e, lanes, own, own, e.at(norm, b.mul(head, I64(size))), I64(size), eps)
            to_cache = e.at(e.at(keys, b.mul(b.sub(head, heads), kv_size)), slot)
            place = b.select(b.icmp_signed("<", head, heads), own, to_cache)
            values = [e.load(e.at(own, i), vector) for i in range(0, size, lanes)]
            count = half // lanes
            for part, (value, near, far) in enumerate(zip(values, *turns, strict=True)):
                paired = values[(part + count) % (2 * count)]
                e.store(e.fma(paired, far, b.fmul(value, near)), e.at(place, part * lanes))
        with e.loop(0, kv_heads) as head:
            source = e.at(row, b.mul(b.add(both, head), I64(size)))
            place = e.at(e.at(keys, b.mul(b.add(kv_heads, head), kv_size)), slot)
            for i in range(0, size, lanes):
                e.store(e.load(e.at(source, i), vector), e.at(place, i))
    e.end()
    return e.function


def _gate(module: Any, machine: Machine) -> Any:
    """silu(gate) * up, in the place of gate."""
    lanes, vector = machine.lanes, ir.VectorType(FLOAT, machine.lanes)
    e = Emitter(module, "gate", [POINTER, I64, I64])
    active, tokens, ff = e.arguments
    b = e.b
    with e.loop(0, tokens) as token:
        row = e.at(active, b.mul(b.mul(token, ff), I64(2)))
        up_row = e.at(row, ff)
        with e.loop(0, ff, lanes) as i:
            gate, up = e.load(e.at(row, i), vector), e.load(e.at(up_row, i), vector)
            grown = b.fadd(e.exp(b.fneg(gate)), ir.Constant(vector, [1.0] * lanes))
            e.store(b.fmul(b.fdiv(gate, grown), up), e.at(row, i))
    e.end()
    return e.function
