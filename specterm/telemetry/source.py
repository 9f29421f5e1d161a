"""What every source of device readings offers, and how it says that it has nothing to offer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from specterm.events import DeviceReading


@dataclass(frozen=True, slots=True)
class Missing:
    """Why a source has no readings, and what a person can do about it."""

    reason: str
    advice: str


class Source(Protocol):
    """Something that can be read over and over. A quantity that cannot be read is None in its reading."""

    def read(self) -> tuple[DeviceReading, ...]:
        """One reading for each device of this source, always in the same order; empty where there is no device."""

    def close(self) -> None:
        """Give back what the source holds; it is not read again."""
