"""How much of a GPU's bandwidth decoding uses, on random weights of real sizes:

    python -m pytest -m gpu_bench -n 0 -s tests/benchmarks/test_gpu.py

SPECTERM_BENCH_SIZES=8B measures one size only; `tiny` is for trying the benchmark itself, on any device.
"""

from __future__ import annotations

import datetime
import os
import statistics
import time

import pytest
import torch
from harness import decode
from random_llama import hugging_face, pair

from specterm.events import Round

SIZES = os.environ.get("SPECTERM_BENCH_SIZES", "1B,8B").split(",")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TOKENS = 192
PROMPT = list(range(1, 65))
GAMMA = 4
REPEATS = 5
UPPER = 0.02

pytestmark = [
    pytest.mark.gpu_bench,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(DEVICE.type == "cpu" and SIZES != ["tiny"], reason="no CUDA device"),
]


def waited() -> float:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize(DEVICE)
    return time.perf_counter()


def copy_bandwidth() -> float:
    """Bytes a second that a copy reads and writes: the best of a few."""
    size = 2**30 if DEVICE.type == "cuda" else 2**24
    a, b = torch.empty(size, dtype=torch.uint8, device=DEVICE), torch.empty(size, dtype=torch.uint8, device=DEVICE)
    found = []
    for _ in range(10):
        began = waited()
        b.copy_(a)
        found.append(2 * size / (waited() - began))
    return max(found)


def decoded(target, draft=None, gamma: int = GAMMA):
    """The rounds of one run, and what it decoded."""
    options = {"method": "draft", "drafts": [draft], "num_draft_tokens": gamma} if draft is not None else {}
    run = decode(target, [PROMPT], max_tokens=TOKENS, **options)
    return [event for event in run.events if isinstance(event, Round)], run


def rate(rounds) -> float:
    """Tokens a second of the rounds, without the prefill."""
    return sum(len(part.emitted) for event in rounds for part in event.rows) / sum(event.seconds for event in rounds)


def replay_seconds(runner) -> dict[tuple[int, int], float]:
    """What each of a runner's graphs takes by itself, by width and steps."""
    found = {}
    for shape, held in runner._graphs._passes.items():
        took = []
        for _ in range(20):
            began = waited()
            held.replay()
            took.append(waited() - began)
        found[shape.width, shape.steps] = statistics.median(took)
    return found


@pytest.mark.parametrize("size", SIZES)
@torch.inference_mode()
def test_share_of_the_bandwidth(size):
    dtype = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32
    target, draft = pair(size, DEVICE, dtype, UPPER)
    bandwidth = copy_bandwidth()
    naive, speculating = [], []
    for repeat in range(REPEATS + 1):
        for found, run in ((naive, decoded(target)), (speculating, decoded(target, draft))):
            if repeat:  # the first captures the graphs
                found.append(run)
    weights = target.size()[1] - target.embedding_weight().nbytes  # of that table a row is read
    read = weights + target.kv_token_bytes() * (len(PROMPT) + TOKENS // 2)
    plain = statistics.median(rate(rounds) for rounds, _ in naive)
    best = statistics.median(rate(rounds) for rounds, _ in speculating)
    accepted = statistics.mean(len(part.emitted) - 1 for rounds, _ in speculating for e in rounds for part in e.rows)
    assert 0 < accepted < GAMMA
    peer = hugging_face(size, DEVICE, dtype)
    ids = torch.tensor([PROMPT], device=DEVICE)
    options = {"do_sample": False, "max_new_tokens": TOKENS, "eos_token_id": None, "pad_token_id": 0}
    took = []
    for _ in range(REPEATS):
        began = waited()
        peer.generate(ids, attention_mask=torch.ones_like(ids), **options)
        took.append(waited() - began)
    eager = TOKENS / statistics.median(took)
    name = torch.cuda.get_device_name(DEVICE) if DEVICE.type == "cuda" else "CPU"
    share = plain * read / bandwidth
    print(f"\n{size}, {dtype}, one row, greedy, {name}, torch {torch.__version__}, {datetime.date.today()}")
    print(f"  copy bandwidth     {bandwidth / 1e9:8.0f} GB/s; a round reads {read / 1e9:.2f} GB")
    print(f"  naive              {plain:8.1f} token/s, {share:.0%} of the bandwidth limit")
    ratio = f"{best / plain:.2f}x, {accepted:.2f} drafted tokens accepted a round"
    print(f"  draft, gamma {GAMMA}     {best:8.1f} token/s, {ratio}")
    print(f"  HF eager generate  {eager:8.1f} token/s; naive is {plain / eager:.2f}x")
    if DEVICE.type == "cpu":
        return
    assert target.remark() is None
    alone, drafting = replay_seconds(target), replay_seconds(draft)
    whole = statistics.median(event.seconds for rounds, _ in speculating for event in rounds if event.rows[0].tokens)
    chain = next(seconds for (_, steps), seconds in drafting.items() if steps > 1)
    replays = alone[GAMMA + 1, 1] + drafting[1, 1] + chain
    ratio = f"its graph replays {1e3 * replays:.2f} ms: {whole / replays:.2f}x"
    print(f"  a round            {1e3 * whole:8.2f} ms, {ratio}")
    assert whole <= 1.1 * replays
    if size == "8B":
        assert share >= 0.75
        assert plain >= 4 * eager
