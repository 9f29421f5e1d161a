"""How fast specterm is, against its peers and against itself. One command prints every table and holds the thresholds:

    python -m pytest -m full -n 0 -s tests/benchmarks/test_peers.py

SPECTERM_BENCH_CLOCK=processor with OMP_NUM_THREADS=1 counts processor time, for machines that are busy with other
things; drafts that run in threads then cost what all their threads take.
"""

from __future__ import annotations

import statistics

import psutil
import pytest
import torch
from contenders import (
    CLOCK,
    HuggingFace,
    Ours,
    Ratio,
    attention_timed,
    best_of,
    interleaved,
    stories,
)

from specterm.events import Loaded, Round

TOKENS = 128
PROMPTS = 4
REPEATS = 7
GAMMA = 4
METHODS = ("naive", "draft", "ngram", "suffix", "sequential", "tree", "medusa", "eagle")

pytestmark = [pytest.mark.full, pytest.mark.timeout(3600)]


def show(title, lines):
    threads, clock = torch.get_num_threads(), CLOCK.__name__
    print(f"\n{title} (torch {torch.__version__}, {threads} threads, {clock}, {TOKENS} tokens)")
    for line in lines:
        print("  " + line)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_against_hugging_face(dtype):
    ours, theirs = Ours(dtype), HuggingFace(dtype)
    contenders = {
        "naive": ours.contender("naive", TOKENS),
        "draft": ours.contender("draft", TOKENS, num_draft_tokens=GAMMA),
        "ngram": ours.contender("ngram", TOKENS, num_draft_tokens=GAMMA),
        "HF generate": theirs.naive(TOKENS),
        "HF assisted": theirs.assisted(TOKENS),
        "HF assisted, gamma": theirs.assisted(TOKENS, GAMMA),
        "HF lookup": theirs.lookup(TOKENS),
        "HF lookup, gamma": theirs.lookup(TOKENS, GAMMA),
    }
    requests = stories(PROMPTS)
    if dtype == "float32":  # the same work: the outputs are the same
        outputs = {name: contender(requests).ids for name, contender in contenders.items()}
        assert all(ids == outputs["HF generate"] for ids in outputs.values())
    rates = interleaved(contenders, requests, REPEATS)
    ratios = {
        "naive": (Ratio.of(rates["naive"], rates["HF generate"]), 2.0),
        "draft": (Ratio.of(rates["draft"], best_of(rates, ["HF assisted", "HF assisted, gamma"])), 2.7),
        "ngram": (Ratio.of(rates["ngram"], best_of(rates, ["HF lookup", "HF lookup, gamma"])), 1.5),
    }
    show(f"against Hugging Face, {dtype}", [
        *(f"{name:20} {statistics.median(own):7.1f} token/s" for name, own in rates.items()),
        *(f"{name:20} {ratio}, wanted {wanted}x" for name, (ratio, wanted) in ratios.items()),
    ])  # fmt: skip
    for name, (ratio, wanted) in ratios.items():
        assert ratio.median >= wanted, (name, ratio)


def test_methods_against_naive():
    ours = Ours("auto", ("builtin", "builtin/draft-b"))
    ours.model = ours.model.__class__(drafts=ours.model.drafts, medusa="builtin", eagle="builtin").checked()
    ours.session.load(ours.model, lambda event: None)
    rates = interleaved({name: ours.contender(name, TOKENS) for name in METHODS}, stories(PROMPTS), REPEATS)
    ratios = {name: Ratio.of(own, rates["naive"]) for name, own in rates.items() if name != "naive"}
    show("against our naive", [
        f"naive        {statistics.median(rates['naive']):7.1f} token/s",
        *(f"{name:12} {statistics.median(rates[name]):7.1f} token/s  {ratio}" for name, ratio in ratios.items()),
    ])  # fmt: skip
    assert max(ratio.median for ratio in ratios.values()) >= 2.2


def non_forward_share(ours, spec, request):
    """Of the rounds of one prompt: their time that no forward of target or draft took."""
    with ours.forwards_timed() as seconds:
        rounds = forwards = 0.0
        prompts = ours.session.prompts(spec, [request])
        for event in ours.session.run(spec, prompts, CLOCK, lambda: False):
            if isinstance(event, Round):
                rounds += event.seconds
                forwards += seconds[0]
            seconds[0] = 0.0
    return 1 - forwards / rounds


def test_time_that_is_not_a_forward(monkeypatch):
    monkeypatch.setattr("specterm.decoding.timing.time.perf_counter", CLOCK)
    ours = Ours("auto", ("builtin", "builtin/draft-b"))
    cases = {
        "naive": (ours.spec("naive", TOKENS), 0.08),
        "draft": (ours.spec("draft", TOKENS, num_draft_tokens=GAMMA), 0.08),
        "ngram": (ours.spec("ngram", TOKENS, num_draft_tokens=GAMMA), 0.08),
        "sequential": (ours.spec("sequential", TOKENS), 0.12),
        "tree": (ours.spec("tree", TOKENS), 0.12),
        "naive, sampled": (ours.spec("naive", TOKENS, temperature=1.0), 0.12),
        "draft, sampled": (ours.spec("draft", TOKENS, temperature=1.0, num_draft_tokens=GAMMA), 0.12),
    }
    (request,) = stories(1)
    shares = {
        name: statistics.median(non_forward_share(ours, spec, request) for _ in range(REPEATS))
        for name, (spec, _) in cases.items()
    }
    show("share of a round that is not a forward", [
        f"{name:16} {share:6.1%}, wanted at most {cases[name][1]:.0%}" for name, share in shares.items()
    ])  # fmt: skip
    over = {name: share for name, share in shares.items() if share > cases[name][1]}
    assert not over


def test_batch_sizes():
    ours = Ours("auto")
    requests = [request for request in stories(16) for _ in range(4)][:16]
    assert len(requests) == 16
    rates = {}
    for method in ("naive", "draft"):
        runs = {size: ours.contender(method, TOKENS, batch_size=size) for size in (1, 2, 4, 8, 16)}
        found = {size: [] for size in runs}
        alone = runs[1](requests).ids
        for _ in range(5):
            for size, run in runs.items():
                taken = run(requests)
                assert sorted(map(len, taken.ids)) == sorted(map(len, alone))
                found[size].append(taken.rate)
        rates[method] = found
    lines = [
        f"{method:6} {size:3} rows {statistics.median(own):8.1f} token/s  {Ratio.of(own, found[1])}"
        for method, found in rates.items() for size, own in found.items()
    ]  # fmt: skip
    show("throughput against batch size", lines)
    assert Ratio.of(rates["naive"][8], rates["naive"][1]).median >= 3.0


def test_cost_against_context_length(monkeypatch):
    """A round by the length of the text behind it, to the end of the context: but for attention itself it takes as long
    as at the beginning, and memory does not grow.

    The keys and values that attention reads push weights out of the processor's cache, which then everything but
    attention pays for. So each method runs twice: as it is, and with as many bytes read between rounds as the keys and
    values of the tokens to come will have, so that the cache is as full at the beginning. That empties the small caches
    too, which slows the beginning a little more than the end; and rounds that are done together have it ahead of them
    all, not between them.
    """
    monkeypatch.setattr("specterm.decoding.timing.time.perf_counter", CLOCK)
    bounds, process = (100, 300, 500, 700, 950), psutil.Process()
    methods = {"naive": {}, "draft": {"num_draft_tokens": GAMMA}, "ngram": {"num_draft_tokens": GAMMA},
               "eagle": {"tree_nodes": 8}}  # fmt: skip
    lines, flat, level, memory = [], {}, {}, {}
    with attention_timed(CLOCK) as attention:
        ours = Ours("auto")
        ours.model = ours.model.__class__(drafts=ours.model.drafts, eagle="builtin").checked()
        told = []
        ours.session.load(ours.model, told.append)
        (loaded,) = (event for event in told if isinstance(event, Loaded))
        to_come = torch.ones(bounds[-1], loaded.target.kv_token_bytes // 4)
        (request,) = stories(1)

        def parts(spec, full):
            """Milliseconds of a round up to each bound: drafting, verifying, the rest, attention, all but that."""
            length, apart_s, sums = 0, 0.0, {bound: [0.0] * 6 for bound in bounds}
            for event in ours.session.run(spec, ours.session.prompts(spec, [request]), CLOCK, lambda: False):
                attended = attention()
                if isinstance(event, Round):
                    length += len(event.rows[0].emitted)
                    bound = next((b for b in bounds if length <= b), bounds[-1])
                    # Of rounds that are done together attention is all told with the first one.
                    other = event.sampling_s + event.other_s - apart_s
                    own = event.draft_s, event.verify_s, other, attended, event.seconds - attended - apart_s, 1
                    sums[bound] = [before + part for before, part in zip(sums[bound], own, strict=True)]
                    memory[spec.method.name, bound] = process.memory_info().rss
                began = CLOCK()
                if full:
                    to_come[length:].sum()
                apart_s = CLOCK() - began  # which the next round counts as spent by who reads its events
            return {bound: [1e3 * part / rounds for part in own] for bound, (*own, rounds) in sums.items()}

        for method, parameters in methods.items():
            spec = ours.spec(method, bounds[-1], **parameters)
            turns = [(parts(spec, full=False), parts(spec, full=True)) for _ in range(4)]
            for bound in bounds:
                drafting, verifying, rest, attended, flat[method, bound] = map(
                    statistics.median, zip(*(own[bound] for own, _ in turns), strict=True)
                )
                level[method, bound] = statistics.median(own[bound][-1] for _, own in turns)
                lines.append(
                    f"{method:6} to {bound:4} tokens: drafting {drafting:6.2f} ms, verifying {verifying:6.2f} ms, the "
                    f"rest {rest:5.2f} ms; attention {attended:5.2f} ms, all but that {flat[method, bound]:6.2f} ms, "
                    f"with a full cache {level[method, bound]:6.2f} ms, memory {memory[method, bound] / 2**20:6.0f} MiB"
                )
    show("a round against context length", lines)
    for method in methods:
        assert flat[method, bounds[-1]] < 1.5 * flat[method, bounds[1]], method
        assert level[method, bounds[-1]] < 1.15 * level[method, bounds[1]], method
        assert memory[method, bounds[-1]] - memory[method, bounds[1]] < 4 * 2**20, method
