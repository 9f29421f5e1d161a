"""The database file: its place, its schema and its versions, and what can be wrong with it, in words.

WAL mode: readers and the one writer of a process do not wait for each other, a commit survives the death of the
process, and two processes take turns within the busy timeout. `user_version` is the version of the schema.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from specterm.errors import SpectermError

FILE_NAME = "history.db"
BUSY_TIMEOUT_S = 5.0
RETRY_S = 0.01

Connect: TypeAlias = Callable[[Path], sqlite3.Connection]

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE runs (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            started_at REAL NOT NULL,
            finished_at REAL,
            reason TEXT,
            method TEXT NOT NULL,
            models TEXT NOT NULL,
            prompt TEXT NOT NULL,
            spec TEXT NOT NULL,
            measured INTEGER NOT NULL,
            pid INTEGER NOT NULL,
            figures TEXT NOT NULL DEFAULT '{}'
        )""",
        """CREATE TABLE chunks (
            run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
            number INTEGER NOT NULL,
            events BLOB NOT NULL,
            PRIMARY KEY (run, number)
        )""",
        "CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
        "TEXTS",
        "CREATE TRIGGER forget_texts AFTER DELETE ON runs BEGIN DELETE FROM texts WHERE rowid = old.id; END",
    ),
    (
        "ALTER TABLE runs ADD COLUMN kind TEXT NOT NULL DEFAULT 'run'",
        "ALTER TABLE runs ADD COLUMN turns TEXT NOT NULL DEFAULT '[]'",
        "ALTER TABLE runs ADD COLUMN report BLOB",
        "ALTER TABLE runs ADD COLUMN verdict TEXT NOT NULL DEFAULT ''",
    ),
)
"""One step a version, each a tuple of statements; a step is never changed once it was released. Times in `runs` are
seconds since the epoch; `reason` is None until the run ends; `texts` has the run's id as its rowid. A line whose `kind`
is comparison has one trial in each of its chunks, and at its end its report (JSON, deflated) with the verdict of that;
`turns` are what was said before the prompt of a conversation's run."""

_TEXTS = (
    "CREATE VIRTUAL TABLE texts USING fts5(prompt, output, tokenize = 'trigram')",
    "CREATE TABLE texts (prompt TEXT, output TEXT)",  # a SQLite without FTS5: the same table, searched from end to end
)


class HistoryError(SpectermError):
    """The history cannot be read or written; the text says why and what to do."""


def connect(path: Path) -> sqlite3.Connection:
    """A connection to the file, made if need be; no schema yet. Usable from any thread, one at a time."""
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # SQLite gives its side files the same rights
    connection = sqlite3.connect(path, BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        _use_wal(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    """Put a new file into WAL mode, in which it then stays. While another connection writes, SQLite refuses this change
    at once, where a transaction would wait: of two programs that begin a history together one would fail."""
    give_up = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
        time.sleep(RETRY_S)


def open_database(folder: Path, connect: Connect = connect) -> tuple[sqlite3.Connection, Path | None]:
    """A connection to the history of `folder`, with the schema of this version; and where a corrupt file that stood
    in the way was moved to.

    Raises:
        HistoryError: it cannot be opened or made; the text says why.
    """
    path = folder / FILE_NAME
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            return _opened(path, connect), None
        except sqlite3.DatabaseError as error:
            if not is_corrupt(error):
                raise
        moved = _move_aside(path)
        return _opened(path, connect), moved
    except (sqlite3.Error, OSError) as error:
        raise failure(error, path) from None


def _opened(path: Path, connect: Connect) -> sqlite3.Connection:
    connection = connect(path)
    try:
        migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the schema to this version, all steps or none.

    Raises:
        HistoryError: a newer version made the file.
    """
    if _version(connection) == len(MIGRATIONS):
        return
    with transaction(connection):
        found = _version(connection)  # another process may have been quicker
        if found > len(MIGRATIONS):
            raise HistoryError(
                f"the history {path} has version {found} and this specterm knows {len(MIGRATIONS)}; update specterm, "
                "or set SPECTERM_DATA_DIR to another folder"
            )
        for statements in MIGRATIONS[found:]:
            for statement in statements:
                if statement == "TEXTS":
                    _create_texts(connection)
                else:
                    connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _create_texts(connection: sqlite3.Connection) -> None:
    indexed, plain = _TEXTS
    try:
        connection.execute(indexed)
    except sqlite3.OperationalError:
        connection.execute(plain)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Everything in the block, or nothing of it; waits for another writer at most for the busy timeout."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def is_corrupt(error: sqlite3.Error) -> bool:
    """Whether the file is no database or a broken one (and not locked, full or read-only)."""
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _move_aside(path: Path) -> Path:
    """Rename a corrupt database and its side files, which are never deleted; returns the new name."""
    stamp = time.strftime("%Y%m%dT%H%M%S")
    target = path.with_name(f"{path.name}.corrupt-{stamp}-{os.getpid()}")
    for suffix in ("-wal", "-shm", ""):
        side = path.with_name(path.name + suffix)
        if side.exists():
            side.replace(target.with_name(target.name + suffix))
    return target


def told_moved(moved: Path) -> str:
    """What to say where a corrupt file was moved aside."""
    return f"the run history was damaged and is now {moved}; a new one is begun"


def failure(error: sqlite3.Error | OSError, path: Path) -> HistoryError:
    """What a failed read or write comes to; a corrupt file is moved aside. Close the connection first."""
    if isinstance(error, sqlite3.Error) and is_corrupt(error):
        return HistoryError(told_moved(_move_aside(path)))
    return HistoryError(_explain(error, path))


def _explain(error: sqlite3.Error | OSError, path: Path) -> str:
    """What is wrong with the history, and what to do, in one line."""
    if isinstance(error, OSError):
        return (
            f"the history {path} cannot be used: {error.strerror or error}; set SPECTERM_DATA_DIR to a folder that can"
        )
    match _code(error):
        case sqlite3.SQLITE_FULL:
            return f"there is no room for the history in {path.parent}; make room there, or delete runs"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return (
                f"the history {path} cannot be written ({error}); give yourself the right to write there, or set "
                "SPECTERM_DATA_DIR to another folder"
            )
        case sqlite3.SQLITE_IOERR:
            return (
                f"the history {path} cannot be written ({error}); see whether its disk is full, or set "
                "SPECTERM_DATA_DIR to another folder"
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return f"the history {path} is held by another program; close it"
        case _:
            return f"the history {path} cannot be used: {error}"


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
