"""Loading and running: it commands the engine, and hands every event to those that show, count, store and keep it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from textual.app import App
from textual.screen import Screen

from specterm.config import MethodSpec, ModelSpec, RunSpec
from specterm.engine.job import Engine, Job
from specterm.engine.replay import ReplayEngine
from specterm.errors import ConfigError
from specterm.events import DeviceReading, Event, Loaded, LoadProgress, Notice, Prefilled, RowStarted, RunFinished
from specterm.tui.conversation import Conversation
from specterm.tui.jobs import Jobs
from specterm.tui.memory import Memory
from specterm.tui.model_choice import ModelChoice
from specterm.tui.run_figures import RunFigures, RunKind
from specterm.tui.run_history import RunHistory, StoredRun
from specterm.tui.run_output import RunOutput
from specterm.tui.run_record import RunRecord
from specterm.tui.screen_words import advised, on_screen
from specterm.tui.transcript import Transcript
from specterm.tui.widgets.figures import FiguresBar, FiguresPanel
from specterm.tui.widgets.model_bar import ModelBar, Status
from specterm.tui.widgets.prompt_editor import PromptEditor
from specterm.tui.widgets.round_strip import RoundStrip
from specterm.tui.widgets.settings import SettingsPanel
from specterm.tui.widgets.token_store import State
from specterm.tui.widgets.token_stream import TokenStream
from specterm.tui.widgets.visible_text import visible

_log = logging.getLogger(__name__)
_SEVERITY: dict[str, Literal["information", "warning", "error"]] = {
    "info": "information",
    "warning": "warning",
    "error": "error",
}


class RunControl:
    """The runs of `app` on `engine`, with the models of `spec`.

    `begun` is called when a run is to be followed, and `beside` whenever its figures are drawn: what else stands in the
    side column is painted in the same frame then, for a second one costs as much. At most `history_limit` runs are
    stored in the folder `history`, if one is given, and the models that were loaded last in the folder `state`.
    """

    def __init__(
        self,
        app: App[None],
        screen: Screen[None],
        engine: Engine,
        spec: RunSpec,
        begun: Callable[[], None],
        beside: Callable[[], None],
        *,
        history: Path | None,
        history_limit: int,
        state: Path | None,
        memory: Memory,
    ) -> None:
        self._app, self._screen, self._engine, self._spec = app, screen, engine, spec
        self._begun, self._beside = begun, beside
        self.alternatives = spec.trace == "alternatives"
        """Whether the likeliest tokens of target and drafter are recorded, from the next run on."""
        self.jobs = Jobs(screen, self._observe, self._paint)
        self.record = RunRecord()
        self.conversation = Conversation(spec)
        self.choice = ModelChoice(app, spec.model, state)
        self.history = RunHistory(app, history, memory, history_limit, lambda prompts: self._prompt.forget(prompts))
        self.output = RunOutput(app)
        self._loading = Status("loading", "busy")

    def start(self) -> None:
        """The panes of the screen are there now."""
        # Kept, not looked up: a timer may fire while the screen is being taken down.
        self._models = self._screen.query_one(ModelBar)
        self._stream = self._screen.query_one(TokenStream)
        self._rounds = self._screen.query_one(RoundStrip)
        self._prompt = self._screen.query_one(PromptEditor)
        self._settings = self._screen.query_one(SettingsPanel)
        self.figures = RunFigures(self._screen.query_one(FiguresPanel), self._screen.query_one(FiguresBar))
        self.transcript = Transcript(self._stream, self.record)
        self.jobs.start()
        self.show_status(Status("no models loaded"))

    @property
    def replays(self) -> bool:
        """Whether the engine only plays a recorded run."""
        return isinstance(self._engine, ReplayEngine)

    def show_status(self, status: Status) -> None:
        """Say what is going on."""
        self._models.show_status(status)

    # Commands

    def load_first(self) -> None:
        """Load the models that the session begins with; a recorded run is played at once."""
        self.load(self._spec.model)
        if isinstance(self._engine, ReplayEngine):
            self._follow(self._engine.play(), self._spec.method.label, self._spec.method, RunKind.REPLAYED)

    def load(self, model: ModelSpec) -> None:
        """Load models."""
        self.jobs.load = self._engine.load(model)
        self._loading = Status("loading", "busy")
        self.show_status(self._loading)
        self.jobs.wake()
        self._screen.refresh_bindings()

    def choose_models(self, readings: Sequence[DeviceReading]) -> None:
        """Choose other models, unless something stands against it; then say what."""
        if not self.replays and self.jobs.idle:
            self.choice.open(readings, self.load)
            return
        busy = "models are being loaded" if self.jobs.load is not None else "a run is going"
        why = "a recorded run has its own" if self.replays else f"{busy}; Escape cancels"
        self._app.notify(why, title="Cannot choose models", severity="warning")

    def generate(self, spec: RunSpec, text: str, turn: int) -> None:
        """Run `text` with the settings of `spec`, as turn number `turn` of a conversation (see `Conversation.ask`)."""
        # Rejected tokens need the texts that the level "counts" leaves out; measuring wants the least recorded.
        measured = self.jobs.measuring
        trace = "counts" if measured else "alternatives" if self.alternatives else "probs"
        spec = msgspec.structs.replace(spec, trace=trace)
        spec, request = self.conversation.ask(spec, text, turn)
        self._prompt.remember(text)
        _log.info("run: %s of %s, trace %s", spec.method.label, spec.model.target, spec.trace)
        _log.debug("prompt: %r", text)
        kind = RunKind.MEASURED if measured else RunKind.LIVE
        if self.replays:
            kind = RunKind.REPLAYED
        else:
            self.history.begin(spec, request, measured=measured)
        self._follow(self._engine.run(spec, (request,)), spec.method.label, spec.method, kind)

    def replay(self, run: StoredRun) -> None:
        """Show a stored run in the stream; nothing of it is stored again. A conversation can be continued then."""
        self.transcript.note(run.title)
        if run.conversation:
            self._restore(run)
        self._follow(ReplayEngine(run.events, run.speed).play(), run.entry.method, None, RunKind.REPLAYED)

    def _restore(self, run: StoredRun) -> None:
        """Take up the conversation of a stored run, or say why that cannot be."""
        try:
            self.conversation.restore(run.system, run.turns, run.prompt, run.answer)
        except ConfigError as error:
            self._app.notify(str(error), title="The conversation is shown only", severity="warning", markup=False)
            return
        self._prompt.show_mode()
        told = "the conversation is restored; the next prompt continues it"
        loaded = self.choice.spec.target
        if run.target != loaded:
            told += f", with {visible(loaded)}; it was with {visible(run.target)}"
        self._app.notify(told, markup=False)

    @property
    def cancellable(self) -> Job | None:
        """The run; without one, the loading; None where there is neither, or it is stopping already."""
        job = self.jobs.run or self.jobs.load
        return None if job is None or job.cancelled else job

    def cancel(self) -> None:
        """Cancel the run; without one, the loading. A run that waits for the loading leaves it alone."""
        if (job := self.cancellable) is not None:
            job.cancel()
            stopping = Status("stopping", "busy")
            if job is self.jobs.load:
                self._loading = stopping
            self.show_status(stopping)
            self._screen.refresh_bindings()

    def measure(self, on: bool) -> None:
        """Paint seldom and record only counts, so that the screen costs the engine as little as it can; or do not."""
        self.jobs.measure(on)
        self.figures.disturb()
        self._models.show_measuring(on)

    def close(self) -> None:
        """Cancel everything; the session is over."""
        for job in (self.jobs.load, self.jobs.run):
            if job is not None:
                job.cancel()
        self.show_status(Status("closing", "busy"))

    # What comes of them

    def _follow(self, job: Job, label: str, method: MethodSpec | None, kind: RunKind) -> None:
        """Show a run from its first event on. `label` names its setting; `method`: see `RunFigures.start`."""
        self.transcript.start_run()
        self.output.start()
        self._stream.action_leave()
        self.figures.start(label, method, kind)
        self.jobs.run = job
        self._begun()
        if self.jobs.load is None:
            self.show_status(Status("starting", "busy"))
        self.jobs.wake()

    def _paint(self) -> None:
        self._stream.flush()
        self._rounds.flush()
        if self.jobs.run is not None and self.figures.draw():
            self._beside()

    def _observe(self, event: Event, job: Job) -> None:
        if job is self.jobs.run:
            self.figures.observe(event)
            self.transcript.observe(event)
            self.history.observe(event)
            self.output.observe(event)
            if self.figures.kind is RunKind.REPLAYED and not isinstance(event, RunFinished):
                return  # its models are not loaded here, and its notices were for then
        elif (told := self.choice.observe(event)) is not None:
            self._use_models(told)
        self.conversation.observe(event, of_run=job is self.jobs.run)
        match event:
            case LoadProgress() if not job.cancelled:
                self._loading = Status(event.stage, "busy", event.fraction)
                self.show_status(self._loading)
            case Loaded():
                self._models.show_loaded(event)
                self._prompt.show_mode()
                self.figures.load(event)
            case RowStarted() if not job.cancelled:
                self.show_status(Status("reading the prompt", "busy"))
            case Prefilled() if not job.cancelled:
                self.show_status(Status("generating", "busy"))
            case Notice():
                text = "; ".join(filter(None, (on_screen(event.text), advised(event.advice))))
                self._app.notify(text, severity=_SEVERITY[event.level], markup=False)
            case RunFinished():
                self._finish(event, job)

    def _use_models(self, told: str) -> None:
        """Let the runs that follow use the chosen models; `told`, where it is not empty, says which they are."""
        self._settings.use_models(self.choice.spec)
        if told:
            self.transcript.note(told)
            self._app.notify(told, markup=False)

    def _finish(self, event: RunFinished, job: Job) -> None:
        what = "loading" if job is self.jobs.load else "run"
        _log.log(logging.ERROR if event.error else logging.INFO, "%s: %s %s", what, event.reason, event.error or "")
        if job is self.jobs.load:
            self.jobs.load, what = None, "Loading"
        else:
            self.jobs.run, what = None, "The recorded run" if self.figures.kind is RunKind.REPLAYED else "The run"
            self.figures.finish()
            self._prompt.show_mode()
        match event.reason:
            case "done":
                self.show_status(Status("ready"))
            case "cancelled":
                self.transcript.note(event.error or f"{what} was cancelled.")
                self.show_status(Status("interrupted" if event.error else "cancelled"))
            case "failed":
                error = advised(event.error or "the engine gave no reason")
                self.transcript.note(f"{what} failed: {error}", State.ERROR)
                self.show_status(Status("failed", "error"))
                self._app.notify(error, title=f"{what} failed", severity="error", markup=False)
        if self.jobs.run is not None:
            self.show_status(Status("starting", "busy"))
        elif self.jobs.load is not None:  # a run that waited for it was cancelled
            self.show_status(self._loading)
        self._screen.refresh_bindings()
