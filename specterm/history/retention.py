"""How many runs are kept: the oldest go first."""

from __future__ import annotations

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


def trim(connection: sqlite3.Connection, limit: int) -> None:
    """Delete the oldest runs until `limit` are left. Their prompts stay in the prompt history, which has a bound of its
    own."""
    connection.execute(f"DELETE FROM runs WHERE id IN ({_OLDEST})", (limit,))
