"""The events of the last run, kept so that it can be saved."""

from __future__ import annotations

from collections.abc import Iterator

from specterm.events import Event
from specterm.recording import pack, recorded, unpack

_CHUNK = 128


class RunEvents:
    """The events of one run, packed as they come, so that a long one costs little and the collector nothing."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._latest: list[Event] = []

    def observe(self, event: Event) -> None:
        """Keep an event."""
        if recorded(event):
            self._latest.append(event)
            if len(self._latest) >= _CHUNK:
                try:
                    self._chunks.append(pack(self._latest))
                except UnicodeEncodeError:  # a lone surrogate: these few stay as they are, the next are tried again
                    return
                self._latest = []

    def __iter__(self) -> Iterator[Event]:
        for chunk in tuple(self._chunks):
            yield from unpack(chunk)
        yield from tuple(self._latest)
