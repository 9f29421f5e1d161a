"""How far the loading of models is: bytes of weights read, of all there are to read."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

Report: TypeAlias = Callable[[str, float | None], None]
"""Told a stage and how far the whole load is, 0 to 1 (None: not known). It may raise to stop the load."""


def unreported(stage: str, fraction: float | None) -> None:
    """A `Report` that nobody reads."""


class LoadMeter:
    """Counts the bytes that are read of several models, one after the other, and reports the share of the whole."""

    def __init__(self, report: Report, total: int) -> None:
        """`total`: bytes of all weight files."""
        self._report, self._total = report, max(1, total)
        self._done = self._before = self._size = 0
        self._stage = ""

    def begin(self, stage: str, size: int) -> None:
        """A model of `size` bytes is next; those before it are read."""
        self._done = self._before = self._before + self._size
        self._size, self._stage = size, stage
        self.advance(0)

    def advance(self, count: int) -> None:
        """`count` bytes of the model were read."""
        self._done = min(self._done + count, self._before + self._size)
        self._report(self._stage, self._done / self._total)

    @contextmanager
    def watching_transformers(self) -> Iterator[None]:
        """Meanwhile, count the weights that transformers reads: by number, since it does not tell their sizes."""
        from transformers.utils import logging

        size = self._size

        def hook(factory: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
            if options.get("desc") == "Loading weights" and args:
                return told(args[0])
            return factory(*args, **options)

        def told(items: Any) -> Iterator[Any]:
            for item in items:
                self.advance(size // len(items))
                yield item

        previous = logging.set_tqdm_hook(hook)
        try:
            yield
        finally:
            logging.set_tqdm_hook(previous)


def download_bar(report: Report, stage: str) -> type[Any]:
    """A class of progress bars for huggingface_hub that paints nothing and tells `report` the bytes fetched."""
    from tqdm.std import tqdm  # type: ignore[import-untyped]

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)  # huggingface_hub's own
            super().__init__(*args, **{**options, "file": io.StringIO(), "disable": False})

        def display(self, *args: Any, **options: Any) -> None:
            """Paint nothing."""

        def update(self, n: float | None = 1) -> bool | None:
            done: bool | None = super().update(n)
            report(stage, min(1.0, self.n / self.total) if self.unit == "B" and self.total else None)
            return done

    return Bar
