"""What a comparison comes to: the setting that won and how other programs are given it, to be taken along."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from specterm.report.deploy import Deployment, lines
from specterm.tui import clipboard
from specterm.tui.widgets.key_hints import KeyHints
from specterm.tui.widgets.visible_text import visible


class DeployScreen(ModalScreen[None]):
    """Shows what to deploy, and copies it."""

    CSS_PATH = "dialogs.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c,enter", "copy", "Copy", id="deploy.copy", tooltip="Copy what to deploy"),
        Binding("escape,d", "leave", "Back", id="deploy.back", tooltip="Back to the race"),
    ]

    def __init__(self, deployment: Deployment) -> None:
        super().__init__()
        self._lines = list(lines(deployment))

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            with VerticalScroll(id="deploy-lines"):
                yield Static("\n\n".join(visible(line) for line in self._lines), markup=False)
            yield KeyHints(id="answers")

    def action_copy(self) -> None:
        """Copy everything that is said."""
        clipboard.copy(self.app, "\n".join(self._lines), "what to deploy")
        self.dismiss(None)

    def action_leave(self) -> None:
        """Close."""
        self.dismiss(None)
