"""The app's side of the run history: it feeds the recorder from the drain, and makes the screen of stored runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual.app import App

from specterm.config import Message, PlanSpec, Request, RunSpec
from specterm.events import Event, RowFinished, RowStarted, RunFinished, RunStarted
from specterm.tui.memory import Memory

if TYPE_CHECKING:
    from specterm.history.archive import Entry
    from specterm.history.recorder import ComparisonRecording, Recorder, RunRecording


CLOSE_TIMEOUT_S = 0.7


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A stored run to be shown; `speed` as in `ReplayEngine`. `turns` were said before its prompt."""

    entry: Entry
    events: Sequence[Event]
    speed: float | None
    turns: Sequence[Message] = ()

    @property
    def title(self) -> str:
        """A line above its text."""
        when = datetime.fromtimestamp(self.entry.started_at)
        return f"Run {self.entry.id}, {when:%Y-%m-%d %H:%M}, {self.entry.method}: from the history"

    @property
    def _spec(self) -> Mapping[str, Any]:
        return next((event.spec for event in self.events if isinstance(event, RunStarted)), {})

    @property
    def conversation(self) -> bool:
        """Whether its prompt was asked as a turn."""
        return bool(self._spec.get("chat"))

    @property
    def system(self) -> str:
        """The system prompt of the conversation."""
        return str(self._spec.get("system", ""))

    @property
    def target(self) -> str:
        """The target model, as it was named."""
        return str(self._spec.get("model", {}).get("target", ""))

    @property
    def prompt(self) -> str:
        """The prompt in full."""
        return next((event.prompt for event in self.events if isinstance(event, RowStarted)), self.entry.prompt)

    @property
    def answer(self) -> str | None:
        """The output; None where there is none."""
        return next((event.text or None for event in self.events if isinstance(event, RowFinished)), None)


class RunHistory:
    """Stores each run of `app` in `folder`, and its prompt in `memory`; None stores nothing. At most `limit` runs are
    kept. `forgotten` is told prompts of which the last run was deleted, and None where all were. Nothing of the history
    is imported before the first run."""

    def __init__(
        self,
        app: App[None],
        folder: Path | None,
        memory: Memory,
        limit: int,
        forgotten: Callable[[Collection[str] | None], None],
    ) -> None:
        self._app, self._folder, self._memory, self._limit = app, folder, memory, limit
        self._forgotten = forgotten
        self._recorder: Recorder | None = None
        self._recording: RunRecording | None = None

    def begin(self, spec: RunSpec, request: Request, *, measured: bool) -> None:
        """The next events are those of a new run."""
        if (recorder := self._started()) is not None:
            self._recording = recorder.begin(spec, request.prompt, turns=request.turns, measured=measured)

    def begin_comparison(self, plan: PlanSpec, requests: Sequence[Request]) -> ComparisonRecording | None:
        """Where the trials of a comparison go; None where nothing is stored."""
        recorder = self._started()
        return None if recorder is None else recorder.begin_comparison(plan, requests)

    def _started(self) -> Recorder | None:
        if self._recorder is None and self._folder is not None:
            from specterm.history.recorder import Recorder

            self._recorder = Recorder(
                self._folder,
                self._report,
                stored=self._memory.add_prompt,
                forgotten=self._forget_trimmed,
                limit=self._limit,
            )
        return self._recorder

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

        self._app.push_screen(HistoryScreen(Archive(self._folder), self._forget), show)

    def _forget(self, prompts: Collection[str] | None) -> None:
        """Forget prompts; None: all."""
        self._memory.forget_prompts(prompts)
        self._forgotten(prompts)

    def _forget_trimmed(self, prompts: Collection[str]) -> None:
        """Forget the prompts of runs that were beyond the limit, on the recorder's thread, as they are remembered."""
        self._memory.forget_prompts(prompts)
        self._app.call_later(self._forgotten, prompts)

    def close(self) -> None:
        """Write what is waiting, as far as the disk takes it in a moment."""
        if self._recorder is not None:
            self._recorder.close(CLOSE_TIMEOUT_S)

    def _report(self, text: str) -> None:
        """Say what the recorder's thread found wrong, on the app's."""
        self._app.call_later(self._app.notify, text, title="History", severity="warning", markup=False)
