"""The stream of the workbench: a token log with a cursor that moves over its tokens, while a run streams and after."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip

from specterm.tui.run_record import RunRecord
from specterm.tui.stream_search import StreamSearch
from specterm.tui.widgets.search_bar import SearchBar
from specterm.tui.widgets.token_cursor import TokenCursor
from specterm.tui.widgets.token_log import TokenLog
from specterm.tui.widgets.visible_text import NEWLINE_SIGN

_CURSOR = Style(reverse=True)


def _move(key: str, to: str, label: str, tooltip: str, show: bool = False) -> Binding:
    return Binding(key, f"move('{to}')", label, show, id=f"cursor.{to}", tooltip=tooltip)


class TokenStream(TokenLog):
    """A token log over the tokens of a record."""

    BINDINGS: ClassVar[list[BindingType]] = [
        # A narrow terminal cuts the last line off: first what there is to do with a cursor, or how to get one.
        _move("left", "left", "Before", "To the token before", show=True),
        _move("right", "right", "Next", "To the next token", show=True),
        _move("left_square_bracket", "back", "Round before", "To the round before", show=True),
        _move("right_square_bracket", "on", "Round after", "To the next round", show=True),
        Binding("escape", "leave", "Leave", id="cursor.leave", tooltip="Take the cursor off the tokens"),
        # Without a cursor the next binding of the key takes it: a narrow footer has no room for it behind the others.
        Binding("escape", "end_search", "End search", id="stream.end-search", tooltip="End the search"),
        Binding("escape", "screen.cancel", "Cancel", id="stream.cancel", tooltip="Cancel the run, or else the loading"),
        Binding("i,enter", "inspect", "Inspect", id="stream.inspect", tooltip="Move a cursor over the tokens"),
        Binding("n", "next_match(1)", "Next place", id="stream.next-match", tooltip="To the next place of the search"),
        Binding("N", "next_match(-1)", "Place before", id="stream.previous-match", tooltip="To the place before"),
        Binding("r", "screen.toggle_rejected", "Rejected", id="stream.rejected", tooltip="Show rejected tokens inline"),
        Binding("slash", "search", "Search", id="stream.search", tooltip="Search the text of the stream"),
        Binding("y", "screen.copy_output", "Copy", id="stream.copy", tooltip="Copy the output of the last run"),
        Binding(
            "s", "screen.save_stream", "Save", id="stream.save", tooltip="Save the last run, or the screen, to a file"
        ),
        Binding("c", "screen.clear_stream", "Clear", id="stream.clear", tooltip="Empty the stream"),
        Binding("j", "scroll_down", "Down", id="stream.down", tooltip="Scroll down", show=False),
        Binding("k", "scroll_up", "Up", id="stream.up", tooltip="Scroll up", show=False),
        Binding("g", "scroll_home", "Start", id="stream.home", tooltip="Scroll to the start", show=False),
        Binding("G", "scroll_end", "End", id="stream.end", tooltip="Scroll to the end and follow", show=False),
        # Without a cursor the next binding of a key takes it.
        _move("up", "up", "Line", "To the line above"),
        Binding("up", "scroll_up", "Up", id="stream.line-up", tooltip="Scroll up", show=False),
        _move("down", "down", "Line", "To the line below"),
        Binding("down", "scroll_down", "Down", id="stream.line-down", tooltip="Scroll down", show=False),
        _move("home", "first", "First", "To the first token"),
        Binding("home", "scroll_home", "Start", id="stream.start", tooltip="Scroll to the start", show=False),
        _move("end", "last", "Last", "To the last token"),
        Binding("end", "scroll_end", "End", id="stream.follow", tooltip="Scroll to the end and follow", show=False),
        Binding(
            "a",
            "screen.toggle_alternatives",
            "Alternatives",
            id="stream.alternatives",
            tooltip="Let the next run record the likeliest tokens of target and drafter",
            show=False,
        ),
    ]
    HELP = """\
## Stream

Every token in the colour of its state; the legend at the bottom says which. Rejected tokens, and drafted ones that
were never judged, appear where they were proposed while **r** is on. Scroll up and the view stays; **End** follows
again. Select with the mouse, or copy the whole output with **y**; **s** saves it with its states and figures.

**i**, Enter or a click puts a cursor on a token, and the inspector tells where it came from. **Left** and **Right**
move by token, **Up** and **Down** by line, **[** and **]** by round, **Home** and **End** to the ends; Escape leaves.
**/** searches, without a capital letter for both cases; **n** and **N** go to the next place and the one before.
**a** has the next run record the likeliest tokens of target and drafter at each place.
"""

    @dataclass
    class CursorMoved(Message):
        """The cursor went to a token: its part in the record and its index there. None: there is no cursor now."""

        token: tuple[int, int] | None

    def __init__(self, record: RunRecord, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.border_title = "Stream"
        self.while_empty = (
            "Nothing generated yet. Write a prompt below: here every token then shows whether it was drafted, and what "
            "the target made of it. The last line tells the keys."
        )
        self._record = record
        self._cursor: TokenCursor | None = None
        self._followed = True  # before the cursor came
        self._search_bar = SearchBar()

    def on_mount(self) -> None:
        super().on_mount()
        self._search = StreamSearch(self, self._search_bar)

    @property
    def search_bar(self) -> SearchBar:
        """The line for searching, to be put beside this."""
        return self._search_bar

    def _take_size(self, follows: bool) -> None:
        """What streams in must not carry the cursor out of sight, not even from the end."""
        super()._take_size(follows and self._cursor is None)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The keys of the cursor are free for others while there is none."""
        if action in ("move", "leave"):
            return self._cursor is not None
        if action in ("next_match", "end_search"):
            return self._search.active
        return action != "inspect" or self._cursor is None

    def action_search(self) -> None:
        """Search the stream."""
        self.action_leave()
        self._search.open()

    def action_next_match(self, step: int) -> None:
        """Go to the next place of the search, or to the one before."""
        self._search.step(step)

    def action_end_search(self) -> None:
        """End the search."""
        self._search.close()
        self.refresh_bindings()

    def flush(self) -> None:
        super().flush()
        self._search.grow()

    def action_inspect(self) -> None:
        """Put the cursor on the last token in sight."""
        cursor = TokenCursor.near_line(self.store, self.scroll_offset.y + self.size.height - 1)
        if cursor is None:
            self.app.notify("there is no token to inspect yet", severity="warning")
        else:
            self._place(cursor)

    def inspect_part(self, part: int) -> bool:
        """Put the cursor on the first token that a part shows; False where it shows none."""
        cursor = self._cursor or TokenCursor.near_line(self.store, 0)
        if cursor is None or not cursor.to_part(part):
            return False
        self._place(cursor)
        return True

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None or self.text_selection is not None:
            return
        line = self.scroll_offset.y + offset.y
        cursor = self._cursor or TokenCursor.near_line(self.store, line)
        if cursor is not None and line < self.store.line_count and cursor.at(line, offset.x):
            self._place(cursor)

    def _place(self, cursor: TokenCursor) -> None:
        if self._cursor is None:
            self._followed = self._follows
            self._cursor = cursor
            self.refresh_bindings()
        self._cursor_moved()

    def action_move(self, to: str) -> None:
        """Move the cursor."""
        cursor = self._cursor
        if cursor is None:
            return
        match to:
            case "left" | "right":
                moved = cursor.by_token(1 if to == "right" else -1)
            case "up" | "down":
                moved = cursor.by_line(1 if to == "down" else -1)
            case "back" | "on":
                moved = cursor.by_part(1 if to == "on" else -1, len(self._record))
            case _:
                moved = cursor.to_end(1 if to == "last" else -1)
        if moved:
            self._cursor_moved()

    def action_leave(self) -> None:
        """Take the cursor away, and follow the end if the view did before it came."""
        if self._cursor is None:
            return
        self._cursor = None
        if self._followed:
            self.anchor()
        self.refresh()
        self.refresh_bindings()
        self._tell_position(self._follows)
        self.post_message(self.CursorMoved(None))

    def _cursor_moved(self) -> None:
        assert self._cursor is not None
        lines = self._cursor.lines
        self.scroll_to_region(Region(0, lines.start, 1, len(lines)), animate=False, immediate=True, x_axis=False)
        self.release_anchor()
        self.refresh()
        self._tell_position(self._follows)
        self.post_message(self.CursorMoved(self._cursor.token))

    def clear(self) -> None:
        self.action_leave()
        super().clear()
        self._search.again()

    def _rewrap(self, width: int) -> None:
        shown = self.store.show_rejected
        super()._rewrap(width)
        if self.store.show_rejected != shown:
            self._search.again()
        if self._cursor is not None:
            self._cursor.settle()
            # Its line is known only now, and may be out of sight once the new size is in force.
            self.call_after_refresh(self._bring_back)

    def _bring_back(self) -> None:
        if self._cursor is not None:
            self._cursor_moved()

    def watch_has_focus(self, has_focus: bool) -> None:
        super().watch_has_focus(has_focus)
        self._tell_position(self._follows)

    def _place_told(self, follows: bool) -> str:
        if self._cursor is not None:
            return self._record.part(self._cursor.token[0]).told()
        if follows and len(self._record) and not self.has_focus:
            return "F3, then i inspects tokens"
        part = None if follows else self.store.part_at(min(round(self.scroll_y), self.store.line_count - 1))
        number = None if part is None else self._record.part(part).round
        return "" if number is None else f"round {number}"

    def render_line(self, y: int) -> Strip:
        line = self.scroll_offset.y + y
        if self._cursor is None or line not in self._cursor.lines or self.text_selection is not None:
            return super().render_line(y)
        return self._strip(list(self._cursor_segments(line, self._cursor.marked)), line)

    def _cursor_segments(self, line: int, marked: range) -> Iterator[Segment]:
        """A line with the token under the cursor reversed; a token that only ends the line shows as a sign."""
        shown = [(piece in marked, state, text) for piece, state, text in self.store.shown(line)]
        for (mark, state), run in groupby(shown, key=lambda piece: piece[:2]):
            style = self._style(state)
            yield Segment("".join(text for *_, text in run), style + _CURSOR if mark else style)
        if not any(mark for mark, *_ in shown):
            yield Segment(NEWLINE_SIGN, self.rich_style + _CURSOR)
