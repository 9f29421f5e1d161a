"""How many runs are kept (the oldest go first), and what goes with a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from specterm.catalogue.parameter import Parameter

if TYPE_CHECKING:
    import sqlite3

DEFAULT_LIMIT = 2000
"""A run of a hundred tokens takes some 10 kB."""

LIMIT = Parameter(
    "history_limit",
    "int",
    DEFAULT_LIMIT,
    "How many runs and comparisons the history keeps; beyond that the oldest go.",
    minimum=1,
    maximum=1_000_000,
)
"""As an option of the command line and the configuration file."""


def checked_limit(value: Any) -> int:
    """A limit as it was given.

    Raises:
        ConfigError: it is no whole number within the bounds.
    """
    found = LIMIT.check(value)
    assert isinstance(found, int)
    return found


_OLDEST = "SELECT id FROM runs ORDER BY id DESC LIMIT -1 OFFSET ?"


def trim(connection: sqlite3.Connection, limit: int) -> set[str]:
    """Delete the oldest runs until `limit` are left; returns what `delete` does."""
    return delete(connection, [run for (run,) in connection.execute(_OLDEST, (limit,))])


def delete(connection: sqlite3.Connection, runs: Iterable[int]) -> set[str]:
    """Delete runs. Returns their prompts, without those that another run has too."""
    ids = [(run,) for run in runs]
    texts = "SELECT prompt FROM texts WHERE rowid = ?"
    prompts = {row[0] for run in ids for row in connection.execute(texts, run)}
    connection.executemany("DELETE FROM runs WHERE id = ?", ids)
    others = "SELECT 1 FROM texts WHERE prompt = ? LIMIT 1"
    return {prompt for prompt in prompts if connection.execute(others, (prompt,)).fetchone() is None}
