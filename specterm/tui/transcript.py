"""From the events of a run to the text of the stream: which piece is shown, in which state, and in what order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from specterm.events import (
    EmittedToken,
    Event,
    Loaded,
    Prefilled,
    Round,
    RowFinished,
    RowRound,
    RowStarted,
    RunStarted,
)
from specterm.tui.run_record import RunRecord
from specterm.tui.widgets.token_store import State

_ORIGIN = {
    "plain": State.PLAIN,
    "accepted": State.ACCEPTED,
    "correction": State.CORRECTION,
    "bonus": State.BONUS,
}


class Page(Protocol):
    """Where the text goes."""

    def append(self, text: str, state: State, part: int | None = None, index: int = 0) -> None:
        """Add text of one state. A token says its part in the record, and its place there: see `node_index`."""


def node_index(node: int) -> int:
    """The index by which a page knows a draft node; an emitted token has its own, from 0. Its own inverse."""
    return -1 - node


def refused_chain(part: RowRound) -> Iterator[tuple[int, str, State]]:
    """The nodes of the first branch that the target's own token stands in place of: the rejected node, then what was
    drafted behind it and never judged.

    Siblings are left out. Nothing is yielded where there is none or texts were not recorded.
    """
    if part.texts is None or not part.refused:
        return
    node = part.refused[0]
    yield node, part.texts[node], State.REJECTED
    for child in range(node + 1, len(part.tokens)):
        if part.parents[child] == node and part.states[child] == "unused":
            yield child, part.texts[child], State.DRAFT
            node = child


class Transcript:
    """Writes runs to a page, one row after the other, and keeps their rounds in a record.

    The rows of a batch interleave in the events; on the page a row is written live while the others wait for its end.
    """

    def __init__(self, page: Page, record: RunRecord) -> None:
        self._page = page
        self._record = record
        self._empty = True
        self._template = self._chat = False
        self.start_run()

    def start_run(self) -> None:
        """Forget the rows of the run before."""
        self._shown: int | None = None
        self._waiting: dict[int, list[tuple[Event, RowRound | None]]] = {}
        self._text: list[str] = []

    def clear(self) -> None:
        """The page was emptied: the next row needs no gap above it, and nothing on it can be inspected."""
        self._empty = True
        self._record.clear()

    @property
    def output(self) -> str:
        """The text that the last shown row has emitted so far, exactly as the model gave it."""
        return "".join(self._text)

    def observe(self, event: Event) -> None:
        """Write what `event` adds."""
        match event:
            case Loaded():
                self._record.load(event)
                self._template = event.target.chat_template
            case RunStarted():
                template = self._template or event.spec.get("chat_template") is not None
                self._chat = bool(event.spec.get("chat")) and template
                self._record.start_run(event.spec)
            case Round():
                for part in event.rows:
                    self._row_event(part.row, event, part)
            case RowStarted() | Prefilled() | RowFinished():
                self._row_event(event.row, event, None)

    def note(self, text: str, state: State = State.NOTE) -> None:
        """Write a line about the run."""
        self._page.append(text if self._empty else f"\n{text}", state)
        self._empty = False

    def _row_event(self, row: int, event: Event, part: RowRound | None) -> None:
        if self._shown is None:
            self._shown = row
        if row != self._shown:
            self._waiting.setdefault(row, []).append((event, part))
            return
        self._write(event, part)
        if isinstance(event, RowFinished):
            self._shown = None
            if self._waiting:
                following = min(self._waiting)
                for late_event, late_part in self._waiting.pop(following):
                    self._row_event(following, late_event, late_part)

    def _write(self, event: Event, part: RowRound | None) -> None:
        match event:
            case RowStarted():
                self._text = []
                gap = "" if self._empty else "\n\n"
                label = f"row {event.row}: " if event.row else ""
                end = "\n" if self._chat else ""  # an answer is no continuation of the question
                self._page.append(f"{gap}{label}{event.prompt}{end}", State.PROMPT)
                self._empty = False
            case Prefilled(token=token) if token is not None:
                self._emit(token, self._record.add_prefill(event), 0)
            case Round() if part is not None:
                self._write_round(self._record.add_round(event, part), part)

    def _write_round(self, number: int, part: RowRound) -> None:
        refused = list(refused_chain(part))
        for index, token in enumerate(part.emitted):
            if refused and token.origin != "accepted":
                for node, text, state in refused:
                    self._page.append(text, state, number, node_index(node))
                refused = []
            self._emit(token, number, index)

    def _emit(self, token: EmittedToken, part: int, index: int) -> None:
        if token.text:
            self._text.append(token.text)
            self._page.append(token.text, _ORIGIN[token.origin], part, index)
