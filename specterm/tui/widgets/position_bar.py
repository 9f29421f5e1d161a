"""The common clock of a race as a bar."""

from __future__ import annotations

from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual.widgets import Static

from specterm.tui.race import RaceClock

_LEAST_BAR = 4


class PositionBar(Static):
    """Playing or paused, at which speed, how far; and that it is a replay."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"position--done", "position--left", "position--label"}

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._clock: RaceClock | None = None

    def show(self, clock: RaceClock) -> None:
        """Show this clock from now on."""
        self._clock = clock
        self.draw()

    def on_resize(self) -> None:
        self.draw()

    def draw(self) -> None:
        """Draw the clock as it stands."""
        clock = self._clock
        if clock is None:
            self.update("")
            return
        width = self.size.width - 2
        left = (
            f"{'playing' if clock.playing else 'paused'} {clock.speed:g}x {clock.position:.2f}/{clock.seconds:.2f} s "
        )
        right = " replayed from recorded times"
        cells = max(_LEAST_BAR, width - len(left) - len(right))
        done = round(cells * clock.position / clock.seconds) if clock.seconds else 0
        text = Text(no_wrap=True)
        text.append(left, self._style("label"))
        text.append("━" * done, self._style("done"))
        text.append("─" * (cells - done), self._style("left"))
        text.append(right, self._style("label"))
        self.update(text)

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(f"position--{name}", partial=True)
