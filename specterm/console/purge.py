"""`--purge-history`: every stored run and every remembered prompt is deleted, after a question."""

from __future__ import annotations

import sys
from pathlib import Path

from specterm.errors import ConfigError, ExitCode
from specterm.history.archive import Archive
from specterm.history.database import FILE_NAME


def purge_history(folder: Path, prompts: Path, *, ask: bool) -> ExitCode:
    """Delete every run of the history in `folder` and the file `prompts`; with `ask` only after a yes on the terminal.

    Raises:
        ConfigError: there is nobody to ask.
        HistoryError: the history cannot be used.
    """
    if not (folder / FILE_NAME).exists():
        prompts.unlink(missing_ok=True)
        print(f"there is no history in {folder}")
        return ExitCode.OK
    archive = Archive(folder)
    runs = archive.standing().runs
    if ask:
        if sys.stdin is None or not sys.stdin.isatty():
            raise ConfigError("--purge-history asks first and standard input is no terminal; add --yes")
        print(f"delete all stored runs in {archive.path} ({runs})? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            print("nothing was deleted", file=sys.stderr)
            return ExitCode.OK
    deleted = archive.purge()
    prompts.unlink(missing_ok=True)
    print(f"runs deleted from {archive.path}: {deleted}")
    return ExitCode.OK
