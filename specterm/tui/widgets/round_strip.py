"""One cell a round: how much of each draft was accepted, the newest at the right.

The height of a cell is the number of accepted tokens, its texture and colour how the draft fared: solid where all of it
was kept, dotted where it was refused on the way, a cross where nothing was kept, a point where there was no draft.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from specterm.tui.run_record import Outcome, Part, RunRecord

_SOLID = " ▁▂▃▄▅▆▇█"
_DOTTED = "⠀⣀⣤⣶⣿"
_SIGNS = {Outcome.PREFILL: "┊", Outcome.NO_DRAFT: "·", Outcome.ZERO: "×"}
_COMPONENTS = {outcome: f"round-strip--{outcome.name.lower().replace('_', '-')}" for outcome in Outcome}


def cell(part: Part, deepest: int, rows: int) -> list[str]:
    """A part as `rows` characters from the top down; an acceptance of `deepest` tokens is the full height."""
    if part.outcome in _SIGNS:
        return [" "] * (rows - 1) + [_SIGNS[part.outcome]]
    levels = _SOLID if part.outcome is Outcome.FULL else _DOTTED
    steps = len(levels) - 1
    height = max(1, round(min(1.0, part.accepted / max(1, deepest)) * steps * rows))
    return [levels[min(steps, max(0, height - steps * row))] for row in range(rows - 1, -1, -1)]


class RoundStrip(Widget, can_focus=True):
    """The rounds of a record. Painting costs the same however many there are."""

    COMPONENT_CLASSES: ClassVar[set[str]] = set(_COMPONENTS.values())
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "step(-1)", "Round before", id="strip.back", tooltip="Inspect the round before"),
        Binding("right", "step(1)", "Round after", id="strip.on", tooltip="Inspect the next round"),
        Binding("home", "end(-1)", "First", id="strip.first", tooltip="Inspect the first round", show=False),
        Binding("end", "end(1)", "Last", id="strip.last", tooltip="Inspect the last round", show=False),
    ]
    HELP = """\
## Rounds

One cell a round, the newest at the right; its height is the number of accepted tokens. **Solid**: the whole draft was
kept. **Dotted**: it was refused on the way. **×**: nothing was kept. **·**: there was no draft. **┊**: a prefill.
**Left** and **Right**, or a click, take the stream and the inspector to a round.
"""

    @dataclass
    class Chosen(Message):
        """Someone went to a part of the record."""

        part: int

    def __init__(self, record: RunRecord, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._record = record
        self._painted = 0
        self._selected: int | None = None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Without rounds there is none to go to."""
        return action not in ("step", "end") or len(self._record) > 0

    def flush(self) -> None:
        """Paint what was recorded since the last call."""
        if len(self._record) != self._painted:
            self.draw()

    def draw(self) -> None:
        """Draw the strip, in the colours of now."""
        self._painted = len(self._record)
        self.refresh()

    def select(self, part: int | None) -> None:
        """Mark a part, and bring it into sight."""
        if part != self._selected:
            self._selected = part
            self.refresh()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self.refresh()

    @property
    def _window(self) -> range:
        """The parts in sight: the newest, unless the marked one is older than those."""
        count, width = len(self._record), self.size.width
        stop = count
        if self._selected is not None and self._selected < count - width:
            stop = min(count, max(width, self._selected + width // 2))
        return range(max(0, stop - width), stop)

    def part_at(self, x: int) -> int | None:
        """The part in column `x`; None where there is none."""
        window = self._window
        part = window.stop - self.size.width + x
        return part if part in window else None

    def render_line(self, y: int) -> Strip:
        window, width, rows = self._window, self.size.width, self.size.height
        parts = [self._record.part(number) for number in window]
        deepest = max((part.depth for part in parts), default=0)
        styles = {outcome: self.get_component_rich_style(name) for outcome, name in _COMPONENTS.items()}
        segments = [Segment(" " * (width - len(parts)), self.rich_style)]
        for number, part in zip(window, parts, strict=True):
            style = styles[part.outcome]
            if number == self._selected:
                style += Style(reverse=True)
            segments.append(Segment(cell(part, deepest, rows)[y], style))
        return Strip(segments, width)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        offset = event.get_content_offset(self)
        part = None if offset is None else self.part_at(offset.x)
        told = None if part is None else self._record.part(part).told()
        if told != self.tooltip:
            self.tooltip = told

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        part = None if offset is None else self.part_at(offset.x)
        if part is not None:
            self._choose(part)

    def _choose(self, part: int) -> None:
        self.select(part)
        self.post_message(self.Chosen(part))

    def action_step(self, step: int) -> None:
        """Go to the next part or the one before; from nowhere to the last one."""
        last = len(self._record) - 1
        here = last + 1 if self._selected is None else self._selected
        if 0 <= here + step <= last:
            self._choose(here + step)

    def action_end(self, step: int) -> None:
        """Go to the last part (`step` 1) or the first."""
        self._choose(len(self._record) - 1 if step > 0 else 0)
