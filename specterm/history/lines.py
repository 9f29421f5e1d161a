"""What the writer's thread knows about one line of the history, a run or a comparison, and how it writes it."""

from __future__ import annotations

import os
import sqlite3
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import msgspec

from specterm.config import Message, ModelSpec, PlanSpec, Request, RunSpec, to_data
from specterm.events import Event, Prefilled, Round, RowFinished, RunFinished
from specterm.history.settings import is_recording
from specterm.metrics import Figure, LiveFigures
from specterm.recording import pack
from specterm.report.document import Document, as_json

PROMPT_HEAD = 200
"""Characters of the prompt that a list shows at most; the events hold the whole."""

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a line when it begins. `spec` is a RunSpec's JSON, or a PlanSpec's for a comparison; `turns` is
    what was said before the prompt."""

    kind: Literal["run", "comparison"]
    method: str
    models: str
    prompt: str
    spec: str
    measured: bool
    turns: Sequence[Message] = ()


class Line(ABC, Generic[Item]):
    """One line; its items are written in the order in which they came. `stored` is told its prompt once it is kept."""

    def __init__(self, head: Head, stored: Callable[[str], object]) -> None:
        self._head, self._stored = head, stored
        self._started_at = time.time()
        self._id: int | None = None
        self._dropped = False
        self._chunks = 0

    def write(self, connection: sqlite3.Connection, items: Sequence[Item]) -> bool:
        """Add `items`, and bring the line up to date; returns whether it is a new line."""
        begins = self._id is None and not self._dropped
        if begins:
            self._dropped = not is_recording(connection)
            if not self._dropped:
                self._insert(connection)
                self._stored(self._head.prompt)
        if items and not self._dropped:
            self._add(connection, items)
        return begins and not self._dropped

    @abstractmethod
    def _add(self, connection: sqlite3.Connection, items: Sequence[Item]) -> None:
        """Write items; see `_update`, `_chunk` and `_index`."""

    def _insert(self, connection: sqlite3.Connection) -> None:
        head = self._head
        self._id = connection.execute(
            "INSERT INTO runs (kind, started_at, method, models, prompt, spec, measured, pid, turns) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                head.kind,
                self._started_at,
                head.method,
                head.models,
                head.prompt[:PROMPT_HEAD],
                head.spec,
                head.measured,
                os.getpid(),
                msgspec.json.encode(head.turns).decode(),
            ),
        ).lastrowid
        connection.execute("INSERT INTO texts (rowid, prompt, output) VALUES (?, ?, '')", (self._id, head.prompt))

    def _update(self, connection: sqlite3.Connection, figures: Mapping[str, Figure], reason: str | None) -> bool:
        """Bring figures and end up to date; False where somebody deleted the line meanwhile, perhaps in another
        process: nothing more is written of it then."""
        told = msgspec.json.encode(figures).decode()
        updated = connection.execute(
            "UPDATE runs SET figures = ?, reason = ?, finished_at = ? WHERE id = ?",
            (told, reason, reason and time.time(), self._id),
        )
        self._dropped = not updated.rowcount
        return not self._dropped

    def _chunk(self, connection: sqlite3.Connection, events: Sequence[Event]) -> None:
        connection.execute("INSERT INTO chunks VALUES (?, ?, ?)", (self._id, self._chunks, pack(events)))
        self._chunks += 1

    def _index(self, connection: sqlite3.Connection, output: str) -> None:
        connection.execute("UPDATE texts SET output = ? WHERE rowid = ?", (output, self._id))


class RunLine(Line[Event]):
    """A run: its events as they come."""

    def __init__(
        self, spec: RunSpec, prompt: str, turns: Sequence[Message], measured: bool, stored: Callable[[str], object]
    ) -> None:
        head = Head("run", spec.method.label, model_names(spec.model), prompt, _json(spec), measured, turns)
        super().__init__(head, stored)
        self._figures = LiveFigures()
        self._texts: dict[int, list[str]] = {}
        self._searchable = 0

    def _add(self, connection: sqlite3.Connection, items: Sequence[Event]) -> None:
        end = None
        for event in items:
            self._figures.observe(event)
            self._read_text(event)
            end = event if isinstance(event, RunFinished) else end
        if self._update(connection, self._figures.figures, None if end is None else end.reason):
            self._chunk(connection, items)
            self._make_searchable(connection, final=end is not None)

    def _read_text(self, event: Event) -> None:
        match event:
            case Prefilled(token=token) if token is not None:
                self._texts.setdefault(event.row, []).append(token.text)
            case Round():
                for part in event.rows:
                    self._texts.setdefault(part.row, []).extend(token.text for token in part.emitted)
            case RowFinished():
                self._texts[event.row] = [event.text]

    def _make_searchable(self, connection: sqlite3.Connection, *, final: bool) -> None:
        """Index the output: at the end, and before that when it has doubled, so that the cost stays in proportion to
        its length."""
        size = sum(map(len, self._texts.values()))
        if final or size >= 2 * max(self._searchable, 1):
            self._searchable = size
            self._index(connection, "\n".join("".join(parts) for parts in self._texts.values()))


@dataclass(frozen=True, slots=True)
class End:
    """The end of a comparison: its report, or None where there is none because it failed."""

    document: Document | None


class ComparisonLine(Line[tuple[Event, ...] | End]):
    """A comparison: the events of each trial, one chunk each, and at its end the report."""

    def __init__(self, plan: PlanSpec, requests: Sequence[Request]) -> None:
        method = "compare " + " | ".join(method.label for method in plan.methods)
        prompt = "\n\n".join(request.prompt for request in requests)
        head = Head("comparison", method, model_names(plan.model), prompt, _json(plan), True)
        super().__init__(head, stored=lambda prompt: None)
        self._texts: list[str] = []

    def _add(self, connection: sqlite3.Connection, items: Sequence[tuple[Event, ...] | End]) -> None:
        end = next((item for item in items if isinstance(item, End)), None)
        reason = None
        if end is not None:
            reason = "failed" if end.document is None else "done" if end.document.complete else "cancelled"
        if not self._update(connection, {}, reason):
            return
        for item in items:
            if not isinstance(item, End):
                self._chunk(connection, item)
                self._texts += [event.text for event in item if isinstance(event, RowFinished)]
        if end is not None:
            self._index(connection, "\n".join(dict.fromkeys(self._texts)))
            if end.document is not None:
                report = zlib.compress(as_json(end.document).encode())
                verdict = end.document.deployment.verdict
                connection.execute("UPDATE runs SET report = ?, verdict = ? WHERE id = ?", (report, verdict, self._id))


def model_names(model: ModelSpec) -> str:
    """The models of a run on one line: target, then drafts and heads."""
    others = [*model.drafts, *(name for name in model.heads().values())]
    return " + ".join(dict.fromkeys((model.target, *others)))


def _json(spec: RunSpec | PlanSpec) -> str:
    return msgspec.json.encode(to_data(spec)).decode()
