"""The local engine with the built-in pair: what it says, and that it survives whatever goes wrong."""

import gc
import threading
import time

import msgspec
import pytest

from specterm.config import MethodSpec, ModelSpec, Request, RunSpec, SamplingSpec
from specterm.decoding.prefill import CHUNK_TOKENS
from specterm.engine.local import LocalEngine
from specterm.events import (
    Loaded,
    LoadProgress,
    Notice,
    Prefilled,
    Round,
    RowFinished,
    RowStarted,
    RunFinished,
    RunStarted,
)
from specterm.kernels.machine import this_machine
from specterm.models.heads.feature_heads import FeatureHeads
from specterm.models.runners.llama import LlamaRunner

WITHIN_S = 3.0  # a second by itself; beside other tests more
TEXT = "The old lighthouse keeper climbed the stairs"


def spec(tokens: int = 12, **options) -> RunSpec:
    sampling = SamplingSpec(max_tokens=tokens, temperature=0.0)
    return RunSpec(**{"sampling": sampling, "monitor": False, "ignore_eos": True, **options})


def run(engine, *texts, **options) -> list:
    return list(engine.run(spec(**options), tuple(Request(prompt=text) for text in texts or (TEXT,))))


def ended(events) -> RunFinished:
    assert [e for e in events if isinstance(e, RunFinished)] == events[-1:]
    return events[-1]


def until(job, kind) -> list:
    seen = []
    for event in job:
        seen.append(event)
        if isinstance(event, (kind, RunFinished)):
            break
    assert isinstance(seen[-1], kind), seen[-1]
    return seen


def test_loading_measures(engine):
    events = list(engine.load(ModelSpec()))
    (loaded,) = [e for e in events if isinstance(e, Loaded)]
    assert ended(events).reason == "done"
    assert loaded.target.runner == "fused llama"
    assert loaded.target.parameters > loaded.drafts[0].parameters > 0
    costs = loaded.calibration
    steps = (6, 12) if this_machine() is None else this_machine().steps
    assert set(costs.target_forward_s) == {1, 2, *steps, *(step + 1 for step in steps), 24}
    assert all(0 < seconds < 10 for seconds in (*costs.target_forward_s.values(), *costs.draft_step_s))
    assert len(costs.draft_step_s) == 1
    assert 0 < costs.context_tokens < loaded.target.max_positions
    assert not [e for e in events if isinstance(e, LoadProgress)]  # it was loaded already


@pytest.mark.parametrize("method", ["naive", "draft"])
def test_a_run_in_order(engine, method):
    events = run(engine, TEXT, "Once upon a time", method=MethodSpec(name=method), trace="alternatives")
    kinds = [type(event) for event in events if not isinstance(event, Loaded)]
    rounds = kinds.count(Round)
    assert rounds >= 2
    order = [kind for kind in kinds if kind is not Round]
    assert order == [RunStarted, *[RowStarted, Prefilled, RowFinished] * 2, RunFinished]
    assert ended(events) == RunFinished(events[-1].time, "done", None, 0)
    assert [e.row for e in events if isinstance(e, RowStarted)] == [0, 1]
    times = [e.time for e in events if hasattr(e, "time") and not isinstance(e, Loaded)]
    assert times == sorted(times)
    assert all(len(e.token_ids) == 12 for e in events if isinstance(e, RowFinished))
    for event in events:
        for form in (msgspec.json, msgspec.msgpack):
            again = form.decode(form.encode(event), type=type(event))
            assert form.encode(again) == form.encode(event)
            assert again == event or isinstance(event, RunStarted)  # its spec is plain data: tuples come back as lists


def test_the_spec_is_told_whole(engine):
    (started,) = [e for e in run(engine) if isinstance(e, RunStarted)]
    assert list(started.spec["model"]["drafts"]) == ["builtin"]
    assert started.spec["method"]["parameters"]["num_draft_tokens"] == 4
    assert started.environment["packages"]["torch"]
    assert msgspec.convert(started.spec, RunSpec) == spec().checked()


def test_runs_repeat(engine):
    first, second = (next(e for e in run(engine) if isinstance(e, RowFinished)) for _ in range(2))
    assert first.token_ids == second.token_ids


@pytest.mark.parametrize(
    ("texts", "options", "exit_code", "told"),
    [
        ((TEXT,), {"model": ModelSpec(target="./none", drafts=("builtin",))}, 3, "./none"),
        ((TEXT,), {"model": ModelSpec(device="tpu")}, 2, "tpu"),
        ((TEXT, ""), {}, 2, "empty"),
        (("q " * 5000,), {}, 2, "tokens"),
        ((TEXT,), {"method": MethodSpec(name="other")}, 2, "other"),
        ((TEXT,), {"batch_size": 0}, 2, "--batch-size"),
    ],
    ids=["model", "device", "empty", "long", "method", "batch"],
)
def test_a_failure_is_an_event_and_the_engine_goes_on(engine, texts, options, exit_code, told):
    end = ended(run(engine, *texts, **options))
    assert (end.reason, end.exit_code) == ("failed", exit_code)
    assert told in end.error
    assert len(end.error.splitlines()) == 1
    assert ended(run(engine, tokens=2)).reason == "done"


def test_no_prompt_at_all(engine):
    assert "no prompt" in ended(list(engine.run(spec(), ()))).error


def test_a_bug_is_told_and_logged(engine, monkeypatch, caplog):
    monkeypatch.setattr("specterm.engine.session.DecodeLoop", lambda *args, **kwargs: 1 / 0)
    end = ended(run(engine))
    assert end.error == "ZeroDivisionError: division by zero"
    assert end.exit_code == 1
    assert "the engine failed" in caplog.text
    monkeypatch.undo()
    assert ended(run(engine, tokens=2)).reason == "done"


@pytest.mark.parametrize("error", [SystemExit(5), KeyboardInterrupt()])
def test_nothing_ends_the_thread(engine, monkeypatch, error):
    def fail(*_args, **_kwargs):
        raise error

    monkeypatch.setattr("specterm.engine.session.DecodeLoop", fail)
    end = ended(run(engine))
    assert (end.reason, end.exit_code) == ("failed", 1)
    assert end.error.startswith(type(error).__name__)
    monkeypatch.undo()
    assert ended(run(engine, tokens=2)).reason == "done"


def test_out_of_memory_says_what_to_do(engine, monkeypatch):
    class OutOfMemoryError(RuntimeError):
        pass

    def full(*args, **kwargs):
        raise OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    monkeypatch.setattr("specterm.engine.session.DecodeLoop", full)
    end = ended(run(engine))
    assert "ran out of memory" in end.error
    assert end.exit_code == 3


def cancel_delay(job) -> tuple[float, list]:
    """Seconds from the cancel to the end, and the events after it."""
    began = time.perf_counter()
    job.cancel()
    events = list(job)
    assert ended(events).reason == "cancelled"
    assert ended(events).exit_code == 130
    return time.perf_counter() - began, events


def test_cancelling_a_run(engine):
    delays = []
    for _ in range(3):
        job = engine.run(spec(tokens=400), (Request(prompt=TEXT),))
        until(job, Round)
        seconds, events = cancel_delay(job)
        delays.append(seconds)
        (row,) = [e for e in events if isinstance(e, RowFinished)]
        assert row.reason == "cancelled"
        assert 0 < len(row.token_ids) < 400
    assert min(delays) < WITHIN_S


def test_cancelling_a_prefill(engine, monkeypatch):
    monkeypatch.setitem(CHUNK_TOKENS, "cpu", 8)
    text = "one two three four five. " * 170
    delays = []
    for _ in range(3):
        job = engine.run(spec(), (Request(prompt=text),))
        (started,) = until(job, RowStarted)[-1:]
        seconds, events = cancel_delay(job)
        delays.append(seconds)
        assert 900 < len(started.prompt_ids) < 1024
        assert not [e for e in events if isinstance(e, (Prefilled, Round))]
        assert [e.reason for e in events if isinstance(e, RowFinished)] == ["cancelled"]
    assert min(delays) < WITHIN_S


def test_cancelling_in_the_queue(engine):
    first = engine.run(spec(tokens=300), (Request(prompt=TEXT),))
    second = engine.run(spec(), (Request(prompt=TEXT),))
    until(first, Round)
    assert cancel_delay(second)[1] == [RunFinished(0.0, "cancelled", exit_code=130)]
    assert not first.finished, "what was waited for goes on"
    assert cancel_delay(first)[0] < WITHIN_S
    assert ended(run(engine, tokens=2)).reason == "done"


@pytest.fixture
def collecting():
    """As in a program: the tests' own collector works between files."""
    gc.enable()
    yield
    gc.disable()


@pytest.mark.usefixtures("collecting")
def test_the_collector_is_held_and_given_back(engine):
    assert gc.isenabled()
    job = engine.run(spec(tokens=60), (Request(prompt=TEXT),))
    until(job, Round)
    held = not gc.isenabled()
    list(job)
    assert gc.isenabled()
    assert held
    job = engine.run(spec(tokens=300), (Request(prompt=TEXT),))
    until(job, Round)
    cancel_delay(job)
    assert gc.isenabled()


def engine_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "specterm-engine"]


@pytest.mark.usefixtures("collecting")
def test_closing_during_a_run():
    before = engine_threads()
    engine = LocalEngine()
    job = engine.run(spec(tokens=400), (Request(prompt=TEXT),))
    waiting = engine.run(spec(), (Request(prompt=TEXT),))
    until(job, Round)
    engine.close()
    assert engine_threads() == before
    assert ended(list(job)).reason == "cancelled"
    assert [e.reason for e in waiting] == ["cancelled"]
    refused = list(engine.run(spec(), (Request(prompt=TEXT),)))
    assert [(e.reason, e.error) for e in refused] == [("failed", "the engine is closed")]
    engine.close()
    assert gc.isenabled()


def test_closing_without_a_command():
    engine = LocalEngine()
    engine.close()
    assert not [t for t in engine_threads() if t is engine._thread]


def test_other_models_take_the_place(engine):
    changed = run(engine, model=ModelSpec(target="builtin/draft", drafts=("builtin/draft-b",)))
    (loaded,) = [e for e in changed if isinstance(e, Loaded)]
    assert (loaded.target.name, loaded.drafts[0].name) == ("builtin/draft", "builtin/draft-b")
    assert ended(changed).reason == "done"
    assert ended(run(engine, tokens=2)).reason == "done"


def test_what_a_runner_remarks_is_told(engine, monkeypatch):
    monkeypatch.setattr(LlamaRunner, "remark", lambda self: "CUDA graphs are not used: no memory")
    told = [(e.level, e.text) for e in run(engine, tokens=2) if isinstance(e, Notice)]
    assert told == [("warning", "builtin: CUDA graphs are not used: no memory")] * 2  # the target's and its draft's
    monkeypatch.undo()
    monkeypatch.setattr(FeatureHeads, "remark", lambda self: "CUDA graphs are not used: no pool")
    told = [e.text for e in run(engine, tokens=2, method=MethodSpec(name="eagle3")) if isinstance(e, Notice)]
    assert told == ["EAGLE-3 heads: CUDA graphs are not used: no pool"]
    assert not [e for e in run(engine, tokens=2) if isinstance(e, Notice)]
