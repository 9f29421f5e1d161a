"""The log: what the program did and what went wrong, one line an entry, in a file that does not grow without end.

Prompts and outputs are written to it at the level debug only. A log that cannot be written is no reason to disturb
anybody: then there is none.
"""

from __future__ import annotations

import logging
import os
from logging.handlers import RotatingFileHandler
from pathlib import Path

from specterm.errors import ConfigError

LEVELS = ("debug", "info", "warning", "error", "off")
DEFAULT_LEVEL = "info"
MAX_BYTES = 1_000_000
OLDER_FILES = 3

_ROOT = "specterm"


def start_log(path: Path, level: str) -> None:
    """Write what loggers below "specterm" say, from `level` on, to `path`, which its owner alone can read.

    Raises:
        ConfigError: there is no such level.
    """
    if level not in LEVELS:
        raise ConfigError(f"--log-level is {level!r}; it must be one of {', '.join(LEVELS)}")
    stop_log()
    logger = logging.getLogger(_ROOT)
    logger.propagate = False
    if level == "off":
        logger.setLevel(logging.CRITICAL + 1)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        handler = RotatingFileHandler(path, maxBytes=MAX_BYTES, backupCount=OLDER_FILES, encoding="utf-8", delay=True)
    except OSError:
        return
    handler.setFormatter(_OneLine("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"))
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # the disk is full, say
    logger.setLevel(level.upper())
    logger.addHandler(handler)


def stop_log() -> None:
    """Close the file; the loggers are as nobody started a log."""
    logger = logging.getLogger(_ROOT)
    logger.propagate = True
    logger.setLevel(logging.NOTSET)
    for handler in tuple(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


class _OneLine(logging.Formatter):
    """An entry is one line, whatever stands in it; the lines of a traceback follow, indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        text = super().formatMessage(record)
        return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)

    def formatException(self, ei: object) -> str:  # noqa: N802
        return "    " + super().formatException(ei).replace("\n", "\n    ")  # type: ignore[arg-type]
