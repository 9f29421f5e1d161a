"""Readings of the processor and the main memory: psutil, and RAPL for energy."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

from specterm.events import DeviceReading
from specterm.telemetry.processor import cpu_model
from specterm.telemetry.rapl import Rapl

SLOW_INTERVAL_S = 1.0  # temperature and clock: many files, slow to change
MIN_DIFFERENCE_S = 0.05  # below this the steps of the kernel's own counters show in a difference

_CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")


class HostSource:
    """The whole machine as the device "cpu": utilization of all its cores, main memory, package power.

    Utilization and power are differences to an earlier reading at least 50 ms before: the first reading has neither,
    and one that follows too soon repeats the last. Read from one thread only: psutil keeps its books by thread.

    Args:
        rapl: the energy counters; by default those of this machine.
        psutil: the module, or what stands in for it.
        clock: a monotonic clock in seconds.
    """

    def __init__(
        self, rapl: Rapl | None = None, *, psutil: Any = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._psutil = importlib.import_module("psutil") if psutil is None else psutil
        self._clock = clock
        self._name = cpu_model()
        self.rapl = Rapl() if rapl is None else rapl
        self._counted: tuple[float, float] | None = None  # time and joules at the start of the interval
        self._power_w: float | None = None
        self._busy_at: float | None = None
        self._utilization: float | None = None
        self._slow_at: float | None = None
        self._temperature_c: float | None = None
        self._clock_mhz: float | None = None

    def read(self) -> tuple[DeviceReading, ...]:
        """One reading of the machine."""
        now = self._clock()
        if self._slow_at is None or now - self._slow_at >= SLOW_INTERVAL_S:
            self._slow_at = now
            self._temperature_c = self._temperature()
            self._clock_mhz = self._frequency()
        energy = self.rapl.energy_j()
        self._update_power(now, energy)
        self._update_utilization(now)
        memory = self._psutil.virtual_memory()
        counted = energy is not None
        return (
            DeviceReading(
                device="cpu",
                name=self._name,
                utilization=self._utilization,
                memory_used=memory.total - memory.available,
                memory_total=memory.total,
                power_w=self._power_w,
                energy_j=energy,
                power_source="rapl" if counted else None,
                scope="package" if counted else None,
                temperature_c=self._temperature_c,
                clock_mhz=self._clock_mhz,
            ),
        )

    def close(self) -> None:
        """Nothing is held open."""

    def _update_utilization(self, now: float) -> None:
        if self._busy_at is None:
            self._psutil.cpu_percent(interval=None)  # only sets the start: psutil's first answer is a meaningless 0
        elif now - self._busy_at >= MIN_DIFFERENCE_S:
            self._utilization = min(max(self._psutil.cpu_percent(interval=None) / 100.0, 0.0), 1.0)
        else:
            return
        self._busy_at = now

    def _update_power(self, now: float, energy: float | None) -> None:
        if energy is None:
            self._counted = self._power_w = None
        elif self._counted is None:
            self._counted = (now, energy)
        elif now - self._counted[0] >= MIN_DIFFERENCE_S:
            then, before = self._counted
            self._power_w = (energy - before) / (now - then)
            self._counted = (now, energy)

    def _temperature(self) -> float | None:
        """The hottest of the processor's own sensors, in degrees Celsius."""
        try:
            sensors = self._psutil.sensors_temperatures()
        except (AttributeError, OSError, NotImplementedError):  # psutil has none on macOS and Windows
            return None
        found = [entry.current for chip in _CPU_SENSORS for entry in sensors.get(chip, ())]
        return max((float(value) for value in found if value), default=None)

    def _frequency(self) -> float | None:
        """The mean clock of the cores in MHz."""
        try:
            frequency = self._psutil.cpu_freq()
        except (AttributeError, OSError, NotImplementedError, RuntimeError):
            return None
        return float(frequency.current) if frequency is not None and frequency.current else None
