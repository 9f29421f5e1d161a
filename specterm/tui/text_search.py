"""Searching the text of a token store, a stretch at a time, so that a long one never holds up the screen."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from specterm.tui.widgets.token_store import TokenStore

STRETCH = 20_000
"""Pieces read at a time: some 5 ms of work."""


class TextSearch:
    """The places of `query` in what a store shows, in reading order. A query without capital letters finds both cases.

    `advance` reads the next stretch; a match may reach over any number of pieces. Each place is a range of pieces with
    the offset of its first character in the first of them and of its end in the last.
    """

    def __init__(self, store: TokenStore, query: str) -> None:
        self._store = store
        self._query = query
        self._pattern = re.compile(re.escape(query), 0 if query != query.lower() else re.IGNORECASE)
        self._read = 0  # pieces
        self._tail: list[tuple[int, int, str]] = []  # pieces at the end that a match may begin in: number, offset, text
        self._firsts, self._begins = array("L"), array("L")
        self._lasts, self._ends = array("L"), array("L")

    def __len__(self) -> int:
        return len(self._firsts)

    @property
    def done(self) -> bool:
        """Whether everything in the store has been read."""
        return self._read >= self._store.piece_count

    def advance(self) -> None:
        """Read the next stretch."""
        stop = min(self._read + STRETCH, self._store.piece_count)
        pieces = self._tail + [(piece, 0, text) for piece, text in self._store.texts(range(self._read, stop))]
        self._read = stop
        starts = [0]
        for _, _, text in pieces:
            starts.append(starts[-1] + len(text))
        joined = "".join(text for _, _, text in pieces)
        end = 0
        for match in self._pattern.finditer(joined):
            begin, end = match.span()
            first = bisect_right(starts, begin) - 1
            last = bisect_left(starts, end) - 1
            self._firsts.append(pieces[first][0])
            self._begins.append(begin - starts[first] + pieces[first][1])
            self._lasts.append(pieces[last][0])
            self._ends.append(end - starts[last] + pieces[last][1])
        # What may be the beginning of a match that the next stretch completes; a place is found once.
        keep = max(end, len(joined) - len(self._query) + 1)
        self._tail = []
        if keep < len(joined):
            first = bisect_right(starts, keep) - 1
            number, offset, text = pieces[first]
            cut = keep - starts[first]
            self._tail = [(number, offset + cut, text[cut:]), *pieces[first + 1 :]]

    def first_piece(self, index: int) -> int:
        """The piece in which a match begins."""
        return self._firsts[index]

    def from_piece(self, piece: int) -> int:
        """The number of the first match that begins at or after a piece; their count where there is none."""
        return bisect_left(self._firsts, piece)

    def in_pieces(self, pieces: range) -> Iterator[tuple[int, int, int, int, int]]:
        """The matches that touch a range of pieces: number, first piece, offset, last piece, end offset."""
        index = bisect_left(self._lasts, pieces.start)
        while index < len(self) and self._firsts[index] < pieces.stop:
            yield index, self._firsts[index], self._begins[index], self._lasts[index], self._ends[index]
            index += 1
