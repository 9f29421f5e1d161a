"""A command given to an engine, seen from outside: a stream of events that ends."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Protocol

from specterm.config import ModelSpec, Request, RunSpec
from specterm.events import Event, RunFinished

_LOOK_S = 0.01
"""How often who iterates looks for new events."""


class Job:
    """The events of one command, written by the engine's thread and read by one consumer.

    A screen drains it with a timer (`drain`, which never waits); a headless caller iterates over it (which waits).
    Either way the last event is `RunFinished`.
    """

    def __init__(self) -> None:
        self._events: deque[Event] = deque()  # whose ends are for one thread each
        self._cancelled = threading.Event()
        self._finished = threading.Event()

    def put(self, event: Event) -> None:
        """Add an event; for the engine only. Nothing may follow `RunFinished`."""
        self._events.append(event)
        if isinstance(event, RunFinished):
            self._finished.set()

    def drain(self) -> list[Event]:
        """The events that have come since the last call, oldest first."""
        return [self._events.popleft() for _ in range(len(self._events))]

    def __iter__(self) -> Iterator[Event]:
        while True:
            while self._events:
                event = self._events.popleft()
                yield event
                if isinstance(event, RunFinished):
                    return
            # Not woken for each event: the reader's work would get into the way of the engine's between two passes.
            self._finished.wait(_LOOK_S)

    def cancel(self) -> None:
        """Ask the engine to stop this command; it does within a round, and the stream still ends with `RunFinished`."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled.is_set()

    @property
    def finished(self) -> bool:
        """Whether the last event has been put (it may not have been read yet)."""
        return self._finished.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the last event has been put; False when `timeout` seconds passed first."""
        return self._finished.wait(timeout)


class Engine(Protocol):
    """Runs commands one after the other, each as a `Job`.

    `load` makes the models of a spec ready (a job of `LoadProgress`, then `Loaded`). `run` decodes prompts (a job of
    `RunStarted`, ..., `RunFinished`), loading the spec's models first where they are not the loaded ones. A failure is
    a `RunFinished` with an error; no method raises for what a model or device does. A command that is cancelled while
    it waits for another ends at once. `close` cancels what runs and returns when the engine's thread has ended.
    """

    def load(self, model: ModelSpec) -> Job:
        """Make the models of `model` ready."""

    def run(self, spec: RunSpec, requests: tuple[Request, ...]) -> Job:
        """Decode `requests` with `spec`."""

    def close(self) -> None:
        """End the engine and its thread."""
