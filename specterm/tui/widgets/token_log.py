"""The live stream: a scrolling view of individually styled tokens on the Line API.

Pieces go into a `TokenStore` and nothing is painted; `flush` wraps what is new and repaints from the first changed
line, once a frame. The cost of a frame does not depend on how much has been shown before.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import ClassVar, Protocol

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from specterm.tui.widgets.token_store import State, TokenStore

MATCH, CURRENT_MATCH = "token-log--match", "token-log--match-current"
COMPONENT = {state: f"token-log--{state.name.lower()}" for state in State}
_CACHED_STRIPS = 2000


class Matches(Protocol):
    """Places in the text that are to be marked."""

    def in_pieces(self, pieces: range) -> Iterator[tuple[int, int, int, int, int]]:
        """Those that touch a range of pieces: number, first piece, offset in it, last piece, end offset in that."""


class TokenLog(ScrollView, can_focus=True):
    """Tokens in the colours of their states; it follows the end until someone scrolls up."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {*COMPONENT.values(), MATCH, CURRENT_MATCH}
    ALLOW_SELECT = True

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.while_empty = ""
        """What is told while there is no text."""
        self.store = TokenStore()
        self._show_rejected = False
        self._strips: dict[int, Strip] = {}
        self._styles: dict[State, Style] = {}
        self._own_style: Style | None = None
        self._unwrapped = False
        self._lines_seen = 0
        self._matches: Matches | None = None
        self._current_match: int | None = None

    def on_mount(self) -> None:
        self.anchor()

    @property
    def show_rejected(self) -> bool:
        """Whether rejected and unjudged draft tokens are shown inline."""
        return self._show_rejected

    @show_rejected.setter
    def show_rejected(self, show: bool) -> None:
        if show != self._show_rejected:
            self._show_rejected = show
            self._rewrap(self.store.width)

    @property
    def _follows(self) -> bool:
        """Whether the end stays in sight. While a size changes the offset may not be at the end yet; the anchor is what
        someone's own scrolling releases."""
        return not self._anchor_released or self.is_vertical_scroll_end

    def append(self, text: str, state: State, part: int | None = None, index: int = 0) -> None:
        """Add text without painting it; `flush` does. See `TokenStore.append`."""
        self.store.append(text, state, part, index)
        self._unwrapped = True

    def flush(self) -> None:
        """Wrap and paint what was appended since the last call."""
        if not self._unwrapped:
            return
        self._unwrapped = False
        follows, began = self._follows, not self.store.line_count
        first = self.store.extend_lines()
        for line in range(first, first + 2 + self.size.height):
            self._strips.pop(line, None)
        self._take_size(follows)
        top = self.scroll_offset.y
        stop = top + self.size.height
        changed = range(max(first, top), stop if began else min(self.store.line_count + 1, stop))
        if changed:  # what lies below would have the panes there painted again
            self.refresh_lines(changed.start, len(changed))
        if follows:
            self._lines_seen = self.store.line_count
        self._tell_position(follows)

    def _take_size(self, follows: bool) -> None:
        """Take over how high the text is now. Only this pane depends on it: the screen needs no new layout, which would
        cost more than the lines do."""
        self.set_reactive(TokenLog.virtual_size, Size(self.store.width, self.store.line_count))
        self._scroll_update(self.virtual_size)
        if follows:
            self.scroll_target_y = self.scroll_y = self.max_scroll_y

    def clear(self) -> None:
        """Empty the stream."""
        self.store.clear()
        self._rewrap(self.store.width)
        self.scroll_end(animate=False)

    def on_resize(self, event: events.Resize) -> None:
        width = self.scrollable_content_region.width
        if width > 0 and width != self.store.width:
            self._rewrap(width)

    def _rewrap(self, width: int) -> None:
        top_piece = self.store.piece_at(min(self.scroll_offset.y, max(0, self.store.line_count - 1)))
        follows = self._follows
        self.store.rewrap(width, self._show_rejected)
        self._unwrapped = False
        self._strips.clear()
        self.virtual_size = Size(self.store.width, self.store.line_count)
        self._lines_seen = min(self._lines_seen, self.store.line_count)
        if not follows:
            self.scroll_to(y=self.store.line_of(top_piece), animate=False)
        self.refresh()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if self._follows:
            self._lines_seen = self.store.line_count
        self._tell_position(self._follows)

    def _place_told(self, follows: bool) -> str:
        """What to say about the place in view."""
        return ""

    def _tell_position(self, follows: bool) -> None:
        new_lines = 0 if follows else self.store.line_count - self._lines_seen
        new = f"↓ {new_lines} new line{'s' * (new_lines > 1)}, End follows" if new_lines else ""
        subtitle = " · ".join(told for told in (self._place_told(follows), new) if told)
        if self.border_subtitle != subtitle:
            self.border_subtitle = subtitle

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._strips.clear()
        self._styles.clear()
        self._own_style = None

    @property
    def _blank(self) -> Style:
        """The style where no token is, which takes longer to find than a line does to paint."""
        if self._own_style is None:
            self._own_style = self.rich_style
        return self._own_style

    def _style(self, state: State) -> Style:
        style = self._styles.get(state)
        if style is None:
            style = self._styles[state] = self.get_component_rich_style(COMPONENT[state])
        return style

    def render_line(self, y: int) -> Strip:
        line, width = self.scroll_offset.y + y, self.size.width
        if not self.store.line_count and self.while_empty:
            return self._empty_strip(y)
        if line >= self.store.line_count:
            return Strip.blank(width, self._blank)
        selection = self.text_selection
        if selection is not None and (span := selection.get_span(line)) is not None:
            return self._selected_strip(line, *span)
        strip = self._strips.get(line)
        if strip is None:
            if len(self._strips) > _CACHED_STRIPS:
                self._strips.clear()
            strip = self._strips[line] = self._strip(list(self._segments(line)), line)
        return strip

    def _empty_strip(self, y: int) -> Strip:
        """A line of what is told while there is no text."""
        lines = textwrap.wrap(self.while_empty, max(1, self.scrollable_content_region.width))
        told = [Segment(lines[y], self._style(State.NOTE))] if y < len(lines) else []
        return Strip(told).adjust_cell_length(self.size.width, self._blank)

    @property
    def top_line(self) -> int:
        """The first line in sight."""
        return max(0, min(self.scroll_offset.y, self.store.line_count - 1))

    def show_matches(self, matches: Matches | None, current: int | None) -> None:
        """Mark places, one of them as the current one."""
        self._matches, self._current_match = matches, current
        self._strips.clear()
        self.refresh()

    def show_piece(self, piece: int) -> None:
        """Bring a piece into sight, in the middle, and follow the end no longer."""
        line = self.store.line_of(piece)
        self.release_anchor()
        if not self.scroll_offset.y <= line < self.scroll_offset.y + self.size.height:
            self.scroll_to(y=max(0, line - self.size.height // 2), animate=False, immediate=True)

    def _matched_segments(self, line: int, matches: Matches) -> Iterator[Segment]:
        """A line with its matches marked."""
        found = list(matches.in_pieces(self.store.line_pieces(line)))
        if not found:
            yield from self._plain_segments(line)
            return
        marks = [self.get_component_rich_style(name) for name in (MATCH, CURRENT_MATCH)]
        for piece, state, text in self.store.shown(line):
            style, at = self._style(state), 0
            dropped = self.store.length(piece) - len(text)  # the space that wrapping took from its front
            for number, first, begin, last, end in found:
                if not first <= piece <= last:
                    continue
                start = max(at, begin - dropped if piece == first else 0)
                stop = max(start, end - dropped if piece == last else len(text))
                mark = marks[number == self._current_match]
                yield from self._styled(text[at:start], state)
                yield Segment(text[start:stop], style + mark)
                at = stop
            yield from self._styled(text[at:], state)

    def _segments(self, line: int) -> Iterator[Segment]:
        return self._plain_segments(line) if self._matches is None else self._matched_segments(line, self._matches)

    def _plain_segments(self, line: int) -> Iterator[Segment]:
        for text, state in self.store.spans(line):
            yield from self._styled(text, state)

    def _styled(self, text: str, state: State) -> Iterator[Segment]:
        if state is State.BONUS and text.startswith(" ") and not text.isspace():
            yield Segment(" ", self._blank)  # an underlined gap reads as a character
            text = text[1:]
        if text:
            yield Segment(text, self._style(state))

    def _strip(self, segments: list[Segment], line: int) -> Strip:
        return Strip(segments).adjust_cell_length(self.size.width, self._blank).apply_offsets(0, line)

    def _selected_strip(self, line: int, start: int, end: int) -> Strip:
        chosen = self.screen.get_component_rich_style("screen--selection")
        segments: list[Segment] = []
        x = 0
        for text, state in self.store.spans(line):
            style = self._style(state)
            stop = len(text) if end == -1 else max(0, min(len(text), end - x))
            begin = max(0, min(stop, start - x))
            for part, part_style in (
                (text[:begin], style),
                (text[begin:stop], style + chosen),
                (text[stop:], style),
            ):
                if part:
                    segments.append(Segment(part, part_style))
            x += len(text)
        return self._strip(segments, line)

    def selection_updated(self, selection: Selection | None) -> None:
        self.refresh()

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The selected text as it is shown, with wrapped lines joined again."""
        count = self.store.line_count
        if not count:
            return None
        first = selection.start.y if selection.start else 0
        last = min(selection.end.y if selection.end else count - 1, count - 1)
        parts: list[str] = []
        for line in range(first, last + 1):
            span = selection.get_span(line)
            if span is None:
                continue
            text = self.store.line_text(line)
            begin, end = span
            parts.append(text[begin : len(text) if end == -1 else end])
            if line < last:
                parts.append(self.store.separator(line))
        return "".join(parts), "\n"
