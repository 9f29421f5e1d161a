"""What the colours mean: always in sight."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.widgets import Static

from specterm.tui.widgets.token_log import COMPONENT
from specterm.tui.widgets.token_store import State

_ENTRIES = (
    (State.PLAIN, "plain", "no draft"),
    (State.ACCEPTED, "accepted", "draft kept"),
    (State.CORRECTION, "correction", "target's own"),
    (State.BONUS, "bonus", "after a full accept"),
    (State.REJECTED, "rejected", "draft refused"),
    (State.DRAFT, "draft", "not judged"),
)
_PROMPT = (State.PROMPT, "prompt", "as given")  # where there is room for it


class Legend(Static):
    """The token states, each written in its own style."""

    COMPONENT_CLASSES: ClassVar[set[str]] = set(COMPONENT.values())

    def on_resize(self) -> None:
        self.draw()

    def draw(self) -> None:
        """Draw the legend, with explanations where there is room."""
        width = self.size.width - 2
        least = sum(len(name) + 2 for _, name, _ in (*_ENTRIES, _PROMPT)) - 2
        entries = [*_ENTRIES, *([_PROMPT] if least <= width else [])]
        full = sum(len(name) + len(meaning) + 6 for _, name, meaning in entries)
        text = Text(no_wrap=True)
        for state, name, meaning in entries:
            text.append("  " if text else "")
            text.append(name, self.get_component_rich_style(COMPONENT[state], partial=True))
            if full <= width:
                text.append(f" ({meaning})", "dim")
        self.update(text)
