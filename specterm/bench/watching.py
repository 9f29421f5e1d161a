"""Following a job to its end, with an interrupt that stops it in good order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from specterm.engine.job import Job
from specterm.errors import failure
from specterm.events import Event, RunFinished


@dataclass(frozen=True, slots=True)
class Watched:
    """The events of a job that ended, and whether Ctrl-C or a cancel ended it."""

    events: list[Event]
    interrupted: bool

    @property
    def end(self) -> RunFinished:
        """The last event."""
        last = self.events[-1]
        assert isinstance(last, RunFinished)
        return last

    def raise_failure(self) -> None:
        """Raise the failure that ended the job, if one did, with its exit code.

        Raises:
            SpectermError: the job failed.
        """
        if self.end.reason == "failed":
            raise failure(self.end.error, self.end.exit_code)


def watch(job: Job, observe: Callable[[Event], None]) -> Watched:
    """Pass every event of `job` to `observe` until it ends.

    The first interrupt cancels the job and the rest of its events are still taken; a second one is raised.
    """
    events: list[Event] = []
    interrupted = False
    while not (events and isinstance(events[-1], RunFinished)):
        try:
            for event in job:
                events.append(event)
                observe(event)
        except KeyboardInterrupt:
            if interrupted:
                raise
            interrupted = True
            job.cancel()
    return Watched(events, interrupted or job.cancelled)
