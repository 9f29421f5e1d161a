"""A stored run as a file: JSON with the keys of --json, Markdown, plain text, or a recording that can be replayed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from specterm.errors import ConfigError
from specterm.events import Event, RowStarted, RunStarted
from specterm.history.archive import Archive, Entry
from specterm.metrics import RowResult, row_results
from specterm.recording import as_line, header, recorded
from specterm.report.figures import COLUMNS, NOT_MEASURED
from specterm.report.markdown import table
from specterm.report.writing import WRITERS as REPORT_FORMATS
from specterm.report.writing import write_whole


def export(archive: Archive, run: int, path: Path) -> None:
    """Write a run to `path`, in the format of its suffix; a comparison as its report.

    Raises:
        ConfigError: the suffix is none of `FORMATS` (of a comparison: of the report's), the file cannot be written, or
            there is no such run.
        HistoryError: the history cannot be read.
    """
    entry = archive.entry(run)
    formats: Iterable[str] = FORMATS if entry.kind == "run" else REPORT_FORMATS
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in formats:
        raise ConfigError(f"{path.name!r} has no known format; end the name in .{', .'.join(formats)}")
    if entry.kind == "run":
        text = FORMATS[suffix](entry, archive.events(run))
    else:
        text = REPORT_FORMATS[suffix](archive.comparison(run).document)
    try:
        write_whole(path.expanduser(), text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from None


def _as_json(entry: Entry, events: Sequence[Event]) -> str:
    started = next((event for event in events if isinstance(event, RunStarted)), None)
    document = {
        "complete": entry.state == "done",
        "state": entry.state,
        "measured": entry.measured,
        "started_at": _iso(entry.started_at),
        "environment": started.environment if started else {},
        "spec": started.spec if started else {},
        "runs": row_results(events),
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def _as_text(entry: Entry, events: Sequence[Event]) -> str:
    texts = [prompt + result.text for prompt, result in _rows(events)]
    return "\n\n".join(texts) + "\n"


def _as_markdown(entry: Entry, events: Sequence[Event]) -> str:
    kind = "measured" if entry.measured else "live: taken while the screen was painted"
    parts = [
        f"# specterm run {entry.id}",
        f"{_iso(entry.started_at)}, {entry.method}, {entry.models}; {entry.state}; figures are {kind}.",
    ]
    for prompt, result in _rows(events):
        columns = [column for column in COLUMNS if result.metrics[column.key] is not None]
        rows = [[column.title, column.text(result.metrics[column.key])] for column in columns]
        parts += [
            "## Prompt",
            _fenced(prompt),
            "## Output",
            _fenced(result.text),
            "## Figures",
            table(["figure", "value"], rows) if rows else NOT_MEASURED,
        ]
    return "\n\n".join(parts) + "\n"


def _as_recording(entry: Entry, events: Sequence[Event]) -> str:
    lines = [header(), *(as_line(event) for event in events if recorded(event))]
    return b"".join(lines).decode()


FORMATS: dict[str, Callable[[Entry, Sequence[Event]], str]] = {
    "json": _as_json,
    "md": _as_markdown,
    "txt": _as_text,
    "jsonl": _as_recording,
}
"""The formats by their suffix."""


def _rows(events: Sequence[Event]) -> list[tuple[str, RowResult]]:
    prompts = [event.prompt for event in events if isinstance(event, RowStarted)]
    return list(zip(prompts, row_results(events), strict=True))


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _fenced(text: str) -> str:
    """Model text as a code block that it cannot end itself."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"
