"""The reader: lists, searches, opens and deletes stored runs. Every method opens the file for itself, may be called
from any thread, and raises `HistoryError` with a line for a person where the file cannot be used; what takes a run
raises `ConfigError` where there is none of that number."""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from specterm.catalogue import lossless, lossless_reason
from specterm.config import Message
from specterm.errors import ConfigError
from specterm.events import Event
from specterm.history.comparison import Comparison, read_comparison, trials_of
from specterm.history.database import FILE_NAME, HistoryError, failure, open_database, told_moved, transaction
from specterm.history.query import STATES, Query
from specterm.history.retention import delete
from specterm.history.settings import is_recording, set_recording
from specterm.metrics import Figure
from specterm.recording import unpack

_COLUMNS = "id, started_at, finished_at, reason, method, models, prompt, measured, pid, figures, spec, kind, verdict"
_INDEXED = 3  # characters of the shortest text that the trigram index can find


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored run. Times are seconds since the epoch; `prompt` is its head; `figures` are those of `METRICS` as
    far as they are live (no energy). `state` is one of `query.STATES`: a run without an end is running while the
    process that recorded it lives, and was interrupted otherwise.

    `kind` is "run" or "comparison"; a comparison has no figures, and at its end a `verdict`."""

    id: int
    started_at: float
    finished_at: float | None
    state: str
    method: str
    models: str
    prompt: str
    measured: bool
    figures: dict[str, Figure]
    acceptance: str = ""
    lossless: bool | None = None
    lossless_reason: str | None = None
    kind: str = "run"
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """The history as a whole: how many runs match a query, how many there are, bytes on disk, and whether new runs
    are recorded."""

    matching: int
    runs: int
    bytes: int
    recording: bool


class Archive:
    """See the module."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def path(self) -> Path:
        """The database file."""
        return self._folder / FILE_NAME

    def entries(self, query: Query | None = None, *, before: int | None = None, limit: int = 100) -> list[Entry]:
        """The newest `limit` runs that match, newest first; with `before`, of those older than that run."""
        with self._open() as connection:
            living = _living(connection)
            where, values = _where(connection, query or Query(), living)
            if before is not None:
                where, values = f"{where} AND id < ?", [*values, before]
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM runs WHERE {where} ORDER BY id DESC LIMIT ?", (*values, limit)
            ).fetchall()
        return [_entry(row, living) for row in rows]

    def entry(self, run: int) -> Entry:
        """One run."""
        with self._open() as connection:
            row = connection.execute(f"SELECT {_COLUMNS} FROM runs WHERE id = ?", (run,)).fetchone()
            if row is None:
                raise ConfigError(f"there is no run {run} in {self.path}")
            return _entry(row, _living(connection))

    def standing(self, query: Query | None = None) -> Standing:
        """The history as a whole."""
        with self._open() as connection:
            (runs,) = connection.execute("SELECT count(*) FROM runs").fetchone()
            where, values = _where(connection, query or Query(), _living(connection))
            (matching,) = connection.execute(f"SELECT count(*) FROM runs WHERE {where}", values).fetchone()
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            (page,) = connection.execute("PRAGMA page_size").fetchone()
            return Standing(matching, runs, pages * page, is_recording(connection))

    def events(self, run: int) -> list[Event]:
        """The events of a run, in order; those of an interrupted one stop somewhere."""
        with self._open() as connection:
            known = connection.execute("SELECT 1 FROM runs WHERE id = ?", (run,)).fetchone()
            chunks = connection.execute("SELECT events FROM chunks WHERE run = ? ORDER BY number", (run,)).fetchall()
        if known is None:
            raise ConfigError(f"there is no run {run} in {self.path}")
        try:
            return [event for (chunk,) in chunks for event in unpack(chunk)]
        except ValueError as error:
            raise HistoryError(f"run {run}: {error}") from None

    def turns(self, run: int) -> list[Message]:
        """What was said before the prompt of a conversation's run."""
        with self._open() as connection:
            row = connection.execute("SELECT turns FROM runs WHERE id = ?", (run,)).fetchone()
        if row is None:
            raise ConfigError(f"there is no run {run} in {self.path}")
        return msgspec.json.decode(row[0], type=list[Message])

    def comparison(self, run: int) -> Comparison:
        """A comparison as it was measured."""
        trials = trials_of(self.events(run))
        with self._open() as connection:
            row = connection.execute("SELECT spec, report FROM runs WHERE id = ?", (run,)).fetchone()
        try:
            return read_comparison(row[0], row[1], trials)
        except (msgspec.MsgspecError, zlib.error, ConfigError) as error:
            raise HistoryError(f"comparison {run} cannot be read by this specterm: {error}") from None

    def delete(self, runs: Sequence[int]) -> set[str]:
        """Delete runs; their bytes on disk are overwritten. Returns their prompts, without those that another run
        has too."""
        with self._open() as connection:
            with transaction(connection):
                gone = delete(connection, runs)
            _clean(connection)
        return gone

    def purge(self) -> int:
        """Delete every run, and damaged histories that were moved aside; returns how many runs there were.

        Raises:
            HistoryError: also where the history itself is found to be damaged, and is moved aside.
        """
        with self._open() as connection:
            (runs,) = connection.execute("SELECT count(*) FROM runs").fetchone()
            with transaction(connection):
                connection.execute("DELETE FROM runs")
                if _is_indexed(connection):  # deleted rows leave their words in the index until it is merged
                    connection.execute("INSERT INTO texts (texts) VALUES ('optimize')")
            with suppress(sqlite3.OperationalError):  # another process reads just now; the pages are empty all the same
                connection.execute("VACUUM")
            _clean(connection)
        for aside in self._folder.glob(f"{FILE_NAME}.corrupt-*"):
            aside.unlink(missing_ok=True)
        return int(runs)

    def set_recording(self, on: bool) -> None:
        """Record runs from the next one on, or do not; this outlasts the session."""
        with self._open() as connection:
            set_recording(connection, on)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        connection, moved = open_database(self._folder)
        try:
            with closing(connection):
                if moved is not None:
                    raise HistoryError(told_moved(moved))
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise failure(error, self.path) from None


def _clean(connection: sqlite3.Connection) -> None:
    """Take what was deleted out of the write-ahead log too."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def _where(connection: sqlite3.Connection, query: Query, living: frozenset[int]) -> tuple[str, list[Any]]:
    parts, values = ["1"], []
    for column, word in (("method", query.method), ("models", query.model)):
        if word:
            parts.append(f"{column} LIKE ? ESCAPE '\\'")
            values.append(_like(word))
    if query.state:
        states = [_has_state(state, living) for state in STATES if query.state.lower() in state]
        parts.append(f"({' OR '.join(states) or '0'})")
    if query.text and len(query.text) >= _INDEXED and _is_indexed(connection):
        parts.append("id IN (SELECT rowid FROM texts WHERE texts MATCH ?)")
        values.append('"' + query.text.replace('"', '""') + '"')
    elif query.text:
        parts.append("id IN (SELECT rowid FROM texts WHERE prompt LIKE ? ESCAPE '\\' OR output LIKE ? ESCAPE '\\')")
        values += [_like(query.text)] * 2
    return " AND ".join(parts), values


def _has_state(state: str, living: frozenset[int]) -> str:
    pids = ",".join(map(str, living))
    match state:
        case "running":
            return f"(reason IS NULL AND pid IN ({pids}))"
        case "interrupted":
            return f"(reason IS NULL AND pid NOT IN ({pids}))"
        case _:
            return f"reason = '{state}'"


def _like(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _is_indexed(connection: sqlite3.Connection) -> bool:
    (sql,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'texts'").fetchone()
    return "fts5" in sql


def _entry(row: tuple[Any, ...], living: frozenset[int]) -> Entry:
    run, started, finished, reason, method, models, prompt, measured, pid, figures, written, kind, verdict = row
    state = reason or ("running" if pid in living else "interrupted")
    told = msgspec.json.decode(figures, type=dict[str, Figure])
    entry = Entry(
        run, started, finished, state, method, models, prompt, bool(measured), told, kind=kind, verdict=verdict
    )
    if kind == "comparison":  # each of its methods has a rule
        return entry
    spec = msgspec.json.decode(written)
    rule = spec.get("sampling", {}).get("acceptance", "")
    return replace(entry, acceptance=rule, lossless=lossless(spec), lossless_reason=lossless_reason(spec))


def _living(connection: sqlite3.Connection) -> frozenset[int]:
    """The processes that may still be recording a run: those that live and are older than it."""
    rows = connection.execute("SELECT pid, max(started_at) FROM runs WHERE reason IS NULL GROUP BY pid").fetchall()
    return frozenset(pid for pid, started_at in rows if pid == os.getpid() or _lives(pid, started_at))


def _lives(pid: int, since: float) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).create_time() <= since)
    except psutil.Error:
        return False
