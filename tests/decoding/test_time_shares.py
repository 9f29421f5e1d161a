"""Every row accounts for its time: the parts add up to the wall clock within 2 %."""

import time
from dataclasses import astuple

import pytest
from harness import decode

from specterm.config import MethodSpec, ModelSpec, Request, RunSpec, SamplingSpec
from specterm.engine.session import Session
from specterm.events import Prefilled, Round, RowFinished, RowStarted, RunStarted
from specterm.metrics import row_results

PARTS = ("prefill", "draft", "verify", "sampling", "other", "wait")
PAUSE_S = 0.002  # what the reader of the events takes over each


@pytest.fixture(scope="module")
def session():
    session = Session()
    session.load(MODEL, lambda event: None)
    return session


MODEL = ModelSpec(dtype="float32").checked()


@pytest.mark.parametrize(("method", "batch_size"), [("naive", 1), ("draft", 1), ("tree", 1), ("draft", 2)])
def test_the_parts_add_up(session, method, batch_size):
    spec = RunSpec(
        model=MODEL, method=MethodSpec(name=method), sampling=SamplingSpec(temperature=0.0, max_tokens=24),
        batch_size=batch_size, ignore_eos=True, trace="counts",
    ).checked()  # fmt: skip
    requests = [Request(prompt="Once upon a time " * n, arrival_s=0.01 * n) for n in (1, 3, 2)]
    prompts = session.prompts(spec, requests)
    began = time.perf_counter()
    events, read_at = [], {}
    for event in session.run(spec, prompts, lambda: time.perf_counter() - began, lambda: False):
        events.append(event)
        read_at[id(event)] = time.perf_counter() - began
        time.sleep(PAUSE_S)
    arrived = {event.row: event.arrived_at for event in events if isinstance(event, RowStarted)}
    ends = [event for event in events if isinstance(event, RowFinished)]
    assert len(ends) == 3
    for end in ends:
        wall = read_at[id(end)] - arrived[end.row]
        assert sum(astuple(end.shares)) == pytest.approx(wall, rel=0.02)
        shares = end.shares
        assert min(shares.prefill_s, shares.verify_s, shares.sampling_s, shares.other_s) > 0
        assert (shares.draft_s > shares.sampling_s) == (method != "naive")
        rounds = [event for event in events if isinstance(event, Round) for part in event.rows if part.row == end.row]
        assert shares.other_s > 0.9 * PAUSE_S * len(rounds)  # the reader is in it
        assert sum(event.verify_s for event in rounds) == pytest.approx(shares.verify_s)
    if batch_size == 1:  # they queue for one place
        assert ends[-1].shares.wait_s > ends[0].shares.wait_s
    for result in row_results([RunStarted("", "", {}, {}), *events]):
        total = sum(result.metrics[f"{part}_time_s"] for part in PARTS)
        assert total == pytest.approx(result.metrics["latency_s"], rel=0.02)


def test_rounds_follow_one_another_without_a_gap(session):
    """The seconds of a round reach back to the end of the one before."""
    target = session._loaded().target.runner
    events = decode(target, [[5, 6, 7]], max_tokens=12).events
    rounds = [event for event in events if isinstance(event, Round)]
    prefilled = next(event for event in events if isinstance(event, Prefilled))
    assert len(rounds) == 11
    told = sum(event.seconds for event in rounds)
    assert told == pytest.approx(rounds[-1].time - prefilled.time, rel=0.02)
