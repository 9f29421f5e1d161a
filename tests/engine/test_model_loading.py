"""Loading in the engine: how far it is, that it can be given up, and what becomes of the models before."""

from pathlib import Path

import msgspec
import pytest
import torch
from tiny_models import save_pair

from specterm.config import MethodSpec, ModelSpec, Request, RunSpec, SamplingSpec
from specterm.engine import session
from specterm.engine.local import LocalEngine
from specterm.errors import SpectermError
from specterm.events import Loaded, LoadProgress, RowFinished, RunFinished

DRAFT = ModelSpec(target="builtin/draft", dtype="float32")


@pytest.fixture
def engine():
    made = LocalEngine()
    list(made.load(DRAFT))
    yield made
    made.close()


def fractions(events) -> list[float]:
    return [e.fraction for e in events if isinstance(e, LoadProgress) and e.fraction is not None]


def gives_up(engine: LocalEngine, spec: ModelSpec) -> list:
    """The events of a load that is cancelled as soon as some of it is read."""
    job, events = engine.load(spec), []
    for event in job:
        events.append(event)
        if isinstance(event, LoadProgress) and event.fraction:
            job.cancel()
    return events


def test_the_share_of_the_weights_that_is_read_rises_to_the_whole(engine):
    told = fractions(engine.load(ModelSpec()))
    assert told == sorted(told)
    assert len(told) > 20
    assert told[0] == 0
    assert told[-1] == 1


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_both_runners_tell_how_far_they_are_and_can_be_given_up(engine, kind: str, tmp_path: Path):
    spec = ModelSpec(target=str(save_pair(kind, tmp_path)[0]), dtype="float32")
    events = gives_up(engine, spec)
    assert events[-1].reason == "cancelled"
    assert max(fractions(events)) < 1
    assert [e.target.name for e in events if isinstance(e, Loaded)] == ["builtin/draft"]  # there was room to keep it
    told = fractions(engine.load(spec))
    assert len({round(f, 2) for f in told}) > 10
    assert told[-1] == 1


def test_a_model_that_cannot_be_loaded_leaves_the_old_one(engine, tmp_path: Path):
    events = list(engine.load(ModelSpec(target=str(tmp_path))))
    assert "holds no model" in events[-1].error
    assert [e.target.name for e in events if isinstance(e, Loaded)] == ["builtin/draft"]
    assert not [e for e in engine.load(DRAFT) if isinstance(e, LoadProgress)]  # it is there


def test_where_there_is_no_room_the_old_models_go_first_and_the_next_run_brings_them_back(engine, monkeypatch):
    monkeypatch.setattr(session, "has_room", lambda device, size: False)
    events = gives_up(engine, ModelSpec())
    assert events[-1].reason == "cancelled"
    assert not [e for e in events if isinstance(e, Loaded)]
    spec = RunSpec(model=DRAFT, method=MethodSpec(name="naive"), sampling=SamplingSpec(max_tokens=4), monitor=False)
    run = list(engine.run(spec, (Request(prompt="Once"),)))
    assert [e.reason for e in run if isinstance(e, RowFinished)] == ["length"]


def test_closing_during_a_load_does_not_wait_for_its_end(engine):
    job = engine.load(ModelSpec())
    for event in job:
        if isinstance(event, LoadProgress) and event.fraction:
            break
    engine.close()
    rest = list(job)
    assert {event.target.name for event in rest if isinstance(event, Loaded)} <= {"builtin/draft"}  # what was there
    assert isinstance(rest[-1], RunFinished)


def test_what_is_loaded_says_what_it_takes():
    engine = LocalEngine()
    try:
        (loaded,) = [e for e in engine.load(ModelSpec(dtype="float32")) if isinstance(e, Loaded)]
    finally:
        engine.close()
    assert set(loaded.heads) == {"medusa", "eagle", "eagle3", "mlp"}
    assert loaded.head_bytes > 1e6
    # 6 layers with 2 key-value heads of 64 dimensions, keys and values of 4 bytes
    assert loaded.target.kv_token_bytes == 6 * 2 * 64 * 2 * 4
    assert 0 < loaded.drafts[0].kv_token_bytes < loaded.target.kv_token_bytes


def test_models_compute_with_as_many_threads_as_are_asked_for(monkeypatch):
    monkeypatch.setattr(session.os, "cpu_count", lambda: 4)
    usual = torch.get_num_threads()
    models = session.Session()
    try:
        models.load(msgspec.structs.replace(DRAFT, threads=3), lambda event: None)
        assert torch.get_num_threads() == 3
        for wrong in (ModelSpec(target="none/such", threads=2), ModelSpec(threads=5)):
            with pytest.raises(SpectermError, match=r"none/such|--threads is 5; this machine has 4 processors"):
                models.load(wrong, lambda event: None)
            assert torch.get_num_threads() == 3
        models.load(DRAFT, lambda event: None)
        assert torch.get_num_threads() == usual
    finally:
        torch.set_num_threads(usual)
