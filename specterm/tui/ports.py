"""What the screen needs from outside and from its panes, as protocols."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from specterm.events import DeviceReading


class MonitorLike(Protocol):
    """Something that reads the devices in the background; tests give a scripted one."""

    @property
    def latest(self) -> tuple[DeviceReading, ...]:
        """The last readings, one a device, as one immutable snapshot; empty while nothing has been read."""

    resting: bool
    """Set while nobody looks: it may read seldom then."""


@runtime_checkable
class Drawn(Protocol):
    """A pane that resolves colours itself, and has to be drawn again when they change."""

    def draw(self) -> None:
        """Draw what is shown, in the colours of now."""
