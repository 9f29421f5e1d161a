"""Where specterm keeps its files: what a person writes, and what the program itself writes."""

from __future__ import annotations

import os
from pathlib import Path

_NAMED_BY = {
    "config": "SPECTERM_CONFIG",
    "data": "SPECTERM_DATA_DIR",
    "state": "SPECTERM_STATE_DIR",
    "log": "SPECTERM_LOG_DIR",
    "cache": "SPECTERM_CACHE_DIR",
}
VARIABLES = frozenset(_NAMED_BY.values())
"""The environment variables that name another place."""


PROMPTS_FILE = "prompts.jsonl"
"""Earlier prompts, in the state folder."""


def config_file() -> Path:
    """The configuration file; it need not exist."""
    return _named("config") or _platform("config") / "config.toml"


def themes_folder() -> Path:
    """Where a person's own themes lie."""
    return _platform("config") / "themes"


def prompts_folder() -> Path:
    """Where a person's own files of prompts lie."""
    return _platform("config") / "prompts"


def data_folder() -> Path:
    """Where the run history lies. It is not made here."""
    return _named("data") or _platform("data")


def state_folder() -> Path:
    """Where the program keeps what it remembers from session to session. It is not made here."""
    return _named("state") or _platform("state")


def log_file() -> Path:
    """The log. Its folder is not made here."""
    return (_named("log") or _platform("log")) / "specterm.log"


def cache_folder() -> Path:
    """Where the program keeps what it can make again: compiled kernels. It is not made here."""
    return _named("cache") or _platform("cache")


def all_places() -> dict[str, Path]:
    """Every place by name, in the order in which they are told."""
    return {
        "config": config_file(),
        "themes": themes_folder(),
        "prompts": prompts_folder(),
        "data": data_folder(),
        "state": state_folder(),
        "log": log_file(),
        "cache": cache_folder(),
    }


def _named(kind: str) -> Path | None:
    named = os.environ.get(_NAMED_BY[kind])
    return Path(named).expanduser() if named else None


def _platform(kind: str) -> Path:
    import platformdirs

    folder: Path = getattr(platformdirs, f"user_{kind}_path")("specterm", appauthor=False)
    return folder
