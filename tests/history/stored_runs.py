"""Runs to store, and waiting for the writer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from scripted_engine import run_events, word

from specterm.config import MethodSpec, Request, RunSpec
from specterm.events import Event, RowFinished, RunFinished
from specterm.history.recorder import Recorder

SPEC = RunSpec(method=MethodSpec(name="draft")).checked()
TEXT = "".join(word(token) for token in range(8))


def one_run(prompt: str = "hello", spec: RunSpec = SPEC, output: Sequence[int] = range(8)) -> list[Event]:
    """A whole run with accepted and rejected tokens."""
    events = list(run_events(spec, Request(prompt=prompt), tuple(output), (4, 1, 0)))
    last = events[-1]
    assert isinstance(last, RowFinished)
    return [*events, RunFinished(last.time, "done")]


def store(folder: Path, *runs: Sequence[Event], prompts: Sequence[str] = (), spec: RunSpec = SPEC) -> None:
    """Store runs, and wait until they are."""
    problems: list[str] = []
    recorder = Recorder(folder, problems.append, batch_s=0.01)
    for number, events in enumerate(runs):
        recording = recorder.begin(spec, prompts[number] if prompts else "hello")
        for event in events:
            recording.observe(event)
    recorder.close(30)
    assert problems == []


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread or process does."""
    give_up = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)
