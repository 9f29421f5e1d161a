"""Attention of a few tokens of one row over the slots of a cache, in float32.

Query heads that share keys are read together, four queries at a time, so that a key or a value is loaded once for them.
What a query gets does not depend on the others, to the last bit: what it does not see adds exact zeros.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from specterm.kernels.emitter import FLOAT, I8, I32, I64, POINTER, Emitter, Value
from specterm.kernels.machine import Machine

QUERIES = 4
"""Read together, as many as `Emitter.four_sums` sums."""


def attention(module: Any, machine: Machine, size: int) -> Any:
    """The function attention_SIZE(queries, queries_step, group, tokens, keys, values, begin, seen, nodes, scores,
    scale, out, out_step) of `module`, for one KV head whose keys and values are `size` wide.

    Query head g < group of token t is at queries + t * queries_step + g * size; its result goes to the like place in
    `out`. The tokens are in slots begin, begin + 1, ... of keys and values. seen: null where each sees all slots up to
    its own; else bytes [tokens, nodes], what it sees of the last `nodes` slots up to the last token's, and all before
    them is seen. scores: room for `QUERIES` numbers for each slot, rounded up to whole vectors.
    """
    few = [_micro_kernel(module, machine, size, count) for count in range(1, QUERIES + 1)]
    kinds = [POINTER, *[I64] * 3, POINTER, POINTER, I64, POINTER, I64, POINTER, FLOAT, POINTER, I64]
    e = Emitter(module, f"attention_{size}", kinds)
    b, tokens = e.b, e.arguments[3]
    total = b.mul(e.arguments[2], tokens)
    with e.loop(0, total, QUERIES) as first:
        e.call_by_count(b.sub(total, first), few, [*e.arguments, first])
    e.end()
    return e.function


def _micro_kernel(module: Any, machine: Machine, size: int, count: int) -> Any:
    """Queries `first` to first + count, which are numbered through the heads of one token, then those of the next.
    Their scores lie side by side, slot by slot; those of queries that are not there are of no use."""
    kinds = [POINTER, *[I64] * 3, POINTER, POINTER, I64, POINTER, I64, POINTER, FLOAT, POINTER, I64, I64]
    e = Emitter(module, f"queries_{size}_{count}", kinds)
    (queries, queries_step, group, tokens, keys, values, begin, seen, nodes, scores, scale, out, out_step,
     first) = e.arguments  # fmt: skip
    b = e.b
    lanes = min(machine.lanes, size & -size)
    parts, vector, four = size // lanes, ir.VectorType(FLOAT, lanes), ir.VectorType(FLOAT, QUERIES)
    end = b.add(begin, tokens)
    own_token, own_query, own_out = [], [], []
    for number in range(count):
        query = b.add(first, I64(number))
        token, head = b.sdiv(query, group), b.srem(query, group)
        own_token.append(token)
        offset = b.mul(head, I64(size))
        own_query.append(e.at(queries, b.add(b.mul(token, queries_step), offset)))
        own_out.append(e.at(out, b.add(b.mul(token, out_step), offset)))
    loaded = [[e.load(e.at(query, part * lanes), vector) for part in range(parts)] for query in own_query]
    factors, none = e.splat(scale, QUERIES), ir.Constant(vector, None)
    with e.loop(0, end) as slot:
        key = [e.load(e.at(keys, b.add(b.mul(slot, I64(size)), I64(part * lanes))), vector) for part in range(parts)]
        products = []
        for query in loaded:
            product = b.fmul(query[0], key[0])
            for one, other in zip(query[1:], key[1:], strict=True):
                product = e.fma(one, other, product)
            products.append(product)
        sums = e.four_sums([*products, *[none] * (QUERIES - count)])
        e.store(b.fmul(sums, factors), e.at(scores, b.mul(slot, I64(QUERIES))))
    for number, token in enumerate(own_token):
        _hide(e, token, e.at(scores, number), begin, end, seen, nodes)
    _weigh(e, machine.lanes, scores, end)
    # The weights are summed slot by slot: hidden slots between two leave their sum what it is without them.
    total = e.variable(four, ir.Constant(four, None))
    gathered = [[e.variable(vector, none) for _ in range(parts)] for _ in range(count)]
    with e.loop(0, end) as slot:
        weights = e.at(scores, b.mul(slot, I64(QUERIES)))
        b.store(b.fadd(b.load(total, typ=four), e.load(weights, four)), total)
        value = [
            e.load(e.at(values, b.add(b.mul(slot, I64(size)), I64(part * lanes))), vector) for part in range(parts)
        ]
        for number, own in enumerate(gathered):
            weight = e.splat(e.load(e.at(weights, number)), lanes)
            for part, room in zip(value, own, strict=True):
                b.store(e.fma(weight, part, b.load(room, typ=vector)), room)
    totals = b.load(total, typ=four)
    for number, (own, place) in enumerate(zip(gathered, own_out, strict=True)):
        whole = e.splat(b.extract_element(totals, I32(number)), lanes)
        for part, room in enumerate(own):
            e.store(b.fdiv(b.load(room, typ=vector), whole), e.at(place, part * lanes))
    e.end()
    e.function.attributes.add("noinline")
    return e.function


def _hide(e: Emitter, token: Value, scores: Value, begin: Value, end: Value, seen: Value, nodes: Value) -> None:
    """What the token does not see gets a score of minus infinity; `scores` is where those of its query begin."""
    b, never = e.b, FLOAT(float("-inf"))
    chain = b.icmp_unsigned("==", b.ptrtoint(seen, I64), I64(0))

    def hide(slot: Value) -> None:
        e.store(never, e.at(scores, b.mul(slot, I64(QUERIES))))

    with b.if_else(chain) as (all_before, some):
        with all_before, e.loop(b.add(b.add(begin, token), I64(1)), end) as slot:
            hide(slot)
        with some:
            start = b.sub(end, nodes)
            row = e.at(seen, b.mul(token, nodes), I8)
            with e.loop(start, end) as slot:
                flag = e.load(e.at(row, b.sub(slot, start), I8), I8)
                with b.if_then(b.icmp_unsigned("==", flag, I8(0))):
                    hide(slot)


def _weigh(e: Emitter, lanes: int, scores: Value, end: Value) -> None:
    """e^(score - the largest of the query) in the place of each score."""
    b, vector = e.b, ir.VectorType(FLOAT, lanes)
    last = b.mul(end, I64(QUERIES))
    filled = b.and_(b.add(last, I64(lanes - 1)), I64(-lanes))
    with e.loop(last, filled) as place:
        e.store(FLOAT(float("-inf")), e.at(scores, place))
    top = e.variable(vector, e.load(scores, vector))
    with e.loop(lanes, filled, lanes) as place:
        b.store(e.larger(b.load(top, typ=vector), e.load(e.at(scores, place), vector)), top)
    largest = e.spread(e.folded(b.load(top, typ=vector), QUERIES, e.larger), lanes)
    with e.loop(0, filled, lanes) as place:
        address = e.at(scores, place)
        e.store(e.exp(b.fsub(e.load(address, vector), largest)), address)
