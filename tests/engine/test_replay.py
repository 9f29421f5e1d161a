"""A replayed run is the run: text, figures and times."""

from __future__ import annotations

import time

import msgspec
import pytest
from history.stored_runs import SPEC, TEXT, one_run

from specterm.config import Request
from specterm.engine.replay import ReplayEngine
from specterm.errors import ConfigError
from specterm.events import LoadProgress, Notice, RunFinished
from specterm.metrics import LiveFigures, row_results


def test_a_replay_at_once_gives_the_same_events_and_figures() -> None:
    events = one_run()
    engine = ReplayEngine([LoadProgress(0.0, "loading", None), *events], speed=None)
    replayed = list(engine.run(engine.spec, (Request(prompt="hello"),)))
    assert replayed == events
    assert engine.spec == SPEC
    (result,) = row_results(replayed)
    assert result == row_results(events)[0]
    assert result.text == TEXT
    assert result.metrics["accepted"] > 0
    live, again = LiveFigures(), LiveFigures()
    for event, replayed_event in zip(events, replayed, strict=True):
        live.observe(event)
        again.observe(replayed_event)
    assert again.figures == live.figures


def test_a_replay_keeps_its_pace() -> None:
    events = one_run()  # 0.9 s
    engine = ReplayEngine(events, speed=5.0)
    started = time.monotonic()
    seen = [(time.monotonic() - started, event) for event in engine.play()]
    assert [event for _, event in seen] == events
    for at, event in seen:
        assert at >= getattr(event, "time", 0.0) / 5 - 0.001
    assert seen[-1][0] < 10


def test_a_replay_can_be_cancelled_and_closed() -> None:
    engine = ReplayEngine(one_run(), speed=0.001)
    job = engine.play()
    job.cancel()
    *_, last = job
    assert isinstance(last, RunFinished)
    assert last.reason == "cancelled"
    other = engine.play()
    engine.close()
    assert other.finished
    *_, last = other
    assert last.reason == "cancelled"


def test_an_interrupted_run_ends_as_cancelled_and_says_why() -> None:
    events = one_run()[:4]
    *replayed, notice, end = ReplayEngine(events, speed=None).play()
    assert replayed == events
    assert isinstance(notice, Notice)
    assert "interrupted" in notice.text
    assert end == RunFinished(events[-1].time, "cancelled", f"{notice.text}; {notice.advice}", 130)


def test_a_replay_runs_nothing_else() -> None:
    engine = ReplayEngine(one_run(), speed=None)
    other = msgspec.structs.replace(SPEC, sampling=msgspec.structs.replace(SPEC.sampling, seed=7))
    for spec, prompt, said in (
        (SPEC, "another", "its prompt was another"),
        (other, "hello", "its sampling settings were others"),
    ):
        (end,) = engine.run(spec, (Request(prompt=prompt),))
        assert isinstance(end, RunFinished)
        assert end.error is not None
        assert said in end.error
        assert end.exit_code == 2


def test_what_holds_no_run_cannot_be_replayed() -> None:
    with pytest.raises(ConfigError, match="holds no events"):
        ReplayEngine([])
    with pytest.raises(ConfigError, match="ends before the run began"):
        _ = ReplayEngine([RunFinished(0.0, "failed", "no model", 3)]).spec
