"""Choosing other models while the workbench is open: the picker, and what became of the choice."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from textual.app import App

from specterm.config import ModelSpec
from specterm.events import DeviceReading, Event, Loaded, RunFinished
from specterm.tui.recent_models import RecentModels


class ModelChoice:
    """The models of `app`. Those that were loaded last are kept in the folder `state` (None: for this session)."""

    def __init__(self, app: App[None], spec: ModelSpec, state: Path | None) -> None:
        self._app = app
        self._recent = RecentModels(state)
        self._asked = spec
        self._shown = False
        self.spec = spec
        """What runs use: the last choice that could be loaded."""

    def open(self, readings: Sequence[DeviceReading], load: Callable[[ModelSpec], None]) -> None:
        """Open the picker, and `load` what is chosen."""
        from specterm.tui.screens.models import ModelsScreen

        def chosen(spec: ModelSpec | None) -> None:
            if spec is not None:
                self._asked, self._shown = spec, False
                load(spec)

        screen = ModelsScreen(self._asked, self._recent.specs, found_devices(readings), Path.cwd())
        self._app.push_screen(screen, chosen)

    def observe(self, event: Event) -> str | None:
        """Take in an event of the load. At its end `spec` is what the runs that follow use, and a line is returned that
        says so, empty where everything went as it should; before, None."""
        if isinstance(event, Loaded):
            self._shown = True
        if not isinstance(event, RunFinished):
            return None
        if event.reason == "done":
            self.spec = self._asked
            self._recent.add(self.spec)
            return ""
        if self._asked == self.spec:
            return ""
        if self._shown:
            return f"{self.spec.target} is still loaded, and the next run uses it."
        return f"{self.spec.target} had to make room; the next run loads it again."


def found_devices(readings: Sequence[DeviceReading]) -> list[str]:
    """The devices of this machine by the names that --device takes, without "auto" and "cpu"."""
    gpus = [reading.device.replace("gpu", "cuda") for reading in readings if reading.device.startswith("gpu:")]
    return gpus or (["mps"] if sys.platform == "darwin" else [])
