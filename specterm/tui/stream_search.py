"""The search in the stream: it drives the bar, reads the text in stretches, and moves from place to place."""

from __future__ import annotations

from textual.timer import Timer

from specterm.tui.text_search import TextSearch
from specterm.tui.widgets.search_bar import SearchBar
from specterm.tui.widgets.token_log import TokenLog

_PAUSE_S = 0.001  # between two stretches: keys and paints come first


class StreamSearch:
    """Searches `log` for what `bar` says. While text streams in, the new text is searched too."""

    def __init__(self, log: TokenLog, bar: SearchBar) -> None:
        self._log, self._bar = log, bar
        self._found: TextSearch | None = None
        self._current: int | None = None
        self._origin = 0  # the piece from which the first place is looked for
        bar.searcher = self
        self._timer: Timer = log.set_interval(_PAUSE_S, self._advance, pause=True)

    @property
    def active(self) -> bool:
        """Whether something is searched for."""
        return self._found is not None

    def open(self) -> None:
        """Ask for a text; what is in sight counts as here."""
        self._origin = self._log.store.piece_at(self._log.top_line)
        self._bar.open()
        self.search(self._bar.query_text)

    def search(self, query: str) -> None:
        """Search for another text; for "" nothing."""
        self._current = None
        self._found = TextSearch(self._log.store, query) if query else None
        self._log.show_matches(self._found, None)
        self._go_on()
        self._tell()

    def close(self) -> None:
        """End the search."""
        self.search("")
        self._bar.display = False
        self._log.focus()

    def accept(self) -> None:
        """Leave the bar; the places stay marked."""
        if self.active:
            self._log.focus()
        else:
            self.close()

    def again(self) -> None:
        """What the stream shows is not what it was: search it anew."""
        if self.active:
            self.search(self._bar.query_text)

    def grow(self) -> None:
        """Text was added."""
        self._go_on()

    def step(self, step: int) -> None:
        """Go to the next place (1) or to the one before (-1), around the ends."""
        if self._found is not None and len(self._found):
            at = self._current if self._current is not None else -1 if step > 0 else 0
            self._show((at + step) % len(self._found))

    def _go_on(self) -> None:
        if self._found is not None and not self._found.done:
            self._timer.resume()

    def _advance(self) -> None:
        found = self._found
        if found is None or found.done:
            self._timer.pause()
            return
        before = len(found)
        found.advance()
        if self._current is None and len(found):
            here = found.from_piece(self._origin)
            if here < len(found) or found.done:
                self._show(here % len(found))
        if len(found) > before:
            self._log.show_matches(found, self._current)
        if found.done:
            self._timer.pause()
        self._tell()

    def _show(self, index: int) -> None:
        assert self._found is not None
        self._current = index
        self._origin = self._found.first_piece(index)
        self._log.show_matches(self._found, index)
        self._log.show_piece(self._origin)
        self._tell()

    def _tell(self) -> None:
        found = self._found
        if found is None:
            self._bar.show_count("")
            return
        going = "" if found.done else "…"
        if not len(found):
            self._bar.show_count("searching…" if going else "not found")
            return
        at = "" if self._current is None else f"{self._current + 1:,} of "
        self._bar.show_count(f"{at}{len(found):,}{going}")
