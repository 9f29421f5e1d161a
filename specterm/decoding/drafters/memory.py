"""What drafters have learned and keep from run to run."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar, cast

T = TypeVar("T")


class DraftMemory:
    """The learned memory of one pair of models: it is made when they are loaded and goes when they go.

    `lasting` is False for the memory of a single run, which leaves nothing behind: nothing of it is written to a file.
    """

    def __init__(self, lasting: bool = True) -> None:
        self.lasting = lasting
        self._kept: dict[Hashable, object] = {}

    def recall(self, key: Hashable, make: Callable[[], T]) -> T:
        """What is kept under `key`; made at the first call. A key belongs to one type."""
        if key not in self._kept:
            self._kept[key] = make()
        return cast(T, self._kept[key])
