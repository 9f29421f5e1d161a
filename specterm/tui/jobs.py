"""What the engine is doing for the workbench: a load and a run at most, drained together by one timer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from textual.message_pump import MessagePump

from specterm.engine.job import Job
from specterm.events import Event

FRAMES_PER_SECOND = 10.0
FRAMES_PER_SECOND_OVER_SSH = 8.0
FRAMES_PER_SECOND_MEASURING = 4.0

SHARE = 0.15
SHARE_MEASURING = 0.02
"""Of one core, what the screen's thread may take while there is a job. While it computes, the engine waits for the
interpreter: this is what a run may lose. A frame takes about 8 ms (160 x 48, 2-core AMD EPYC virtual machine)."""

LONGEST_S = 0.2
"""From one frame to the next, whatever they cost: more looks like a standstill."""
LONGEST_MEASURING_S = 4.0


class Jobs:
    """Gives `observe` each event of the two jobs, and calls `paint` once all that were there have been taken in.

    The timer runs in `pump`, which has to be mounted when `start` is called, and sleeps while there is no job. Whoever
    observes the end of a job takes it away. Where a frame costs more than the screen's share allows, the next one waits
    for a while.
    """

    def __init__(self, pump: MessagePump, observe: Callable[[Event, Job], None], paint: Callable[[], None]) -> None:
        self._pump, self._observe, self._paint = pump, observe, paint
        self.load: Job | None = None
        self.run: Job | None = None
        self.measuring = False
        self._drained: tuple[float, float] | None = None  # when, and the thread's processor time then

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
        self.timer = self._pump.set_interval(1 / self.frames_per_second, self._tick, pause=True)

    def measure(self, on: bool) -> None:
        """Paint seldom, or as usual again."""
        self.measuring = on
        self.timer.stop()
        self.timer = self._pump.set_interval(1 / self.frames_per_second, self._tick, pause=self.idle)

    def wake(self) -> None:
        """There is a job now."""
        self._drained = (time.monotonic(), time.thread_time()) if self.measuring else None
        self.timer.resume()

    def _tick(self) -> None:
        """Drain, unless what the thread has computed since the last time is more than its share of the time. The end of
        a job is not waited for."""
        now, computed = time.monotonic(), time.thread_time()
        if self._drained is not None and not any(job.finished for job in (self.load, self.run) if job is not None):
            share, longest_s = (SHARE_MEASURING, LONGEST_MEASURING_S) if self.measuring else (SHARE, LONGEST_S)
            passed = now - self._drained[0]
            if passed < longest_s and computed - self._drained[1] > share * passed:
                return
        self._drained = now, computed
        self.drain()

    def drain(self) -> None:
        """Take in what the engine has put, and paint it once."""
        for job in (self.load, self.run):
            if job is not None:
                for event in job.drain():
                    self._observe(event, job)
        self._paint()
        if self.idle:
            self.timer.pause()
