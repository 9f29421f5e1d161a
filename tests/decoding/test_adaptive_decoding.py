"""Adaptive length in the loop: the output stays naive's whatever the clock says, and every change is said once."""

import time

import pytest
from harness import decode
from tiny_models import save_pair

from specterm.bench.prompts import gather
from specterm.catalogue import METHODS
from specterm.config import ModelSpec
from specterm.decoding.adaptive import AdaptiveLength
from specterm.decoding.ports import Recording
from specterm.decoding.sampling import Warps
from specterm.events import Calibration, Notice, Round
from specterm.metrics.counting import RowCounter
from specterm.models.loading import load_models

TOKENS = 96
GREEDY, WARM = Warps(0.0), Warps(0.7, top_p=0.9)
ADAPTIVE = [name for name, method in METHODS.items() if any(p.name == "adaptive" for p in method.parameters)]
COSTS = Calibration({1: 1.0, 5: 1.1, 17: 1.5}, (0.05, 0.05), 64)


class DearThenCheap(AdaptiveLength):
    """Drafting costs ten passes until it is given up, and nearly nothing afterwards, whatever the clock says. `depths`
    is what was chosen."""

    def __init__(self, most_depth, most_nodes):
        super().__init__(most_depth, most_nodes)
        self.depths = []
        self.draft_s = 10.0

    def choose(self, limits):
        self.depths.append(super().choose(limits))
        return self.depths[-1]

    def observe(self, depth, rows, draft_s, pass_s):
        assert draft_s > 0.0
        assert pass_s > 0.0
        change = super().observe(depth, rows, self.draft_s if depth else 0.0, 1.0)
        self.draft_s = 0.01 if change else self.draft_s
        return change


@pytest.fixture(scope="module")
def models():
    return load_models(ModelSpec(drafts=("builtin", "builtin/draft-b"), dtype="float64").checked())


@pytest.fixture(scope="module")
def prompts(models):
    return [models.codec.encode(request.prompt) for request in gather(("builtin",), 3)]


@pytest.fixture(scope="module")
def naive(models, prompts):
    """What naive decoding gives, by warps."""
    each = {"max_tokens": TOKENS, "batch_size": 3}
    return {warps: decode(models.target.runner, prompts, warps=warps, **each).ids for warps in (GREEDY, WARM)}


def notices(decoded):
    return [event for event in decoded.events if isinstance(event, Notice)]


def parameters_of(method, warps):
    """Children are fixed: a draft that could be sampled is drafted greedily."""
    takes = {parameter.name for parameter in METHODS[method].parameters}
    return {"draft_temperature": 0.0} if "draft_temperature" in takes and not warps.greedy else {}


def turns():
    """Each method sampled alone or greedy in a batch, in turn; the other one in the full matrix."""
    for i, method in enumerate(ADAPTIVE):
        for j, (said, batch_size, warps) in enumerate((("sampled", 1, WARM), ("greedy", 3, GREEDY))):
            marks = pytest.mark.full if (i + j) % 2 else ()
            yield pytest.param(method, batch_size, warps, marks=marks, id=f"{method}-{said}")


@pytest.mark.parametrize(("method", "batch_size", "warps"), list(turns()))
def test_output_is_naives_through_fallback_and_resumption(models, prompts, naive, method, batch_size, warps):
    target = models.target.runner
    uses = [draft.runner for draft in models.drafts][: METHODS[method].max_drafts]
    prompts = prompts[: batch_size + 1]
    length = DearThenCheap(4, 24)
    decoded = decode(
        target, prompts, method=method, drafts=uses, heads=models.heads, warps=warps, max_tokens=TOKENS, length=length,
        batch_size=batch_size, record=Recording(probs=True), adaptive=True, costs=COSTS,
        **parameters_of(method, warps),
    )  # fmt: skip
    assert decoded.ids == naive[warps][: len(prompts)]
    assert {"accepted", "rejected"} <= set(decoded.states)
    said = [notice.text.split(":")[0] for notice in notices(decoded)]
    assert said[:2] == ["speculation is losing", "speculation pays again"]
    assert [notice.level for notice in notices(decoded)] == ["info"] * len(said)
    rounds = [event for event in decoded.events if isinstance(event, Round)]
    assert len(length.depths) == len(rounds)
    for depth, event in zip(length.depths, rounds):
        assert all(deepest(part.parents) <= depth for part in event.rows)
    resumed = max(i for i, event in enumerate(decoded.events) if isinstance(event, Notice))
    after = [part for event in decoded.events[resumed:] if isinstance(event, Round) for part in event.rows]
    assert "accepted" in {state for part in after for state in part.states}


def deepest(parents):
    depths = []
    for parent in parents:
        depths.append(1 + (depths[parent] if parent >= 0 else 0))
    return max(depths, default=0)


def test_rounds_without_drafts_are_plain_and_counted(models, prompts):
    drafts = [models.drafts[0].runner]
    decoded = decode(
        models.target.runner, prompts[:1], method="draft", drafts=drafts, max_tokens=TOKENS, length=DearThenCheap(4, 4),
        adaptive=True,
    )  # fmt: skip
    counter = RowCounter()
    for part in decoded.rounds:
        counter.round(part)
        assert (not part.tokens) == (part.emitted[-1].origin == "plain")
    figures = counter.figures(None, None)
    plain = sum(not part.tokens for part in decoded.rounds)
    assert plain >= 16
    assert figures["rounds"] == len(decoded.rounds)
    assert figures["accepted_per_draft"] == 1 + figures["accepted"] / (len(decoded.rounds) - plain)
    assert figures["mean_acceptance_length"] == (TOKENS - 1) / len(decoded.rounds)


def test_a_useless_draft_is_given_up_by_the_clock(tmp_path, monkeypatch):
    """No script: a draft as large as the target that is never right. In processor time: the machine may do other
    things."""
    monkeypatch.setattr("specterm.decoding.timing.time.perf_counter", time.thread_time)
    target, draft = save_pair("llama", tmp_path, noise=20.0)
    made = load_models(ModelSpec(target=str(target), drafts=(str(draft),), dtype="float32"))
    rows = [list(range(5, 25))]
    decoded = decode(
        made.target.runner, rows, method="draft", drafts=[made.drafts[0].runner], max_tokens=120, adaptive=True,
        costs=Calibration({1: 1e-3, 2: 1.1e-3, 5: 1.2e-3}, (1e-3,), 64),
    )  # fmt: skip
    assert decoded.ids == decode(made.target.runner, rows, max_tokens=120).ids
    assert [notice.text.split(":")[0] for notice in notices(decoded)] == ["speculation is losing"]
    assert sum(not part.tokens for part in decoded.rounds) > 80
