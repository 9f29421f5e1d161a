"""A field that names a model or heads: a built-in name, a folder or a hub id, with completion."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.suggester import Suggester
from textual.widgets import Input, Label

_MOST_ENTRIES = 5000


class _Names(Suggester):
    """Completes known names, and folders from their parents."""

    def __init__(self, known: Sequence[str]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._known = tuple(known)

    async def get_suggestion(self, value: str) -> str | None:
        """The first known name or folder that begins with `value`."""
        found = next((name for name in self._known if name.startswith(value) and name != value), None)
        if found is None and value.startswith((".", "/", "~")):
            return await asyncio.to_thread(_folder_from, value)
        return found


def _folder_from(text: str) -> str | None:
    """The first folder, by name, whose path begins with `text`; `~` stays as it was typed."""
    parent, _, begun = text.rpartition("/")
    try:
        with os.scandir(os.path.expanduser(parent + "/")) as entries:
            names = [e.name for e, _ in zip(entries, range(_MOST_ENTRIES), strict=False) if e.is_dir()]
    except OSError:
        return None
    fitting = [n for n in names if n.startswith(begun) and n != begun and n.startswith(".") == begun.startswith(".")]
    return f"{parent}/{min(fitting)}" if fitting else None


class NameField(Horizontal):
    """One name; `field` is that of the spec which it goes to."""

    @dataclass
    class Edited(Message):
        """The name changed."""

        field: NameField

    @dataclass
    class Entered(Message):
        """Enter was pressed."""

    def __init__(self, field: str, label: str, name: str, known: Sequence[str], help_text: str) -> None:
        super().__init__(classes="field-row")
        self.field = field
        self.label = label
        self._name_text, self._known = name, known
        self.tooltip = help_text

    def compose(self) -> ComposeResult:
        yield Label(self.label, classes="field-label", markup=False)
        yield Input(
            self._name_text,
            placeholder=self._placeholder,
            compact=True,
            suggester=_Names(self._known),
        )

    @property
    def _placeholder(self) -> str:
        if self.field == "target":
            return "name one"
        further = self.field == "drafts" and not self.label.endswith(" 1")  # the built-in target brings one along
        return "none" if further else "none; builtin has its own"

    @property
    def text(self) -> str:
        """The name as it stands, without blanks around it."""
        boxes = self.query(Input)  # a field that was mounted just now has none yet
        return (boxes.first().value if boxes else self._name_text).strip()

    @text.setter
    def text(self, name: str) -> None:
        box = self.query_one(Input)
        box.value = name
        box.cursor_position = len(name)

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Edited(self))

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        self.post_message(self.Entered())
