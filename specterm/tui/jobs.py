"""What the engine is doing for the workbench: a load and a run at most, drained together by one timer."""

from __future__ import annotations

import os
from collections.abc import Callable

from textual.message_pump import MessagePump

from specterm.engine.job import Job
from specterm.events import Event

FRAMES_PER_SECOND = 12.0
FRAMES_PER_SECOND_OVER_SSH = 8.0
FRAMES_PER_SECOND_MEASURING = 1.0
"""While the screen computes, the engine waits for the interpreter: what a second of painting takes, a second of the run
loses. A frame takes 15 to 25 ms (160 x 48, 2-core AMD EPYC virtual machine), and measuring may lose 3 %."""


class Jobs:
    """Gives `observe` each event of the two jobs, and calls `paint` once all that were there have been taken in.

    The timer runs in `pump`, which has to be mounted when `start` is called, and sleeps while there is no job. Whoever
    observes the end of a job takes it away.
    """

    def __init__(self, pump: MessagePump, observe: Callable[[Event, Job], None], paint: Callable[[], None]) -> None:
        self._pump, self._observe, self._paint = pump, observe, paint
        self.load: Job | None = None
        self.run: Job | None = None
        self.measuring = False

    @property
    def idle(self) -> bool:
        """Whether there is neither."""
        return self.load is None and self.run is None

    @property
    def frames_per_second(self) -> float:
        """How often the screen is painted while there is a job."""
        if self.measuring:
            return FRAMES_PER_SECOND_MEASURING
        return FRAMES_PER_SECOND_OVER_SSH if os.environ.get("SSH_CONNECTION") else FRAMES_PER_SECOND

    def start(self) -> None:
        """Begin to drain, asleep."""
        self.timer = self._pump.set_interval(1 / self.frames_per_second, self.drain, pause=True)

    def measure(self, on: bool) -> None:
        """Paint seldom, or as usual again."""
        self.measuring = on
        self.timer.stop()
        self.timer = self._pump.set_interval(1 / self.frames_per_second, self.drain, pause=self.idle)

    def wake(self) -> None:
        """There is a job now."""
        self.timer.resume()

    def drain(self) -> None:
        """Take in what the engine has put, and paint it once."""
        for job in (self.load, self.run):
            if job is not None:
                for event in job.drain():
                    self._observe(event, job)
        self._paint()
        if self.idle:
            self.timer.pause()
