"""The line below the stream in which a text to search for is written."""

from __future__ import annotations

from typing import ClassVar, Protocol

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Input, Label, Static


class Searcher(Protocol):
    """What the bar speaks to."""

    def search(self, query: str) -> None:
        """Search for another text; for "" nothing."""

    def step(self, step: int) -> None:
        """Go to the next place (1) or to the one before (-1)."""

    def accept(self) -> None:
        """Leave the bar, and keep what was found."""

    def close(self) -> None:
        """End the search."""


class _SearchText(Input):
    """What is searched for. Its keys are its own, because an `Input` hides those of what it is in: it scrolls."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "step(1)", "Next", id="search.next", tooltip="To the next place"),
        Binding("up", "step(-1)", "Previous", id="search.previous", tooltip="To the place before"),
    ]

    def action_step(self, step: int) -> None:
        """Go to another place."""
        self.query_ancestor(SearchBar).searcher.step(step)


class SearchBar(Horizontal):
    """Tells its searcher each change of what is searched for; Enter goes to the stream, Escape ends the search."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "End search", id="search.leave", tooltip="End the search"),
    ]
    HELP = """\
## Search

What is written is searched for in the stream as it is shown. Without a capital letter both cases are found.
**Down** and **Up** go to the next place and the one before, **Enter** goes to the stream, where **n** and **N** do the
same; **Escape** ends the search.
"""

    searcher: Searcher

    def compose(self) -> ComposeResult:
        yield Label("/", id="search-sign")
        yield _SearchText(placeholder="search the stream", select_on_focus=True, id="search-text")
        yield Static("", id="search-count")

    def open(self) -> None:
        """Show the line and go to it."""
        self.display = True
        self.screen.set_focus(self.query_one(Input))  # at once: what is typed behind the key is meant for it

    @property
    def query_text(self) -> str:
        """What is searched for."""
        return self.query_one(Input).value

    def show_count(self, text: str) -> None:
        """Say how many places were found, and which one is in sight."""
        self.query_one("#search-count", Static).update(text)

    def on_input_changed(self, message: Input.Changed) -> None:
        message.stop()
        self.searcher.search(message.value)

    def on_input_submitted(self, message: Input.Submitted) -> None:
        message.stop()
        self.searcher.accept()

    def action_leave(self) -> None:
        """End the search."""
        self.searcher.close()
