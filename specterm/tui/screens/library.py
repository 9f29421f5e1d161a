"""The prompt library: the built-in sets, a person's own files, and what was written before."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from specterm.bench.prompts import SUFFIXES, gather
from specterm.catalogue.models import BUILTIN
from specterm.errors import ConfigError
from specterm.tui.widgets.key_hints import KeyHints
from specterm.tui.widgets.visible_text import visible

MAX_SHOWN = 500
_EARLIER = "earlier"
_ORIGIN_CELLS = 14


@dataclass(frozen=True, slots=True)
class Entry:
    """One prompt and where it comes from."""

    origin: str
    prompt: str


def read_library(folder: Path) -> tuple[list[Entry], list[str]]:
    """The built-in prompts and those of the files in `folder`, and what is wrong with files that were skipped."""
    entries = [Entry(request.domain or BUILTIN, request.prompt) for request in gather((BUILTIN,))]
    problems = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix.lower() in SUFFIXES:
            try:
                entries += [Entry(path.stem, request.prompt) for request in gather((str(path),))]
            except ConfigError as error:
                problems.append(str(error))
    return entries, problems


class PromptLibrary(ModalScreen[str | None]):
    """Closes with the chosen prompt, or None. Typing filters; the own files are those in `folder`."""

    CSS_PATH = "dialogs.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "use", "Use", id="library.use", tooltip="Take this prompt", priority=True),
        Binding("escape,ctrl+l", "leave", "Cancel", id="library.cancel", tooltip="Choose nothing"),
        Binding("down", "move(1)", "Down", id="library.down", tooltip="To the next prompt", priority=True),
        Binding("up", "move(-1)", "Up", id="library.up", tooltip="To the prompt before", priority=True),
        Binding("pagedown", "move(10)", "Page down", id="library.page-down", show=False, tooltip="Ten prompts on"),
        Binding("pageup", "move(-10)", "Page up", id="library.page-up", show=False, tooltip="Ten prompts back"),
    ]

    def __init__(self, folder: Path, earlier: Sequence[str]) -> None:
        super().__init__()
        self._folder = folder
        self._entries = [Entry(_EARLIER, prompt) for prompt in reversed(earlier)]
        self._shown: list[Entry] = []

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Input(placeholder="words of a prompt, or of where it comes from", id="library-filter")
            yield OptionList(id="library-prompts")
            yield Static("", id="library-more")
            yield KeyHints(id="answers")

    async def on_mount(self) -> None:
        self.query_one(OptionList).can_focus = False
        found, problems = await asyncio.to_thread(read_library, self._folder)
        self._entries = [*found, *self._entries]
        self._list("")
        if problems:
            told = "\n".join(visible(problem) for problem in problems)
            self.notify(f"Prompts skipped: {told}", severity="warning", markup=False)

    def on_input_changed(self, message: Input.Changed) -> None:
        self._list(message.value)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Without a prompt there is none to go to or to take."""
        return action not in ("use", "move") or bool(self._shown)

    def action_use(self) -> None:
        """Close with the prompt under the cursor."""
        at = self.query_one(OptionList).highlighted
        assert at is not None
        self.dismiss(self._shown[at].prompt)

    def on_option_list_option_selected(self, message: OptionList.OptionSelected) -> None:
        self.dismiss(self._shown[message.option_index].prompt)

    def _list(self, wanted: str) -> None:
        words = wanted.lower().split()
        matching = [e for e in self._entries if all(word in f"{e.origin} {e.prompt}".lower() for word in words)]
        self._shown = matching[:MAX_SHOWN]
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options([Option(_line(entry)) for entry in self._shown])
        options.highlighted = 0 if self._shown else None
        self.refresh_bindings()
        more = f", {len(matching) - MAX_SHOWN:,} more" if len(matching) > MAX_SHOWN else ""
        own = f"your own files (.txt, .json, .jsonl): {self._folder}"
        self.query_one("#library-more", Static).update(Text(f"{len(matching):,} prompts{more} · {visible(own)}"))

    def action_move(self, by: int) -> None:
        """Go up or down in the list."""
        options = self.query_one(OptionList)
        options.highlighted = max(0, min(len(self._shown) - 1, (options.highlighted or 0) + by))

    def action_leave(self) -> None:
        """Close without a choice."""
        self.dismiss(None)


def _line(entry: Entry) -> Text:
    """An entry on one line."""
    origin = visible(entry.origin)[: _ORIGIN_CELLS - 1].ljust(_ORIGIN_CELLS)
    return Text(origin, "italic", no_wrap=True, overflow="ellipsis").append(visible(entry.prompt[:500]), "not italic")
