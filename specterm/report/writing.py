"""Reports on disk: checked before anything is loaded, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from specterm.errors import ConfigError
from specterm.report.csv_table import as_csv
from specterm.report.document import Document, as_json
from specterm.report.html import as_html
from specterm.report.markdown import as_markdown

WRITERS: dict[str, Callable[[Document], str]] = {"json": as_json, "csv": as_csv, "md": as_markdown, "html": as_html}


def prepare_folder(folder: Path) -> None:
    """Make `folder` and prove that files can be written into it.

    Raises:
        ConfigError: it is no folder, or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except FileExistsError:
        raise ConfigError(f"--out is {str(folder)!r}, which is a file; name a folder") from None
    except OSError as error:
        raise ConfigError(f"--out is {str(folder)!r}, which cannot be written: {error.strerror or error}") from None


def write_reports(document: Document, folder: Path, formats: Sequence[str]) -> list[Path]:
    """Write `report.<format>` for each format; an older report is replaced at once, never left half written.

    Raises:
        ConfigError: a file cannot be written (the disk is full, say).
    """
    paths = []
    for name in formats:
        path = folder / f"report.{name}"
        try:
            write_whole(path, WRITERS[name](document))
        except OSError as error:
            raise ConfigError(f"the report {path} cannot be written: {error.strerror or error}") from None
        paths.append(path)
    return paths


def write_whole(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace `path` by a file with `text`, so that a reader sees the old file or the new one."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
