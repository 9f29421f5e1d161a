"""The prompt: a small editor in which Enter generates."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea

from specterm.tui.conversation import Conversation


class PromptEditor(TextArea):
    """A text area that submits on Enter, and recalls earlier prompts at its edges.

    In a conversation what it recalls are the turns of the `conversation`; sending one again takes back what followed.
    """

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
        Binding("ctrl+n", "new", "New", id="chat.new", tooltip="Begin a new conversation"),
        Binding("f10", "system", "System", id="chat.system", tooltip="Edit the system prompt"),
        Binding("ctrl+g", "mode", "Mode", id="chat.mode", tooltip="Chat, or complete the text as it stands"),
        # TextArea selects a line with F6, and everything with F7.
        Binding(
            "f6", "screen.show_pane('figures')", "Figures", False, id="prompt.figures", tooltip="Go to the figures"
        ),
        Binding(
            "f7",
            "screen.show_pane('inspector')",
            "Inspector",
            False,
            id="prompt.inspector",
            tooltip="Go to the inspector",
        ),
        # TextArea redoes with this key.
        Binding("ctrl+y", "screen.take_setup", "Setup", False, id="prompt.setup", tooltip="Copy or write this setup"),
        Binding("ctrl+shift+z", "redo", "Redo", False, id="prompt.redo", tooltip="Do again what was undone"),
    ]
    HELP = """\
## Prompt

**Enter** generates, **Ctrl+J** (or Shift+Enter, where the terminal tells it apart) begins a new line. **Up** on the
first line and **Down** on the last recall earlier prompts, those of other sessions too. **Ctrl+L** opens the library,
**Ctrl+Y** takes this setup along as a command line or a plan.

The title says what becomes of the text. **Completion**: the model goes on with it as it stands. **Chat**, for a target
with a chat template or with --chat-template: it is the next turn of a conversation, and goes through the template.
There **Up** recalls an earlier turn; sent again, it takes the turns after it back. **Ctrl+N** begins a new
conversation, **F10** edits the system prompt, **Ctrl+G** changes between chat and completion.
"""

    @dataclass
    class Submitted(Message):
        """Enter was pressed; `turn` is the number of the turn, from 0, in a conversation."""

        text: str
        turn: int

    def __init__(self, text: str, conversation: Conversation, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(text, id=id, soft_wrap=True, tab_behavior="focus", show_line_numbers=False)
        self.placeholder = "Write a prompt, or Ctrl+L for examples"
        self.conversation = conversation
        self._prompts: list[str] = []
        self._recalled = 0  # index into the history; its length: what is being written
        self._draft = ""

    def on_mount(self) -> None:
        self.move_cursor(self.document.end)
        self.show_mode()

    @property
    def _history(self) -> list[str]:
        return self.conversation.asked if self.conversation.chatting else self._prompts

    def show_mode(self) -> None:
        """Say what becomes of the text, and begin at the end of what can be recalled.

        A question that got no answer comes back, to be mended.
        """
        self._recalled = len(self._history)
        if not self.text and self.conversation.unanswered:
            self.text, self.conversation.unanswered = self.conversation.unanswered, ""
        self._show_hint()
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What concerns conversations is offered only where there can be one."""
        if action in ("new", "system"):
            return self.conversation.chatting
        return action != "mode" or self.conversation.has_template

    def _show_hint(self) -> None:
        self.border_title = f"Prompt · {self.conversation.mode_of(self._recalled)}"
        turns = len(self._history)
        if self.conversation.chatting and self._recalled < turns:
            later = turns - self._recalled - 1
            gone = f", and takes back the {later} after it" if later else ""
            self.border_subtitle = f"Enter sends turn {self._recalled + 1} again{gone}"
        else:
            self.border_subtitle = "Enter generates, Ctrl+J begins a line"

    async def _on_key(self, event: events.Key) -> None:
        # TextArea would insert a newline before the binding is looked up.
        if event.key == "enter":
            event.prevent_default()
            return
        await super()._on_key(event)

    def action_submit(self) -> None:
        """Post the prompt."""
        self.post_message(self.Submitted(self.text, self._recalled))

    def action_new(self) -> None:
        """Begin a new conversation."""
        self.conversation.clear()
        self.show_mode()
        self.notify("a new conversation; the turns before are forgotten", timeout=2)

    def action_system(self) -> None:
        """Edit the system prompt."""
        from specterm.tui.screens.dialogs import AskText

        def answered(text: str | None) -> None:
            if text is not None:
                self.conversation.system = text
                self.show_mode()

        self.app.push_screen(AskText("System prompt of the next turns", self.conversation.system), answered)

    def action_mode(self) -> None:
        """Chat, or complete the text as it stands."""
        self.conversation.raw = not self.conversation.raw
        self.show_mode()

    def action_newline(self) -> None:
        """Insert a newline at the cursor."""
        self.insert("\n")

    @property
    def at_hand(self) -> tuple[str, int]:
        """What stands here, and the number of the turn, from 0, that it would be; where nothing does, the last turn
        that was sent."""
        sent = self.conversation.asked if self.conversation.chatting else []
        return (sent[-1], len(sent) - 1) if sent and not self.text.strip() else (self.text, self._recalled)

    @property
    def earlier(self) -> Sequence[str]:
        """The prompts that can be recalled, the oldest first."""
        return tuple(self._history)

    def recall_from(self, prompts: Sequence[str]) -> None:
        """Prompts of earlier sessions, the oldest first."""
        self._history[:0] = prompts
        self._recalled = len(self._history)

    def forget(self, prompts: Collection[str] | None) -> None:
        """Recall these prompts no more; None: none of those before now."""
        kept = [prompts is not None and prompt not in prompts for prompt in self._prompts]
        before = sum(kept[: self._recalled])
        self._prompts = list(compress(self._prompts, kept))
        if not self.conversation.chatting:  # there it counts turns
            self._recalled = before

    def replace_text(self, text: str) -> None:
        """Write another prompt, which can be undone."""
        self.select_all()
        self.replace(text, *self.selection)
        self.move_cursor(self.document.end)
        self.focus()

    def remember(self, text: str) -> None:
        """Add a prompt to the history; in a conversation, its turns are that."""
        if not self.conversation.waiting:
            if not self._prompts or self._prompts[-1] != text:
                self._prompts.append(text)
            self.show_mode()
        else:
            self.text = ""

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
        self._show_hint()
        self.text = self._draft if index == len(self._history) else self._history[index]
        self.move_cursor(self.document.end)
