"""The app's side of the run history: it feeds the recorder from the drain, and makes the screen of stored runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import App

from specterm.config import RunSpec
from specterm.events import Event, RunFinished
from specterm.tui.memory import Memory

if TYPE_CHECKING:
    from specterm.history.archive import Entry
    from specterm.history.recorder import Recorder, RunRecording


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A stored run to be shown; `speed` as in `ReplayEngine`."""

    entry: Entry
    events: Sequence[Event]
    speed: float | None

    @property
    def title(self) -> str:
        """A line above its text."""
        when = datetime.fromtimestamp(self.entry.started_at)
        return f"Run {self.entry.id}, {when:%Y-%m-%d %H:%M}, {self.entry.method}: from the history"


class RunHistory:
    """Stores each run of `app` in `folder`, and its prompt in `memory`; None stores nothing. Nothing of the history is
    imported before the first run."""

    def __init__(self, app: App[None], folder: Path | None, memory: Memory) -> None:
        self._app, self._folder, self._memory = app, folder, memory
        self._recorder: Recorder | None = None
        self._recording: RunRecording | None = None

    def begin(self, spec: RunSpec, prompt: str, *, measured: bool) -> None:
        """The next events are those of a new run."""
        if self._folder is None:
            return
        if self._recorder is None:
            from specterm.history.recorder import Recorder

            self._recorder = Recorder(self._folder, self._report, stored=self._memory.add_prompt)
        self._recording = self._recorder.begin(spec, prompt, measured=measured)

    def observe(self, event: Event) -> None:
        """Store an event of the run; without a run that was begun, nothing."""
        if self._recording is not None:
            self._recording.observe(event)
            if isinstance(event, RunFinished):
                self._recording = None

    def open(self, show: Callable[[StoredRun | None], None]) -> None:
        """Open the screen of stored runs; `show` is told which one is to be shown, or None."""
        if self._folder is None:
            why = "this session stores no runs; start without --no-history to see the others"
            self._app.notify(why, title="History")
            return
        from specterm.history.archive import Archive
        from specterm.tui.screens.history import HistoryScreen

        self._app.push_screen(HistoryScreen(Archive(self._folder), self._memory), show)

    def close(self) -> None:
        """Write what is waiting."""
        if self._recorder is not None:
            self._recorder.close()

    def _report(self, text: str) -> None:
        """Say what the recorder's thread found wrong, on the app's."""
        self._app.call_later(self._app.notify, text, title="History", severity="warning", markup=False)
