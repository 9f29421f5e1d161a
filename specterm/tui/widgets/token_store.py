"""The shown tokens as columns: strings in one list, everything else in flat arrays that the collector never walks."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from enum import IntEnum

from rich.cells import cell_len

from specterm.tui.widgets.visible_text import chunks, visible, visible_lines
from specterm.tui.widgets.wrapping import BREAK, HIDEABLE, NEWLINE, SPACE, wrap

MAX_PIECE_CELLS = 16
"""Wider tokens are stored as several pieces, so that any pane of at least this width can wrap them."""

_WORD = re.compile(" [^ ]*|[^ ]+")

NO_ROUND = 0xFFFFFFFF


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

    `append` only stores; `extend_lines` wraps what is new, `rewrap` everything.
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
        self._rounds = array("I")
        self._starts = array("L", [0])

    @property
    def width(self) -> int:
        """Cells of a visual line."""
        return self._width

    @property
    def line_count(self) -> int:
        """Visual lines; an empty last line does not count."""
        ends_empty = self._starts[-1] >= len(self._pieces)
        return len(self._starts) - ends_empty

    def append(self, text: str, state: State, round_index: int | None = None) -> None:
        """Add text of one state. A newline in it ends the line, unless it was never part of the output."""
        hideable = state in HIDDEN_STATES
        round_id = NO_ROUND if round_index is None else round_index
        if hideable:
            self._append_pieces(visible(text), state, HIDEABLE, round_id)
            return
        first, *others = visible_lines(text)
        self._append_pieces(first, state, 0, round_id)
        for line in others:
            self._append_piece("\n", state, NEWLINE, 0, round_id)
            self._append_pieces(line, state, 0, round_id)

    def _append_pieces(self, text: str, state: State, flag: int, round_id: int) -> None:
        if not text:
            return
        width = self._added_width(text)
        if width <= MAX_PIECE_CELLS and len(text) <= 2 * MAX_PIECE_CELLS:
            self._append_piece(text, state, flag, width, round_id)
            return
        for word in _WORD.findall(text):
            for chunk in chunks(word, MAX_PIECE_CELLS):
                self._append_piece(chunk, state, flag, self._added_width(chunk), round_id)

    def _added_width(self, text: str) -> int:
        """Cells that `text` adds: a character that joins the one before it (a combining mark, a variation selector)
        may widen that one, and has no width of its own."""
        if self._pieces and self._pieces[-1] != "\n" and cell_len(text[0]) == 0:
            return max(0, cell_len(self._pieces[-1] + text) - cell_len(self._pieces[-1]))
        return cell_len(text)

    def _append_piece(self, text: str, state: State, flag: int, width: int, round_id: int) -> None:
        if text[0] == " ":
            flag |= SPACE
        elif not text.isascii() and cell_len(text[0]) == 2:
            flag |= BREAK
        self._pieces.append(text)
        self._states.append(state)
        self._widths.append(width)
        self._flags.append(flag)
        self._rounds.append(round_id)

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

    def round_at(self, line: int) -> int | None:
        """The round in which the first piece of a line was emitted; None outside any round."""
        first = self._starts[line]
        if first >= len(self._rounds) or self._rounds[first] == NO_ROUND:
            return None
        return self._rounds[first]

    def spans(self, line: int) -> Iterator[tuple[str, State]]:
        """The text of a visual line as runs of one state."""
        end = self._starts[line + 1] if line + 1 < len(self._starts) else len(self._pieces)
        run: list[str] = []
        run_state = -1
        drop_space = self._continues(line)
        for index in range(self._starts[line], end):
            flag = self._flags[index]
            if flag & NEWLINE or (flag & HIDEABLE and not self._show_rejected):
                continue
            text = self._pieces[index]
            if drop_space and flag & SPACE:
                text = text[1:]
            drop_space = False
            if self._states[index] != run_state:
                if run:
                    yield "".join(run), State(run_state)
                run, run_state = [], self._states[index]
            run.append(text)
        if run:
            yield "".join(run), State(run_state)

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
