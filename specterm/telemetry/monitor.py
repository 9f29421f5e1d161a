"""The thread that reads the devices: slowly for the screen, faster into a run's events while one goes on.

A reading of the processor alone took 0.18 ms of one core (2-core AMD EPYC virtual machine, no GPU, no RAPL): at ten a
second, 0.2 % of it. With GPUs a reading adds NVML's calls, which let go of Python's lock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from specterm.events import DeviceReading, Sample
from specterm.telemetry.devices import Devices

MAX_BACKOFF_S = 5.0
RESTING_INTERVAL_S = 5.0
ANSWER_WITHIN_S = 2.0  # how long attach and detach wait for a device that hangs

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Attachment:
    sink: Callable[[Sample], None]
    clock: Callable[[], float]


class Monitor:
    """Reads all devices from one daemon thread.

    Nothing is opened or imported before the thread runs, so that making a monitor is instant. A reading that raises is
    tried again after twice the time, up to five seconds; meanwhile `latest` is empty and `error` says why.

    Args:
        devices: what to read; by default the devices of this machine, opened in the thread.
        interval_s: seconds from one reading to the next while a run is attached.
        idle_interval_s: the same while none is.
    """

    def __init__(self, devices: Devices | None = None, interval_s: float = 0.1, idle_interval_s: float = 1.0) -> None:
        if interval_s <= 0 or idle_interval_s <= 0:
            raise ValueError(f"intervals must be above 0 s; they are {interval_s} and {idle_interval_s}")
        self._given = devices
        self._interval_s, self._idle_interval_s = interval_s, idle_interval_s
        self.resting = False
        """Whether nobody looks: without a run attached the devices are then read seldom."""
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        # Everything below is guarded by `_changed`.
        self._stopping = False
        self._requested = 0  # readings asked for at once, and how many of those are done
        self._served = 0
        self._attachment: _Attachment | None = None
        self._latest: tuple[DeviceReading, ...] = ()
        self._error: str | None = None

    @property
    def latest(self) -> tuple[DeviceReading, ...]:
        """The last reading of every device; empty before the first and while readings fail."""
        return self._latest

    @property
    def error(self) -> str | None:
        """Why the last reading failed; None when it did not."""
        return self._error

    @property
    def running(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start reading; nothing happens where it runs already."""
        with self._changed:
            if self.running:
                return
            self._stopping = False
            self._thread = threading.Thread(target=self._run, name="device-monitor", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop reading and wait for the thread. The monitor can be started again."""
        with self._changed:
            self._stopping = True
            self._attachment = None
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def attach(self, sink: Callable[[Sample], None], clock: Callable[[], float]) -> None:
        """Send every reading to `sink`, from the monitor's thread, until `detach`. Starts the monitor if need be.

        Returns once the first reading has been sent, so that what follows lies after a sample; or after two seconds,
        when a device does not answer. A sink attached before is replaced.

        Args:
            sink: takes samples; it must be quick.
            clock: the run's clock, in seconds; `Sample.time` is read from it.
        """
        self.start()
        with self._changed:
            self._attachment = _Attachment(sink, clock)
            self._read_now()

    def detach(self) -> None:
        """Send one last reading to the sink and go back to the idle pace. Afterwards the sink is not called again."""
        with self._changed:
            if self._attachment is not None and self.running:
                self._read_now()
            self._attachment = None

    def _read_now(self) -> None:
        """Have the thread read at once, and wait until it has. The caller holds `_changed`."""
        self._requested += 1
        mine = self._requested
        self._changed.notify_all()
        self._changed.wait_for(lambda: self._served >= mine or self._stopping, timeout=ANSWER_WITHIN_S)

    def _run(self) -> None:
        devices = self._given
        failures = 0
        next_at = time.monotonic()
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._stopping or self._requested > self._served,
                    timeout=max(0.0, next_at - time.monotonic()),
                )
                if self._stopping:
                    break
                request, attachment = self._requested, self._attachment
            started = time.monotonic()
            error = None
            try:
                if devices is None:
                    devices = Devices.open()
                self._read(devices, attachment)
                failures = 0
            except Exception as raised:  # whatever a device does, the thread goes on
                failures += 1
                error = f"{type(raised).__name__}: {raised}"
                _log.debug("a device reading failed", exc_info=True)
            with self._changed:
                self._error = error
                if error is not None:
                    self._latest = ()
                self._served = request
                self._changed.notify_all()
                idle_interval_s = max(self._idle_interval_s, RESTING_INTERVAL_S * self.resting)
                interval = idle_interval_s if self._attachment is None else self._interval_s
            if failures:
                interval = max(interval, min(interval * 2.0 ** min(failures, 10), MAX_BACKOFF_S))
            now = time.monotonic()
            next_at = max(started + interval, now + (now - started))  # a slow reading rests as long as it took
        if devices is not None and self._given is None:
            devices.close()

    def _read(self, devices: Devices, attachment: _Attachment | None) -> None:
        """Take one reading and hand it out; its time is the middle of the reading."""
        before = attachment.clock() if attachment else 0.0
        readings = devices.read()
        after = attachment.clock() if attachment else 0.0
        with self._changed:
            self._latest = readings
            if attachment is not None and self._attachment is attachment:
                attachment.sink(Sample(time=(before + after) / 2.0, readings=readings))
