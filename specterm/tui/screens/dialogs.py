"""Small questions: yes or no, where to write a file, and a text."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static, TextArea

from specterm.tui.widgets.key_hints import KeyHints
from specterm.tui.widgets.visible_text import visible


class Confirm(ModalScreen[bool]):
    """Asks before something that cannot be undone; the answer is True for yes only."""

    CSS_PATH = "dialogs.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes", id="confirm.yes", tooltip="Do it"),
        Binding("n,escape", "answer(False)", "No", id="confirm.no", tooltip="Leave everything as it is"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(visible(self._question), markup=False)
            yield KeyHints(id="answers")

    def action_answer(self, yes: bool) -> None:
        """Close with the answer."""
        self.dismiss(yes)


class AskPath(ModalScreen[str | None]):
    """Asks for a file; None where the person thought better of it."""

    CSS_PATH = "dialogs.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "write", "Write", id="path.write", tooltip="Write to this file", priority=True),
        Binding("escape", "leave", "Cancel", id="path.cancel", tooltip="Write nothing"),
    ]

    def __init__(self, question: str, path: str) -> None:
        super().__init__()
        self._question, self._path = question, path

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(visible(self._question), markup=False)
            yield Input(self._path, select_on_focus=False)
            yield KeyHints(id="answers")

    def action_write(self) -> None:
        """Close with the file that is named."""
        self.dismiss(self.query_one(Input).value.strip() or None)

    def action_leave(self) -> None:
        """Close without an answer."""
        self.dismiss(None)


class AskText(ModalScreen[str | None]):
    """Asks for a text of any number of lines; None where it is to stay as it is."""

    CSS_PATH = "dialogs.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f10,ctrl+s", "keep", "Keep", id="text.keep", tooltip="Use this text", priority=True),
        Binding("escape", "leave", "Cancel", id="text.cancel", tooltip="Leave the text as it is"),
    ]

    def __init__(self, question: str, text: str) -> None:
        super().__init__()
        self._question, self._text = question, text

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(visible(self._question), markup=False)
            yield TextArea(self._text, soft_wrap=True, tab_behavior="focus", show_line_numbers=False)
            yield KeyHints(id="answers")

    def action_keep(self) -> None:
        """Close with the text."""
        self.dismiss(self.query_one(TextArea).text.strip())

    def action_leave(self) -> None:
        """Close without an answer."""
        self.dismiss(None)
