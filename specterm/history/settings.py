"""Whether runs are recorded: kept in the database itself, so that every process and every later session heeds it."""

from __future__ import annotations

import sqlite3


def is_recording(connection: sqlite3.Connection) -> bool:
    """Whether runs are to be recorded; they are until someone switches it off."""
    row = connection.execute("SELECT value FROM settings WHERE name = 'recording'").fetchone()
    return row is None or row[0] == "on"


def set_recording(connection: sqlite3.Connection, on: bool) -> None:
    """Record runs from the next one on, or do not."""
    connection.execute("INSERT OR REPLACE INTO settings VALUES ('recording', ?)", ("on" if on else "off",))
