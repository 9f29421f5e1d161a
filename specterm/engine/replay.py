"""The replay engine: a stored run plays again, at its own pace, at a multiple of it, or at once.

Nothing is computed anew: what is shown is the text, the states and the times of the recorded run, so every figure comes
out as it did then. It is no way to run something else, and says so.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from time import monotonic, sleep
from typing import Any

import msgspec

from specterm.config import ModelSpec, Request, RunSpec
from specterm.engine.job import Job
from specterm.errors import ConfigError, ExitCode
from specterm.events import Event, Loaded, LoadProgress, Notice, RowStarted, RunFinished, RunStarted

_WAIT_S = 0.05  # how soon a cancel is heard


class ReplayEngine:
    """See `Engine`. `events` are those of one run; where they stop before its end, the replay ends as cancelled.

    `speed` is how many recorded seconds pass in one: 1 is the run's own pace, None plays all at once. It may be changed
    while a run plays.
    """

    def __init__(self, events: Sequence[Event], speed: float | None = 1.0) -> None:
        """
        Raises:
            ConfigError: there are no events, so there is nothing to play.
        """
        if not events:
            raise ConfigError("the recording holds no events; there is nothing to replay")
        self._started = next((event for event in events if isinstance(event, RunStarted)), None)
        self._loaded = next((event for event in events if isinstance(event, Loaded)), None)
        self._prompts = tuple(event.prompt for event in events if isinstance(event, RowStarted))
        end = () if isinstance(events[-1], RunFinished) else _broken_off(events)
        self._events = (*(event for event in events if not isinstance(event, LoadProgress)), *end)
        self.speed = speed
        self._playing: list[tuple[Job, threading.Thread]] = []

    @property
    def spec(self) -> RunSpec:
        """What the recorded run was asked for.

        Raises:
            ConfigError: the recording ends before the run began, or another version recorded it, with values that this
                one does not know.
        """
        if self._started is None:
            raise ConfigError("the recording ends before the run began; there is nothing to replay")
        try:
            return msgspec.convert(self._started.spec, RunSpec).checked()
        except msgspec.ValidationError as error:
            raise ConfigError(f"the recorded run's spec cannot be read: {error}") from None

    @property
    def prompts(self) -> tuple[str, ...]:
        """The recorded prompts, in the order in which they started."""
        return self._prompts

    def load(self, model: ModelSpec) -> Job:
        """Nothing is loaded; the answer names the models of the recorded run."""
        job = Job()
        if self._loaded is not None:
            job.put(self._loaded)
        job.put(RunFinished(0.0, "done"))
        return job

    def run(self, spec: RunSpec, requests: tuple[Request, ...]) -> Job:
        """Play the recorded run, if it is what is asked for; otherwise the job fails and says what differs."""
        job = Job()
        if (what := self._difference(spec, requests)) is not None:
            text = f"a replay shows the run as it was and {what}; choose --engine local to run something else"
            job.put(RunFinished(0.0, "failed", text, ExitCode.USAGE))
            return job
        return self.play(job)

    def play(self, job: Job | None = None) -> Job:
        """Play the recorded run, whatever it was asked for."""
        job = job or Job()
        if self.speed is None:
            for event in self._events:
                job.put(event)
            return job
        thread = threading.Thread(target=self._play, args=(job,), name="specterm-replay", daemon=True)
        self._playing = [(other, runs) for other, runs in self._playing if runs.is_alive()] + [(job, thread)]
        thread.start()
        return job

    def close(self) -> None:
        """See `Engine`."""
        for job, _ in self._playing:
            job.cancel()
        for _, thread in self._playing:
            thread.join()

    def _play(self, job: Job) -> None:
        """Put each event when its time has come: the run's clock advances by `speed` for each second here."""
        clock, before = 0.0, monotonic()
        for event in self._events:
            due = _time(event)
            while due is not None and clock < due and self.speed is not None and not job.cancelled:
                sleep(min(_WAIT_S, (due - clock) / self.speed))
                now = monotonic()
                clock, before = clock + (now - before) * self.speed, now
            if job.cancelled:
                job.put(RunFinished(clock, "cancelled", exit_code=ExitCode.INTERRUPTED))
                return
            job.put(event)

    def _difference(self, spec: RunSpec, requests: Sequence[Request]) -> str | None:
        recorded = self.spec
        for name in ("model", "method", "sampling"):
            if getattr(spec, name) != getattr(recorded, name):
                return f"its {name} settings were others"
        if tuple(request.prompt for request in requests) != self._prompts:
            return "its prompt was another"
        return None


def _time(event: Event) -> float | None:
    """When an event happened on the run's clock; None for those from before it started."""
    return None if isinstance(event, (RunStarted, Loaded)) else event.time


def _broken_off(events: Sequence[Event]) -> tuple[Event, ...]:
    """The end of a run that its recording does not reach."""
    last: Any = max((time for event in events if (time := _time(event)) is not None), default=0.0)
    why, shown = "this run was interrupted", "what is shown is what had been stored by then"
    return (
        Notice(last, "warning", why, shown),
        RunFinished(last, "cancelled", f"{why}; {shown}", ExitCode.INTERRUPTED),
    )
