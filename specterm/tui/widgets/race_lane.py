"""One lane of a race: the text of a method as it came, up to the moment that the common clock shows."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.markup import escape

from specterm.tui.difference import DIFFERENCE
from specterm.tui.race import Lap, LapReplay
from specterm.tui.widgets.token_log import TokenLog
from specterm.tui.widgets.visible_text import visible


class RaceLane(TokenLog, inherit_bindings=False):
    """A token log that a lap is replayed into. The arrows sideways and Home belong to the race."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "scroll_down", "Down", id="lane.down", tooltip="Scroll down", show=False),
        Binding("up,k", "scroll_up", "Up", id="lane.up", tooltip="Scroll up", show=False),
        Binding("pagedown", "page_down", "Page down", id="lane.page_down", tooltip="Scroll a page down", show=False),
        Binding("pageup", "page_up", "Page up", id="lane.page_up", tooltip="Scroll a page up", show=False),
        Binding("G", "scroll_end", "End", id="lane.end", tooltip="Scroll to the end and follow", show=False),
    ]
    HELP = """\
## Lane

What one method had emitted at the time that the bar below shows, each token in the colour of its state. **▶** stands
before the first token that is not the naive lane's.
"""

    def __init__(self, configuration: str) -> None:
        super().__init__()
        self.border_title = escape(visible(configuration))
        self.while_empty = "Nothing to replay yet: the race begins when every run has been measured."
        self._replay = LapReplay(self, self.clear)
        self._lap: Lap | None = None

    def show(self, lap: Lap | None) -> None:
        """Replay `lap` from now on; None: this lane has none."""
        self._lap = lap
        self.while_empty = "" if lap is not None else "Nothing to replay: no run of it came to its end."
        self._replay.show(lap)
        self.flush()
        self._tell_position(self._follows)

    def advance(self, position: float) -> None:
        """Show what there was `position` seconds after the prompt's arrival."""
        self._replay.to(position)
        self.flush()
        self._tell_position(self._follows)

    def _place_told(self, follows: bool) -> str:
        if self._lap is None:
            return ""
        done = f" ✓ {self._lap.seconds:.2f} s" if self._replay.finished else ""
        differs = "" if self._lap.difference is None else f" {DIFFERENCE} token {self._lap.difference + 1}"
        return f"{self._replay.tokens}/{len(self._lap.tokens)} tokens{done}{differs}"
