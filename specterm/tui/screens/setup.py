"""This setup, to be taken along: the command line in full, and the ways to take it."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from specterm.tui.widgets.key_hints import KeyHints
from specterm.tui.widgets.visible_text import visible


class TakeSetup(ModalScreen[str | None]):
    """Shows `line` and what is `left` out of it; closes with "command", "plan" or None."""

    CSS_PATH = "dialogs.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c,enter", "take('command')", "Copy", id="setup.command", tooltip="Copy the command line"),
        Binding("p", "take('plan')", "Plan", id="setup.plan", tooltip="Write a plan for --batch"),
        Binding("escape,ctrl+y", "leave", "Cancel", id="setup.cancel", tooltip="Take nothing"),
    ]

    def __init__(self, line: str, left: str = "") -> None:
        super().__init__()
        self._line, self._left = line, left

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            with VerticalScroll(id="command-line"):
                yield Static(visible(self._line), markup=False)
            if self._left:
                yield Static(self._left, id="setup-left", markup=False)
            yield KeyHints(id="answers")

    def action_take(self, way: str) -> None:
        """Close with the chosen way."""
        self.dismiss(way)

    def action_leave(self) -> None:
        """Close without an answer."""
        self.dismiss(None)
