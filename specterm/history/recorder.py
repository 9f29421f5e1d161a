"""The writer: a thread that puts runs and their events into the database, a batch every half second.

Whoever feeds it only appends to a queue. After a kill everything is there but the last moments, and the run has no end,
which is how an interrupted run is told. A failure of the database is said once, and then nothing more is recorded; no
caller ever sees an exception.
"""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from specterm.config import ModelSpec, RunSpec, to_data
from specterm.errors import one_line
from specterm.events import Event, Prefilled, Round, RowFinished, RunFinished
from specterm.history import database
from specterm.history.database import FILE_NAME, Connect, HistoryError, open_database, transaction
from specterm.history.settings import is_recording
from specterm.metrics import LiveFigures
from specterm.recording import pack, recorded

BATCH_S = 0.5
CLOSE_TIMEOUT_S = 5.0
PROMPT_HEAD = 200
"""Characters of the prompt that a list shows at most; the events hold the whole."""


class RunRecording:
    """One run on its way into the history; made by `Recorder.begin`."""

    def __init__(self, recorder: Recorder, run: _Run) -> None:
        self._recorder, self._run = recorder, run

    def observe(self, event: Event) -> None:
        """Record an event; returns at once."""
        if recorded(event):
            self._recorder._put(self._run, event)


class Recorder:
    """See the module. `report` is told what went wrong, in one line, and `stored` each prompt of which a run is kept;
    both are called from the writer's thread.

    Nothing is opened or made before the first run begins.
    """

    def __init__(
        self,
        folder: Path,
        report: Callable[[str], object],
        *,
        stored: Callable[[str], object] = lambda prompt: None,
        batch_s: float = BATCH_S,
        connect: Connect | None = None,
    ) -> None:
        self._folder, self._report, self._stored, self._batch_s = folder, report, stored, batch_s
        self._connect = connect or database.connect
        self._inbox: queue.SimpleQueue[tuple[_Run, Event | None] | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._failed = False
        self._thread: threading.Thread | None = None

    def begin(self, spec: RunSpec, prompt: str, *, measured: bool = False) -> RunRecording:
        """Begin to record a run. `measured` is whether the screen was painted seldom meanwhile."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="specterm-history", daemon=True)
            self._thread.start()
        run = _Run(spec, prompt, measured, self._stored)
        self._put(run, None)
        return RunRecording(self, run)

    def close(self, timeout: float = CLOSE_TIMEOUT_S) -> None:
        """Write what is waiting and end the thread; gives up after `timeout` seconds."""
        if self._thread is not None:
            self._closing.set()
            self._inbox.put(None)
            self._thread.join(timeout)

    def _put(self, run: _Run, event: Event | None) -> None:
        if not self._failed:
            self._inbox.put((run, event))

    def _work(self) -> None:
        try:
            connection, moved = open_database(self._folder, self._connect)
        except HistoryError as error:
            self._fail(str(error))
            return
        if moved is not None:
            self._report(database.told_moved(moved))
        try:
            while self._write_batch(connection):
                pass
        except (sqlite3.Error, OSError) as error:
            connection.close()
            self._fail(str(database.failure(error, self._folder / FILE_NAME)))
        except Exception as error:  # a text that is no Unicode, say: whatever it is, the app goes on
            self._fail(f"a run cannot be stored: {one_line(error)}")
        finally:
            connection.close()

    def _fail(self, why: str) -> None:
        self._failed = True
        self._report(f"{why}. Runs are no longer stored in this session")

    def _write_batch(self, connection: sqlite3.Connection) -> bool:
        """Wait for something, gather what else comes within the batch's time, write it; False at the end."""
        items = [self._inbox.get()]
        self._closing.wait(self._batch_s)
        while not self._inbox.empty():
            items.append(self._inbox.get())
        news: dict[_Run, list[Event]] = {}
        for item in items:
            if item is not None:
                run, event = item
                news.setdefault(run, []).extend(() if event is None else (event,))
        with transaction(connection):
            for run, events in news.items():
                run.write(connection, events)
        return None not in items


class _Run:
    """What the writer's thread knows about one run."""

    def __init__(self, spec: RunSpec, prompt: str, measured: bool, stored: Callable[[str], object]) -> None:
        self._spec, self._prompt, self._measured, self._stored = spec, prompt, measured, stored
        self._started_at = time.time()
        self._id: int | None = None
        self._dropped = False
        self._chunks = 0
        self._figures = LiveFigures()
        self._texts: dict[int, list[str]] = {}
        self._searchable = 0

    def write(self, connection: sqlite3.Connection, events: list[Event]) -> None:
        """Add `events`, and bring the run's own line up to date."""
        if self._id is None and not self._dropped:
            self._dropped = not is_recording(connection)
            if not self._dropped:
                self._insert(connection)
                self._stored(self._prompt)
        if self._dropped or not events:
            return
        end = None
        for event in events:
            self._figures.observe(event)
            self._read_text(event)
            end = event if isinstance(event, RunFinished) else end
        figures = msgspec.json.encode(self._figures.figures).decode()
        updated = connection.execute(
            "UPDATE runs SET figures = ?, reason = ?, finished_at = ? WHERE id = ?",
            (figures, end and end.reason, end and time.time(), self._id),
        )
        if not updated.rowcount:  # deleted or purged meanwhile, perhaps by another process
            self._dropped = True
            return
        connection.execute("INSERT INTO chunks VALUES (?, ?, ?)", (self._id, self._chunks, pack(events)))
        self._chunks += 1
        self._index(connection, final=end is not None)

    def _insert(self, connection: sqlite3.Connection) -> None:
        spec = msgspec.json.encode(to_data(self._spec)).decode()
        self._id = connection.execute(
            "INSERT INTO runs (started_at, method, models, prompt, spec, measured, pid) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                self._started_at,
                self._spec.method.label,
                model_names(self._spec.model),
                self._prompt[:PROMPT_HEAD],
                spec,
                self._measured,
                os.getpid(),
            ),
        ).lastrowid
        connection.execute("INSERT INTO texts (rowid, prompt, output) VALUES (?, ?, '')", (self._id, self._prompt))

    def _read_text(self, event: Event) -> None:
        match event:
            case Prefilled(token=token) if token is not None:
                self._texts.setdefault(event.row, []).append(token.text)
            case Round():
                for part in event.rows:
                    self._texts.setdefault(part.row, []).extend(token.text for token in part.emitted)
            case RowFinished():
                self._texts[event.row] = [event.text]

    def _index(self, connection: sqlite3.Connection, *, final: bool) -> None:
        """Make the output searchable: at the end, and before that when it has doubled, so that the cost stays in
        proportion to its length."""
        size = sum(map(len, self._texts.values()))
        if final or size >= 2 * max(self._searchable, 1):
            self._searchable = size
            output = "\n".join("".join(parts) for parts in self._texts.values())
            connection.execute("UPDATE texts SET output = ? WHERE rowid = ?", (output, self._id))


def model_names(model: ModelSpec) -> str:
    """The models of a run on one line: target, then drafts and heads."""
    others = [*model.drafts, *(name for name in model.heads().values())]
    return " + ".join(dict.fromkeys((model.target, *others)))
