"""The writer: a thread that puts runs and their events into the database, a batch every half second.

Whoever feeds it only appends to a queue. After a kill everything is there but the last moments, and the run has no end,
which is how an interrupted run is told. A failure of the database is said once, and then nothing more is recorded; no
caller ever sees an exception.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from specterm.config import Message, PlanSpec, Request, RunSpec
from specterm.errors import one_line
from specterm.events import Event
from specterm.history import database
from specterm.history.database import FILE_NAME, Connect, HistoryError, open_database, transaction
from specterm.history.lines import ComparisonLine, End, Line, RunLine
from specterm.history.retention import DEFAULT_LIMIT, trim
from specterm.recording import recorded
from specterm.report.document import Document

BATCH_S = 0.5
CLOSE_TIMEOUT_S = 5.0
WRITE_TIMEOUT_S = 2.0


class RunRecording:
    """One run on its way into the history; made by `Recorder.begin`."""

    def __init__(self, recorder: Recorder, line: RunLine) -> None:
        self._recorder, self._line = recorder, line

    def observe(self, event: Event) -> None:
        """Record an event; returns at once."""
        if recorded(event):
            self._recorder._put(self._line, event)


class ComparisonRecording:
    """One comparison on its way into the history; made by `Recorder.begin_comparison`."""

    def __init__(self, recorder: Recorder, line: ComparisonLine) -> None:
        self._recorder, self._line = recorder, line

    def keep(self, events: tuple[Event, ...]) -> None:
        """Record a trial, and wait until it is written: what is written later would take time from the next one."""
        self._recorder._put(self._line, tuple(event for event in events if recorded(event)))
        self._recorder._flush()

    def finish(self, document: Document | None) -> None:
        """Record the end; `document` is the report, None where the comparison failed. Returns at once."""
        self._recorder._put(self._line, End(document))


class Recorder:
    """See the module. `report` is told what went wrong, in one line, `stored` each prompt of which a run is kept, and
    `forgotten` those of which the last run went; all are called from the writer's thread.

    At most `limit` runs are kept. Nothing is opened or made before the first one begins.
    """

    def __init__(
        self,
        folder: Path,
        report: Callable[[str], object],
        *,
        stored: Callable[[str], object] = lambda prompt: None,
        forgotten: Callable[[set[str]], object] = lambda prompts: None,
        limit: int = DEFAULT_LIMIT,
        batch_s: float = BATCH_S,
        connect: Connect | None = None,
    ) -> None:
        self._folder, self._report, self._batch_s = folder, report, batch_s
        self._stored, self._forgotten = stored, forgotten
        self._limit, self._connect = limit, connect or database.connect
        self._inbox: queue.SimpleQueue[tuple[Line[Any], Any] | threading.Event | None] = queue.SimpleQueue()
        self._hurry = threading.Event()
        self._failed = False
        self._thread: threading.Thread | None = None

    def begin(
        self, spec: RunSpec, prompt: str, *, turns: Sequence[Message] = (), measured: bool = False
    ) -> RunRecording:
        """Begin to record a run. `turns` were said before the prompt; `measured` is whether the screen was painted
        seldom meanwhile."""
        line = RunLine(spec, prompt, turns, measured, self._stored)
        self._begin(line)
        return RunRecording(self, line)

    def begin_comparison(self, plan: PlanSpec, requests: Sequence[Request]) -> ComparisonRecording:
        """Begin to record a comparison; its prompts are not told to `stored`."""
        line = ComparisonLine(plan, requests)
        self._begin(line)
        return ComparisonRecording(self, line)

    def _begin(self, line: Line[Any]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="specterm-history", daemon=True)
            self._thread.start()
        self._put(line, None)

    def close(self, timeout: float = CLOSE_TIMEOUT_S) -> None:
        """Write what is waiting and end the thread; gives up after `timeout` seconds."""
        if self._thread is not None:
            self._inbox.put(None)
            self._hurry.set()
            self._thread.join(timeout)

    def _put(self, line: Line[Any], item: Any) -> None:
        """Write `item` of `line`; None only begins it."""
        if not self._failed:
            self._inbox.put((line, item))

    def _flush(self) -> None:
        """Wait until everything is written, but not for long."""
        if not self._failed:
            written = threading.Event()
            self._inbox.put(written)
            self._hurry.set()
            written.wait(WRITE_TIMEOUT_S)

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
        self._hurry.wait(self._batch_s)
        self._hurry.clear()
        while not self._inbox.empty():
            items.append(self._inbox.get())
        news: dict[Line[Any], list[Any]] = {}
        for item in items:
            if isinstance(item, tuple):
                line, told = item
                news.setdefault(line, []).extend(() if told is None else (told,))
        gone: set[str] = set()
        with transaction(connection):
            begun = [line.write(connection, told) for line, told in news.items()]
            if any(begun):
                gone = trim(connection, self._limit)
        if gone:
            self._forgotten(gone)
        for item in items:
            if isinstance(item, threading.Event):
                item.set()
        return None not in items
