"""Attention of a few tokens of one row over the slots of a cache, in float32.

Query heads that share keys are read together, four queries at a time, so that a key or a value is loaded once for them.
What a query gets does not depend on the others, to the last bit: what it does not see adds exact zeros.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from specterm.models.compiled.emitter import FLOAT, I8, I64, POINTER, Emitter, Value
from specterm.models.compiled.machine import Machine

QUERIES = 4
"""Read together."""


def attention(module: Any, machine: Machine, size: int) -> Any:
    """The function attention_SIZE(queries, queries_step, group, tokens, keys, values, begin, seen, nodes, scores,
    scores_step, scale, out, out_step) of `module`, for one KV head whose keys and values are `size` wide.

    Query head g < group of token t is at queries + t * queries_step + g * size; its result goes to the like place in
    `out`. The tokens are in slots begin, begin + 1, ... of keys and values. seen: null where each sees all slots up to
    its own; else bytes [tokens, nodes], what it sees of the last `nodes` slots up to the last token's, and all before
    them is seen. scores: room for `QUERIES` times scores_step, at least the number of slots, rounded up to vectors.
    """
    few = [_micro_kernel(module, machine, size, count) for count in range(1, QUERIES + 1)]
    kinds = [POINTER, *[I64] * 3, POINTER, POINTER, I64, POINTER, I64, POINTER, I64, FLOAT, POINTER, I64]
    e = Emitter(module, f"attention_{size}", kinds)
    b, tokens = e.b, e.arguments[3]
    total = b.mul(e.arguments[2], tokens)
    with e.loop(0, total, QUERIES) as first:
        behind = e.function.append_basic_block("behind")
        choice = b.switch(b.sub(total, first), full := e.function.append_basic_block("full"))
        for count, kernel in enumerate(few, start=1):
            block = full if count == QUERIES else e.function.append_basic_block("few")
            if count < QUERIES:
                choice.add_case(I64(count), block)
            b.position_at_end(block)
            b.call(kernel, [*e.arguments, first])
            b.branch(behind)
        b.position_at_end(behind)
    e.end()
    return e.function


def _micro_kernel(module: Any, machine: Machine, size: int, count: int) -> Any:
    """Queries `first` to first + count, which are numbered through the heads of one token, then those of the next."""
    kinds = [POINTER, *[I64] * 3, POINTER, POINTER, I64, POINTER, I64, POINTER, I64, FLOAT, POINTER, I64, I64]
    e = Emitter(module, f"queries_{size}_{count}", kinds)
    (queries, queries_step, group, tokens, keys, values, begin, seen, nodes, scores, scores_step, scale, out, out_step,
     first) = e.arguments  # fmt: skip
    b = e.b
    lanes = min(machine.lanes, size & -size)
    parts, vector = size // lanes, ir.VectorType(FLOAT, lanes)
    end = b.add(begin, tokens)
    own_token, own_query, own_scores, own_out = [], [], [], []
    for number in range(count):
        query = b.add(first, I64(number))
        token, head = b.sdiv(query, group), b.srem(query, group)
        own_token.append(token)
        offset = b.mul(head, I64(size))
        own_query.append(e.at(queries, b.add(b.mul(token, queries_step), offset)))
        own_out.append(e.at(out, b.add(b.mul(token, out_step), offset)))
        own_scores.append(e.at(scores, b.mul(scores_step, I64(number))))
    loaded = [[e.load(e.at(query, part * lanes), vector) for part in range(parts)] for query in own_query]
    with e.loop(0, end) as slot:
        key = [e.load(e.at(keys, b.add(b.mul(slot, I64(size)), I64(part * lanes))), vector) for part in range(parts)]
        for query, room in zip(loaded, own_scores, strict=True):
            product = b.fmul(query[0], key[0])
            for one, other in zip(query[1:], key[1:], strict=True):
                product = e.fma(one, other, product)
            e.store(b.fmul(e.sum(product), scale), e.at(room, slot))
    for token, room in zip(own_token, own_scores, strict=True):
        _hide(e, token, room, begin, end, seen, nodes)
    for room in own_scores:
        _weigh(e, machine.lanes, room, end)
    zero = ir.Constant(vector, None)
    # The weights are summed slot by slot: hidden slots between two leave their sum what it is without them.
    sums = [e.variable(vector, zero) for _ in range(count)]
    gathered = [[e.variable(vector, zero) for _ in range(parts)] for _ in range(count)]
    with e.loop(0, end) as slot:
        value = [
            e.load(e.at(values, b.add(b.mul(slot, I64(size)), I64(part * lanes))), vector) for part in range(parts)
        ]
        for own, total, room in zip(gathered, sums, own_scores, strict=True):
            weight = e.splat(e.load(e.at(room, slot)), lanes)
            b.store(b.fadd(b.load(total, typ=vector), weight), total)
            for part, place in zip(value, own, strict=True):
                b.store(e.fma(weight, part, b.load(place, typ=vector)), place)
    for own, total, place in zip(gathered, sums, own_out, strict=True):
        total_weight = b.load(total, typ=vector)
        for part, room in enumerate(own):
            e.store(b.fdiv(b.load(room, typ=vector), total_weight), e.at(place, part * lanes))
    e.end()
    e.function.attributes.add("noinline")
    return e.function


def _hide(e: Emitter, token: Value, scores: Value, begin: Value, end: Value, seen: Value, nodes: Value) -> None:
    """What the token does not see gets a score of minus infinity."""
    b, never = e.b, FLOAT(float("-inf"))
    chain = b.icmp_unsigned("==", b.ptrtoint(seen, I64), I64(0))
    with b.if_else(chain) as (all_before, some):
        with all_before, e.loop(b.add(b.add(begin, token), I64(1)), end) as slot:
            e.store(never, e.at(scores, slot))
        with some:
            start = b.sub(end, nodes)
            row = e.at(seen, b.mul(token, nodes), I8)
            with e.loop(start, end) as slot:
                flag = e.load(e.at(row, b.sub(slot, start), I8), I8)
                with b.if_then(b.icmp_unsigned("==", flag, I8(0))):
                    e.store(never, e.at(scores, slot))


def _weigh(e: Emitter, lanes: int, scores: Value, end: Value) -> None:
    """e^(score - the largest) in the place of each score."""
    b, vector = e.b, ir.VectorType(FLOAT, lanes)
    filled = b.and_(b.add(end, I64(lanes - 1)), I64(-lanes))
    with e.loop(end, filled) as slot:
        e.store(FLOAT(float("-inf")), e.at(scores, slot))
    top = e.variable(vector, e.load(scores, vector))
    with e.loop(lanes, filled, lanes) as slot:
        b.store(e.larger(b.load(top, typ=vector), e.load(e.at(scores, slot), vector)), top)
    largest = e.splat(e.largest(b.load(top, typ=vector)), lanes)
    with e.loop(0, filled, lanes) as slot:
        place = e.at(scores, slot)
        e.store(e.exp(b.fsub(e.load(place, vector), largest)), place)
