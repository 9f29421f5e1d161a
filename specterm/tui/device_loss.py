"""Devices that stop to answer: told once, and again when they are back. A panel of n/a alone is easily overlooked."""

from __future__ import annotations

from collections.abc import Sequence

from specterm.events import DeviceReading


class DeviceLoss:
    """Compares each snapshot of the devices with those before it."""

    def __init__(self) -> None:
        self._answered: set[str] = set()
        self._lost: set[str] = set()

    def observe(self, readings: Sequence[DeviceReading]) -> str | None:
        """What is to be told after a snapshot; None where nothing has changed."""
        answering = {reading.device for reading in readings if _answers(reading)}
        lost, back = self._answered - answering - self._lost, self._lost & answering
        self._answered |= answering
        self._lost = (self._lost | lost) - back
        told = []
        if lost:
            told.append(
                f"{_listed(lost)} no longer answered and reads n/a; a run may go on, but its energy is not measured "
                "(is the device still there? specterm --doctor and nvidia-smi tell)"
            )
        if back:
            told.append(f"{_listed(back)} answered again")
        return ". ".join(told) or None


def _answers(reading: DeviceReading) -> bool:
    values = (reading.utilization, reading.memory_used, reading.power_w, reading.temperature_c, reading.clock_mhz)
    return any(value is not None for value in values)


def _listed(devices: set[str]) -> str:
    return " and ".join(sorted(devices))
