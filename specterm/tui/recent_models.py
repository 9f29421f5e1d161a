"""The models that were loaded last, in a small file of the user's state folder."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from specterm.config import ModelSpec

_KEPT = 12
_FILE = "recent-models.json"


class RecentModels:
    """The last specs that were loaded, the newest first. In `folder`; None remembers them for this session only.

    A file that cannot be read counts as empty, and one that cannot be written as written: this is a convenience.
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / _FILE
        self._specs: tuple[ModelSpec, ...] | None = None

    @property
    def specs(self) -> tuple[ModelSpec, ...]:
        """What was loaded."""
        if self._specs is None:
            self._specs = ()
            if self._path is not None:
                with contextlib.suppress(OSError, msgspec.DecodeError):
                    self._specs = msgspec.json.decode(self._path.read_bytes(), type=tuple[ModelSpec, ...])
        return self._specs

    def add(self, spec: ModelSpec) -> None:
        """`spec` was loaded."""
        self._specs = (spec, *(other for other in self.specs if other != spec))[:_KEPT]
        if self._path is None:
            return
        with contextlib.suppress(OSError, UnicodeEncodeError):  # a name that is no Unicode
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new = self._path.with_suffix(f".{os.getpid()}")
            new.write_bytes(msgspec.json.format(msgspec.json.encode(self._specs)))
            new.replace(self._path)
