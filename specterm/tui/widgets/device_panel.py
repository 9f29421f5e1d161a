"""The devices: a panel in full, and a bar of one line for small terminals. Both show one shared history."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from specterm.tui.widgets.device_text import DeviceHistory, Look, device_block, device_line
from specterm.tui.widgets.steady_text import SteadyText

_PARTS = ("label", "value", "bar", "low", "mid", "high")
_COMPONENTS = {f"devices--{part}" for part in _PARTS}
_ROWS_IN_FULL = 6  # with a graph of one row
_GRAPH_ROWS = 4


def _look(widget: Widget) -> Look:
    style = widget.get_component_rich_style
    return Look(*(style(f"devices--{part}", partial=True) for part in _PARTS))


class _DeviceText(SteadyText):
    """The drawn lines of every device."""

    COMPONENT_CLASSES: ClassVar[set[str]] = _COMPONENTS

    def on_resize(self) -> None:
        # Its width also changes when the panel's scrollbar comes or goes.
        if isinstance(self.parent, DevicePanel):
            self.parent.draw()


class DevicePanel(VerticalScroll, can_focus=True):
    """Power with its limit and history, utilization, memory, temperature and clock of each device."""

    HELP = """\
## Devices

What each device reports now: power with its limit and where the figure comes from, utilization, memory, temperature
and clock. **n/a** means that the device does not report it; nothing is estimated.
"""

    def __init__(self, history: DeviceHistory, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._text = _DeviceText()
        self.border_title = "Devices"
        self._history = history

    def compose(self) -> ComposeResult:
        yield self._text

    def on_resize(self) -> None:
        self.draw()

    def draw(self) -> None:
        """Draw the last readings."""
        shown = self._text
        width = self.scrollable_content_region.width
        if not self.display or width <= 0:
            return
        readings = self._history.latest
        if not readings:
            shown.draw_lines(Text("nothing read yet", style="dim"))
            return
        look = _look(shown)
        # GPUs first, in full as far as they fit; of the others a line each, then graphs as high as the rest allows.
        ordered = sorted(readings, key=lambda reading: reading.device == "cpu")
        height = self.size.height
        full = max(1, min(len(ordered), (height - len(ordered)) // _ROWS_IN_FULL))
        spare = height - full * (_ROWS_IN_FULL + 1) - (len(ordered) - full) + 1
        graph_height = max(1, min(_GRAPH_ROWS, 1 + spare // full))
        gap = "\n\n" if spare >= full else "\n"
        blocks = [
            Text("\n").join(device_block(reading, self._history, width, graph_height, look))
            for reading in ordered[:full]
        ]
        lines = [device_line((reading,), width, look) for reading in ordered[full:]]
        text = Text(gap, no_wrap=True).join(blocks)
        for line in lines:
            text.append_text(Text("\n").append_text(line))
        shown.draw_lines(text)


class DeviceBar(Static):
    """The first device on one line."""

    COMPONENT_CLASSES: ClassVar[set[str]] = _COMPONENTS

    def __init__(self, history: DeviceHistory, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__("", id=id)
        self._history = history

    def on_resize(self) -> None:
        self.draw()

    def draw(self) -> None:
        """Draw the last readings."""
        if self.display and self.size.width:
            self.update(device_line(self._history.latest, self.size.width - 2, _look(self)), layout=False)
