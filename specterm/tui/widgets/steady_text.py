"""Text that is drawn anew many times a second."""

from __future__ import annotations

from rich.text import Text
from textual.widgets import Static


class SteadyText(Static):
    """A text of unwrapped lines. The screen gets a new layout, which costs more than painting does, only where the
    number of lines has changed."""

    _lines = -1

    def draw_lines(self, text: Text) -> None:
        """Show `text` from now on."""
        lines = text.plain.count("\n")
        self.update(text, layout=lines != self._lines)
        self._lines = lines
