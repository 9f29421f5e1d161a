"""What a round takes does not grow with the text behind it, but for attention itself; nor do the tensors that are held.

The short form of the benchmark of the same name: a short prompt against one that fills most of the context.
"""

import gc
import statistics
import time

import pytest
import torch
from contenders import Ours, attention_timed, without_compiled_layers

from specterm.config import Request
from specterm.events import Prefilled, Round
from specterm.models.runners.compiled_passes import CompiledPasses

TEXT = "The little dog went to the big house and saw a red ball near the tree. "
METHODS = {"naive": {}, "draft": {"num_draft_tokens": 4}, "ngram": {"num_draft_tokens": 4}, "eagle": {"tree_nodes": 6}}


@pytest.fixture(scope="module")
def ours():
    """Its attention can be timed."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        without_compiled_layers(patch)
        return Ours("auto")


@pytest.fixture(scope="module")
def compiled():
    torch.set_num_threads(1)
    return Ours("auto")


def tensors() -> int:
    return sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())


@pytest.mark.parametrize("method", METHODS)
def test_rounds_cost_the_same_at_the_end_of_the_context(ours, method, monkeypatch):
    """In processor time of this thread, the best of a few attempts: the machine may do other things."""
    clock = time.thread_time
    monkeypatch.setattr("specterm.decoding.timing.time.perf_counter", clock)
    spec = ours.spec(method, 40, **METHODS[method])
    ratios, grown = [], []
    for _ in range(5):
        medians, more = [], 0
        for repeats in (4, 52):
            rounds, held = [], []
            with attention_timed(clock) as attention:
                prompts = ours.session.prompts(spec, [Request(prompt=TEXT * repeats)])
                for event in ours.session.run(spec, prompts, clock, lambda: False):
                    if isinstance(event, Prefilled):
                        length = event.prompt_tokens
                    if isinstance(event, Round) and event.index:  # the first holds the prefill of the draft, too
                        assert 0.0 < attention[0] < event.seconds
                        rounds.append(event.seconds - attention[0])
                        held.append(tensors())
                    attention[0] = 0.0
            assert (length > 850) == (repeats > 4)
            assert len(rounds) > 7
            more = max(more, held[-1] - held[2])
            medians.append(statistics.median(rounds))
        ratios.append(medians[1] / medians[0])
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
def test_compiled_rounds_take_little_longer_at_the_end_of_the_context(compiled, method, monkeypatch):
    """Attention over 900 tokens included."""
    if not isinstance(compiled.target._few, CompiledPasses):
        pytest.skip("no kernels for this processor")
    clock = time.thread_time
    monkeypatch.setattr("specterm.decoding.timing.time.perf_counter", clock)
    spec, ratios = compiled.spec(method, 40, **METHODS[method]), []
    for _ in range(5):
        medians = []
        for repeats in (4, 52):
            prompts = compiled.session.prompts(spec, [Request(prompt=TEXT * repeats)])
            events = compiled.session.run(spec, prompts, clock, lambda: False)
            medians.append(statistics.median(e.seconds for e in events if isinstance(e, Round) and e.index))
        ratios.append(medians[1] / medians[0])
        if ratios[-1] < 4.0:  # n-grams draft more behind a long text, too
            return
    pytest.fail(f"rounds behind a long text take {min(ratios):.2f} times as long")
