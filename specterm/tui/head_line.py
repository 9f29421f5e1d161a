"""The first line of a screen."""

from __future__ import annotations

from rich.text import Text

from specterm.tui.widgets.visible_text import visible


def head_line(name: str, *told: str) -> Text:
    """The name of a screen, and how it stands; what is empty is left out."""
    return Text(name, "bold", no_wrap=True).append("".join(f" · {visible(text)}" for text in told if text), "not bold")
