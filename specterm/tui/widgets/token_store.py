"""The shown tokens as columns: strings in one list, everything else in flat arrays that the collector never walks."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from enum import IntEnum
from itertools import groupby

from rich.cells import cell_len

from specterm.tui.widgets.visible_text import chunks, visible, visible_lines
from specterm.tui.widgets.wrapping import BREAK, HIDEABLE, NEWLINE, SPACE, wrap

MAX_PIECE_CELLS = 16
"""Wider tokens are stored as several pieces, so that any pane of at least this width can wrap them."""

_WORD = re.compile(" [^ ]*|[^ ]+")

_NO_PART = 0xFFFFFFFF


class State(IntEnum):
    """How a piece of text came about. `PROMPT` and `NOTE` are not output: the prompt, and a line about the run."""

    PLAIN = 0
    ACCEPTED = 1
    CORRECTION = 2
    BONUS = 3
    REJECTED = 4
    DRAFT = 5
    PROMPT = 6
    NOTE = 7
    ERROR = 8


HIDDEN_STATES = frozenset((State.REJECTED, State.DRAFT))
"""States that are not part of the output; they show on request."""


class TokenStore:
    """Text pieces with their states, wrapped into visual lines of `width` cells.

    `append` only stores; `extend_lines` wraps what is new, `rewrap` everything. A token is one or more pieces next to
    each other that say the same part (see `RunRecord`) and the same index in it; pieces without a part are no tokens.
    """

    def __init__(self, width: int = 80) -> None:
        self._width = max(width, MAX_PIECE_CELLS)
        self._show_rejected = False
        self.clear()

    def clear(self) -> None:
        """Forget every piece."""
        self._pieces: list[str] = []
        self._states = bytearray()
        self._widths = array("H")
        self._flags = bytearray()
        self._parts = array("I")
        self._indices = array("h")
        self._part_starts = array("I")
        self._starts = array("L", [0])

    @property
    def width(self) -> int:
        """Cells of a visual line."""
        return self._width

    @property
    def show_rejected(self) -> bool:
        """Whether the tokens that are not part of the output are shown."""
        return self._show_rejected

    @property
    def piece_count(self) -> int:
        """Pieces in all."""
        return len(self._pieces)

    @property
    def line_count(self) -> int:
        """Visual lines; an empty last line does not count."""
        ends_empty = self._starts[-1] >= len(self._pieces)
        return len(self._starts) - ends_empty

    def append(self, text: str, state: State, part: int | None = None, index: int = 0) -> None:
        """Add text of one state. A newline in it ends the line, unless it was never part of the output.

        `part` and `index` name the token: parts never fall, and where part n is given, all before it are complete.
        """
        hideable = state in HIDDEN_STATES
        if part is not None:
            while len(self._part_starts) <= part:
                self._part_starts.append(len(self._pieces))
        place = (_NO_PART if part is None else part, index)
        if hideable:
            self._append_pieces(visible(text), state, HIDEABLE, place)
            return
        first, *others = visible_lines(text)
        self._append_pieces(first, state, 0, place)
        for line in others:
            self._append_piece("\n", state, NEWLINE, 0, place)
            self._append_pieces(line, state, 0, place)

    def _append_pieces(self, text: str, state: State, flag: int, place: tuple[int, int]) -> None:
        if not text:
            return
        width = self._added_width(text)
        if width <= MAX_PIECE_CELLS and len(text) <= 2 * MAX_PIECE_CELLS:
            self._append_piece(text, state, flag, width, place)
            return
        for word in _WORD.findall(text):
            for chunk in chunks(word, MAX_PIECE_CELLS):
                self._append_piece(chunk, state, flag, self._added_width(chunk), place)

    def _added_width(self, text: str) -> int:
        """Cells that `text` adds: a character that joins the one before it (a combining mark, a variation selector)
        may widen that one, and has no width of its own."""
        if self._pieces and self._pieces[-1] != "\n" and cell_len(text[0]) == 0:
            return max(0, cell_len(self._pieces[-1] + text) - cell_len(self._pieces[-1]))
        return cell_len(text)

    def _append_piece(self, text: str, state: State, flag: int, width: int, place: tuple[int, int]) -> None:
        if text[0] == " ":
            flag |= SPACE
        elif not text.isascii() and cell_len(text[0]) == 2:
            flag |= BREAK
        self._pieces.append(text)
        self._states.append(state)
        self._widths.append(width)
        self._flags.append(flag)
        self._parts.append(place[0])
        self._indices.append(place[1])

    def extend_lines(self) -> int:
        """Wrap the pieces added since the last call; the index of the first visual line that may have changed."""
        line = len(self._starts) - 1
        self._wrap_from(line)
        return line

    def rewrap(self, width: int, show_rejected: bool) -> None:
        """Wrap everything to `width` cells (at least `MAX_PIECE_CELLS`), with or without the rejected tokens."""
        self._width, self._show_rejected = max(width, MAX_PIECE_CELLS), show_rejected
        del self._starts[1:]
        self._wrap_from(0)

    def _wrap_from(self, line: int) -> None:
        first = self._starts[line]
        self._starts.extend(
            wrap(self._widths, self._flags, first, self._width, self._show_rejected, self._continues(line))
        )

    def _continues(self, line: int) -> bool:
        """Whether a line goes on where the one before it was full."""
        first = self._starts[line]
        return first > 0 and not self._flags[first - 1] & NEWLINE

    def piece_at(self, line: int) -> int:
        """The first piece of a visual line."""
        return self._starts[line]

    def line_of(self, piece: int) -> int:
        """The visual line that shows a piece."""
        return max(0, bisect_right(self._starts, piece) - 1)

    def part_at(self, line: int) -> int | None:
        """The part of the first piece of a line; None where that is no token."""
        first = self._starts[line]
        return None if first >= len(self._parts) or self._parts[first] == _NO_PART else self._parts[first]

    def token(self, piece: int) -> tuple[int, int]:
        """The part and the index of the token that a piece belongs to."""
        return self._parts[piece], self._indices[piece]

    def token_pieces(self, piece: int) -> range:
        """All pieces of the token that a piece belongs to."""
        token, first, stop = self.token(piece), piece, piece + 1
        while first > 0 and self.token(first - 1) == token:
            first -= 1
        while stop < len(self._pieces) and self.token(stop) == token:
            stop += 1
        return range(first, stop)

    def part_pieces(self, part: int) -> range:
        """From the first piece of a part to the first of the next one."""
        starts, end = self._part_starts, len(self._pieces)
        first = starts[part] if part < len(starts) else end
        return range(first, starts[part + 1] if part + 1 < len(starts) else end)

    def selectable(self, piece: int) -> bool:
        """Whether a piece belongs to a token and is shown."""
        return self._parts[piece] != _NO_PART and (self._show_rejected or not self._flags[piece] & HIDEABLE)

    def selectable_from(self, piece: int, step: int) -> int | None:
        """The first selectable piece at or after (`step` 1) or before (`step` -1) a piece; None where there is none."""
        while 0 <= piece < len(self._pieces):
            if self.selectable(piece):
                return piece
            piece += step
        return None

    def joins(self, piece: int) -> bool:
        """Whether a piece begins with a character that is drawn into the one before it."""
        text = self._pieces[piece]
        return not text.isascii() and cell_len(text[0]) == 0

    def line_pieces(self, line: int) -> range:
        """The pieces of a visual line, with those that are not shown."""
        end = self._starts[line + 1] if line + 1 < len(self._starts) else len(self._pieces)
        return range(self._starts[line], end)

    def cells(self, line: int) -> Iterator[tuple[int, int, int]]:
        """The shown pieces of a line with the cell each begins at and its width; a newline has
        the cell behind the text."""
        x, drop_space = 0, self._continues(line)
        for piece in self.line_pieces(line):
            flag = self._flags[piece]
            if flag & HIDEABLE and not self._show_rejected:
                continue
            width = 1 if flag & NEWLINE else self._widths[piece] - bool(drop_space and flag & SPACE)
            drop_space = False
            yield piece, x, width
            x += width

    def shown(self, line: int) -> Iterator[tuple[int, State, str]]:
        """The pieces of a visual line as they are shown: number, state and text."""
        drop_space = self._continues(line)
        for piece in self.line_pieces(line):
            flag = self._flags[piece]
            if flag & NEWLINE or (flag & HIDEABLE and not self._show_rejected):
                continue
            text = self._pieces[piece]
            if drop_space and flag & SPACE:
                text = text[1:]
            drop_space = False
            if text:
                yield piece, State(self._states[piece]), text

    def spans(self, line: int) -> Iterator[tuple[str, State]]:
        """The text of a visual line as runs of one state."""
        for state, run in groupby(self.shown(line), key=lambda piece: piece[1]):
            yield "".join(text for _, _, text in run), state

    def texts(self, pieces: range) -> Iterator[tuple[int, str]]:
        """The pieces of a range that are shown, with newlines as they are."""
        hidden = 0 if self._show_rejected else HIDEABLE
        flags, texts = self._flags, self._pieces
        return ((piece, texts[piece]) for piece in pieces if not flags[piece] & hidden)

    def length(self, piece: int) -> int:
        """Characters of a piece."""
        return len(self._pieces[piece])

    def line_text(self, line: int) -> str:
        """What a visual line shows."""
        return "".join(text for text, _ in self.spans(line))

    def separator(self, line: int) -> str:
        """What stands between a visual line and the next: a newline, or what wrapping took out."""
        if line + 1 >= len(self._starts):
            return ""
        first = self._starts[line + 1]
        if not self._continues(line + 1):
            return "\n"
        return " " if first < len(self._flags) and self._flags[first] & SPACE else ""
