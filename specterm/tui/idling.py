"""How often the screen looks at the devices: less while nothing runs, seldom once nobody has been there for long."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum

from textual.app import App
from textual.timer import Timer

RESTS_AFTER_S = 60.0
"""Without a run and without a key or the mouse."""


class Pace(Enum):
    """Seconds from one look to the next."""

    BUSY = 0.5
    QUIET = 1.0
    RESTING = 5.0


class Idling:
    """Calls `look` at the pace that fits, and `rest` with True when a rest begins and with False when it ends.

    `busy` says whether something runs. `start` is for when the app can have timers.
    """

    def __init__(
        self,
        app: App[None],
        look: Callable[[], None],
        busy: Callable[[], bool],
        rest: Callable[[bool], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app, self._look, self._busy, self._rest, self._clock = app, look, busy, rest, clock
        self._stirred_at = clock()
        self._timer: Timer | None = None
        self.pace = Pace.QUIET

    def start(self) -> None:
        """Begin to look."""
        self._set(Pace.BUSY)

    def stir(self) -> None:
        """Somebody is there, or something begins."""
        self._stirred_at = self._clock()
        if self._timer is not None and (self.pace is Pace.RESTING or (self.pace is Pace.QUIET and self._busy())):
            self._tick()

    def _tick(self) -> None:
        self._look()
        if self._busy():
            self._stirred_at = self._clock()
            pace = Pace.BUSY
        else:
            pace = Pace.RESTING if self._clock() - self._stirred_at >= RESTS_AFTER_S else Pace.QUIET
        if pace is not self.pace:
            self._set(pace)

    def _set(self, pace: Pace) -> None:
        if (pace is Pace.RESTING) != (self.pace is Pace.RESTING):
            self._rest(pace is Pace.RESTING)
        if self._timer is not None:
            self._timer.stop()
        self.pace = pace
        self._timer = self._app.set_interval(pace.value, self._tick)
