"""The last door before the terminal: whatever a widget paints, no line carries a character that steers.

Panes show such characters as signs (`visible_text`); here those go that came another way: through an editor, a field, a
library's own message. What takes no cell is left out, so that no line grows.
"""

from __future__ import annotations

import re

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from specterm.tui.widgets.visible_text import UNSAFE


class SafeLines(LineFilter):
    """See the module."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The segments, none of which steers the terminal."""
        if all(text.isprintable() for text, *_ in segments):
            return segments
        return [Segment(UNSAFE.sub(_harmless, text), style) for text, style, _ in segments]


def _harmless(match: re.Match[str]) -> str:
    return "\ufffd" * cell_len(match.group())
