"""Events on disk: packed chunks for the run history, and recordings, files that hold one run.

A recording is JSON Lines in UTF-8: line 1 says what it is (`{"specterm_recording": 1}`, the number is the version of
the format), each other line is one event as `{"<its class>": {<its fields>}}`. `LoadProgress` is not recorded: loading
is no part of a run. A chunk is the same pairs as MessagePack, deflated.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, get_args

import msgspec

from specterm.errors import ConfigError
from specterm.events import Event, LoadProgress

FORMAT_VERSION = 1

_HEADER = "specterm_recording"
_KINDS: dict[str, Any] = {kind.__name__: kind for kind in get_args(Event)}
_FROM_JSON = {name: msgspec.json.Decoder(kind) for name, kind in _KINDS.items()}
_FROM_MSGPACK = {name: msgspec.msgpack.Decoder(kind) for name, kind in _KINDS.items()}
_LINE = msgspec.json.Decoder(dict[str, msgspec.Raw])
_CHUNK = msgspec.msgpack.Decoder(list[tuple[str, msgspec.Raw]])
_TO_JSON = msgspec.json.Encoder()
_TO_MSGPACK = msgspec.msgpack.Encoder()
_LEVEL = 1  # deflate at its fastest: the key names of every event fold away at any level


def recorded(event: Event) -> bool:
    """Whether an event belongs into a recording."""
    return not isinstance(event, LoadProgress)


def pack(events: Iterable[Event]) -> bytes:
    """Events as one chunk.

    Raises:
        UnicodeEncodeError: a text in them is not Unicode (a lone surrogate).
    """
    return zlib.compress(_TO_MSGPACK.encode([(type(event).__name__, event) for event in events]), _LEVEL)


def unpack(chunk: bytes) -> list[Event]:
    """The events of a chunk.

    Raises:
        ValueError: the chunk is damaged, or of a kind of event that this version does not know.
    """
    try:
        return [_FROM_MSGPACK[kind].decode(raw) for kind, raw in _CHUNK.decode(zlib.decompress(chunk))]
    except (zlib.error, msgspec.MsgspecError, KeyError) as error:
        raise ValueError(f"the stored events cannot be read: {error}") from None


def as_line(event: Event) -> bytes:
    """An event as one line of a recording."""
    return _TO_JSON.encode({type(event).__name__: event}) + b"\n"


def header() -> bytes:
    """Line 1 of a recording."""
    return _TO_JSON.encode({_HEADER: FORMAT_VERSION}) + b"\n"


class RecordingFile:
    """A recording that is being written, line by line, so that a killed process leaves what it had."""

    def __init__(self, path: Path) -> None:
        """Create or replace the file.

        Raises:
            ConfigError: it cannot be written.
        """
        try:
            self._file = path.open("wb", buffering=0)
            self._file.write(header())
        except OSError as error:
            raise ConfigError(
                f"--record is {str(path)!r}, which cannot be written: {error.strerror or error}"
            ) from None

    def observe(self, event: Event) -> None:
        """Add an event.

        Raises:
            OSError: the disk is full, say.
        """
        if recorded(event):
            self._file.write(as_line(event))

    def __enter__(self) -> RecordingFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def read_recording(path: Path) -> list[Event]:
    """The events of a recording. A last line that was cut off, as by a kill, is left out.

    Raises:
        ConfigError: the file cannot be read, is no recording, is of a newer format or is damaged.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise ConfigError(f"the recording {path} cannot be read: {error.strerror or error}") from None
    _check_header(path, lines[0] if lines else b"")
    events: list[Event] = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            events.append(_event(line))
        except (msgspec.MsgspecError, ValueError) as error:
            if number == len(lines) and not line.endswith(b"\n"):
                break
            raise ConfigError(f"the recording {path} is damaged in line {number}: {error}") from None
    return events


def _check_header(path: Path, line: bytes) -> None:
    try:
        version = msgspec.json.decode(line, type=dict[str, int])[_HEADER]
    except (msgspec.MsgspecError, KeyError, ValueError):
        raise ConfigError(f"{path} is no recording of specterm; --record FILE makes one") from None
    if version != FORMAT_VERSION:
        raise ConfigError(
            f"the recording {path} has format {version} and this specterm reads {FORMAT_VERSION}; use the specterm "
            "that made it"
        )


def _event(line: bytes) -> Event:
    told = _LINE.decode(line)
    if len(told) != 1 or next(iter(told)) not in _FROM_JSON:
        raise ValueError(f"there is no event {', '.join(told) or 'in it'}")
    ((kind, raw),) = told.items()
    event: Event = _FROM_JSON[kind].decode(raw)
    return event
