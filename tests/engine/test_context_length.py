"""What a round takes does not grow with the text behind it, but for attention itself; nor do the tensors that are held.

The short form of the benchmark of the same name: a short prompt against one that fills most of the context.
"""

import gc
import statistics
import time

import pytest
import torch
from contenders import Ours, attention_timed

from specterm.config import Request
from specterm.events import Prefilled, Round
from specterm.kernels.machine import this_machine

TEXT = "The little dog went to the big house and saw a red ball near the tree. "
METHODS = {"naive": {}, "draft": {"num_draft_tokens": 4}, "ngram": {"num_draft_tokens": 4}, "eagle": {"tree_nodes": 6}}


@pytest.fixture(scope="module")
def timed():
    """Ours, and what tells how long attention took since it was asked last."""
    if this_machine() is None:
        pytest.skip("no kernels for this processor")
    torch.set_num_threads(1)
    with attention_timed(time.thread_time) as attention:
        yield Ours("auto"), attention


def tensors() -> int:
    return sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())


@pytest.mark.parametrize("method", METHODS)
def test_rounds_cost_the_same_at_the_end_of_the_context(timed, method, monkeypatch):
    """In processor time of this thread, the best of a few attempts: the machine may do other things."""
    (ours, attention), clock = timed, time.thread_time
    monkeypatch.setattr("specterm.decoding.timing.time.perf_counter", clock)
    spec = ours.spec(method, 40, **METHODS[method])
    ratios, grown = [], []
    for _ in range(5):
        means, more = [], 0
        for repeats in (4, 52):
            seconds, attended, held = [], [], []
            prompts = ours.session.prompts(spec, [Request(prompt=TEXT * repeats)])
            for event in ours.session.run(spec, prompts, clock, lambda: False):
                taken = attention()
                if isinstance(event, Prefilled):
                    length = event.prompt_tokens
                if isinstance(event, Round):
                    seconds.append(event.seconds)
                    attended.append(taken)  # of rounds that are done together all with the first
                    held.append(tensors())
            assert (length > 850) == (repeats > 4)
            assert len(seconds) > 7
            assert 0.0 < sum(attended) < sum(seconds)
            more = max(more, held[-1] - held[2])
            means.append((sum(seconds) - sum(attended)) / len(seconds))
        ratios.append(means[1] / means[0])
        grown.append(more)
        # The text is 12 times as long. Its keys and values may push weights out of the processor's cache. Some tensors
        # are kept for each width of a pass, when it first comes.
        if min(ratios) < 2.0 and min(grown) < 8:
            return
    pytest.fail(
        f"rounds behind a long text take {min(ratios):.2f} times as long, attention left out; "
        f"{min(grown)} more tensors are held after them"
    )


@pytest.mark.parametrize("method", METHODS)
def test_rounds_take_little_longer_at_the_end_of_the_context(timed, method, monkeypatch):
    """Attention over 900 tokens included."""
    (ours, _), clock = timed, time.thread_time
    monkeypatch.setattr("specterm.decoding.timing.time.perf_counter", clock)
    spec, ratios = ours.spec(method, 40, **METHODS[method]), []
    for _ in range(5):
        medians = []
        for repeats in (4, 52):
            prompts = ours.session.prompts(spec, [Request(prompt=TEXT * repeats)])
            events = ours.session.run(spec, prompts, clock, lambda: False)
            medians.append(statistics.median(e.seconds for e in events if isinstance(e, Round) and e.index))
        ratios.append(medians[1] / medians[0])
        if ratios[-1] < 4.0:  # n-grams draft more behind a long text, too
            return
    pytest.fail(f"rounds behind a long text take {min(ratios):.2f} times as long")
