"""A cursor that moves over the tokens of a store: by token, by line and by part. It paints nothing."""

from __future__ import annotations

from specterm.tui.widgets.token_store import TokenStore


class TokenCursor:
    """Stands on a token that is shown. Each move says whether there was somewhere to go."""

    def __init__(self, store: TokenStore, piece: int) -> None:
        """`piece`: a selectable one."""
        self._store = store
        self._stand_on(piece)

    @classmethod
    def near_line(cls, store: TokenStore, line: int) -> TokenCursor | None:
        """A cursor on the last token at or above the end of a line, else on the first one; None without tokens."""
        if not store.line_count:
            return None
        last = store.line_pieces(min(line, store.line_count - 1)).stop - 1
        piece = store.selectable_from(last, -1)
        if piece is None:
            piece = store.selectable_from(0, 1)
        return None if piece is None else cls(store, piece)

    @property
    def pieces(self) -> range:
        """The pieces of the token under the cursor."""
        return self._pieces

    @property
    def token(self) -> tuple[int, int]:
        """The part and the index of the token under the cursor."""
        return self._store.token(self._pieces.start)

    @property
    def marked(self) -> range:
        """The pieces to mark: the token's, and those of its neighbours that are drawn into the same cells."""
        first, stop = self._pieces.start, self._pieces.stop
        if first > 0 and self._store.joins(first):
            first -= 1
        lines = self.lines
        while stop < self._store.line_pieces(lines.stop - 1).stop and self._store.joins(stop):
            stop += 1
        return range(first, stop)

    @property
    def lines(self) -> range:
        """The visual lines that show the token."""
        return range(self._store.line_of(self._pieces.start), self._store.line_of(self._pieces.stop - 1) + 1)

    def _stand_on(self, piece: int) -> None:
        self._pieces = self._store.token_pieces(piece)
        line = self._store.line_of(self._pieces.start)
        self._x = next((x for other, x, _ in self._store.cells(line) if other == self._pieces.start), 0)

    def _go(self, piece: int | None) -> bool:
        if piece is None:
            return False
        self._stand_on(piece)
        return True

    def by_token(self, step: int) -> bool:
        """To the next token (`step` 1) or the one before (-1)."""
        beyond = self._pieces.stop if step > 0 else self._pieces.start - 1
        return self._go(self._store.selectable_from(beyond, step))

    def by_line(self, step: int) -> bool:
        """To the token nearest in the next line that has one, or in the one before. The column is kept over lines."""
        lines, wanted = self.lines, self._x
        line = lines.stop - 1 if step > 0 else lines.start
        while 0 <= (line := line + step) < self._store.line_count:
            if self.at(line, wanted):
                self._x = wanted
                return True
        return False

    def by_part(self, step: int, parts: int) -> bool:
        """To the first token of the next part that shows one, or of the one before; there are `parts` of them."""
        part = self.token[0]
        while 0 <= (part := part + step) < parts:
            if self.to_part(part):
                return True
        return False

    def to_part(self, part: int) -> bool:
        """To the first token that a part shows."""
        pieces = self._store.part_pieces(part)
        return self._go(next((piece for piece in pieces if self._store.selectable(piece)), None))

    def to_end(self, step: int) -> bool:
        """To the last token (`step` 1) or the first (-1)."""
        end = self._store.part_pieces(0).start if step < 0 else self._store.piece_count - 1
        return self._go(self._store.selectable_from(end, -step))

    def at(self, line: int, x: int) -> bool:
        """To the token of a line whose cells are nearest to cell `x`."""
        found = [
            (max(begin - x, x - begin - width + 1, 0), piece)
            for piece, begin, width in self._store.cells(line)
            if self._store.selectable(piece)
        ]
        return self._go(min(found)[1] if found else None)

    def settle(self) -> bool:
        """Go to a neighbour where the token is no longer shown."""
        piece = self._pieces.start
        if self._store.selectable(piece):
            return self._go(piece)
        return self.by_token(1) or self.by_token(-1)
