"""The prompt: a small editor in which Enter generates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea


class PromptEditor(TextArea):
    """A text area that submits on Enter, and recalls earlier prompts at its edges. History is kept in memory only."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Run", id="prompt.submit", tooltip="Generate from the prompt"),
        Binding(
            "ctrl+j,shift+enter,alt+enter",
            "newline",
            "Newline",
            show=False,
            id="prompt.newline",
            tooltip="Begin a new line in the prompt",
            key_display="^j",
        ),
        # TextArea selects a line with F6, which is the way to the figures here.
        Binding("f6", "app.show_pane('figures')", "Figures", False, id="prompt.figures", tooltip="Go to the figures"),
    ]
    HELP = """\
## Prompt

**Enter** generates, **Ctrl+J** (or Shift+Enter, where the terminal tells it apart) begins a new line. **Up** on the
first line and **Down** on the last recall earlier prompts of this session.
"""

    @dataclass
    class Submitted(Message):
        """Enter was pressed."""

        text: str

    def __init__(self, text: str = "", *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(text, id=id, soft_wrap=True, tab_behavior="focus", show_line_numbers=False)
        self.placeholder = "Write a prompt"
        self.border_title = "Prompt"
        self.border_subtitle = "Enter generates, Ctrl+J begins a line"
        self._history: list[str] = []
        self._recalled = 0  # index into the history; its length: what is being written
        self._draft = ""

    def on_mount(self) -> None:
        self.move_cursor(self.document.end)

    async def _on_key(self, event: events.Key) -> None:
        # TextArea would insert a newline before the binding is looked up.
        if event.key == "enter":
            event.prevent_default()
            return
        await super()._on_key(event)

    def action_submit(self) -> None:
        """Post the prompt."""
        self.post_message(self.Submitted(self.text))

    def action_newline(self) -> None:
        """Insert a newline at the cursor."""
        self.insert("\n")

    def remember(self, text: str) -> None:
        """Add a prompt to the history."""
        if not self._history or self._history[-1] != text:
            self._history.append(text)
        self._recalled = len(self._history)

    def action_cursor_up(self, select: bool = False) -> None:
        if not select and self.cursor_at_first_line and self._recalled > 0:
            if self._recalled == len(self._history):
                self._draft = self.text
            self._recall(self._recalled - 1)
        else:
            super().action_cursor_up(select)

    def action_cursor_down(self, select: bool = False) -> None:
        if not select and self.cursor_at_last_line and self._recalled < len(self._history):
            self._recall(self._recalled + 1)
        else:
            super().action_cursor_down(select)

    def _recall(self, index: int) -> None:
        self._recalled = index
        self.text = self._draft if index == len(self._history) else self._history[index]
        self.move_cursor(self.document.end)
