"""The workbench's application: it owns the state, commands the engine and drains its events with one timer."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import msgspec
from textual import events, on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.command import CommandPalette
from textual.containers import Horizontal, Vertical
from textual.theme import Theme
from textual.widgets import Footer, Input, Static

from specterm.config import MethodSpec, ModelSpec, RunSpec
from specterm.engine.job import Engine, Job
from specterm.engine.replay import ReplayEngine
from specterm.errors import ConfigError
from specterm.events import Event, Loaded, LoadProgress, Notice, Prefilled, RowStarted, RunFinished
from specterm.locations import prompts_folder, themes_folder
from specterm.settings import Settings
from specterm.tui import themes
from specterm.tui.conversation import Conversation
from specterm.tui.idling import Idling
from specterm.tui.keymap import resolve
from specterm.tui.memory import Memory
from specterm.tui.model_choice import ModelChoice
from specterm.tui.palette import Actions
from specterm.tui.ports import Drawn, MonitorLike
from specterm.tui.run_figures import RunFigures, RunKind
from specterm.tui.run_history import RunHistory, StoredRun
from specterm.tui.run_output import RunOutput
from specterm.tui.run_record import RunRecord
from specterm.tui.theme_choice import ThemeChoice
from specterm.tui.transcript import Transcript
from specterm.tui.widgets.device_panel import DeviceBar, DevicePanel
from specterm.tui.widgets.device_text import DeviceHistory
from specterm.tui.widgets.figures import FiguresBar, FiguresPanel
from specterm.tui.widgets.inspector import Inspector
from specterm.tui.widgets.legend import Legend
from specterm.tui.widgets.model_bar import ModelBar, Status
from specterm.tui.widgets.prompt_editor import PromptEditor
from specterm.tui.widgets.round_strip import RoundStrip
from specterm.tui.widgets.settings import SettingsPanel
from specterm.tui.widgets.token_store import State
from specterm.tui.widgets.token_stream import TokenStream
from specterm.tui.widgets.visible_text import visible

FRAMES_PER_SECOND = 12.0
FRAMES_PER_SECOND_OVER_SSH = 8.0
FRAMES_PER_SECOND_MEASURING = 4.0
CLOSE_TIMEOUT_S = 5.0
LOAD_CLOSE_TIMEOUT_S = 0.5
PROBLEMS_TIMEOUT_S = 15.0

_log = logging.getLogger(__name__)
_WORKBENCH_ACTIONS = frozenset(
    (
        "cancel",
        "leave_pane",
        "toggle_rejected",
        "show_pane",
        "show_history",
        "show_compare",
        "show_models",
        "toggle_measuring",
        "take_setup",
    )
)
_VIEWS = ("settings", "devices", "figures", "inspector")  # the panes of the side column
_SEVERITY: dict[str, Literal["information", "warning", "error"]] = {
    "info": "information",
    "warning": "warning",
    "error": "error",
}


class SpectermApp(App[None]):
    """The workbench over an engine and a monitor; `spec`, a checked one, is what its settings start from.

    The app loads the spec's models when it starts (unless `initial_load` is False) and closes the engine when it ends.
    The monitor is started and stopped by whoever made it. Themes are read from `theme_folders`, by default the shipped
    ones and the user's; `theme` names one, else the last one chosen counts that `memory` knows. `settings` bring the
    keymap, and what is wrong with them is told. Runs are stored in the folder `history`, if one is given; a
    `ReplayEngine` plays its run at once.
    """

    TITLE = "specterm"
    CSS_PATH = "app.tcss"
    COMMANDS = App.COMMANDS | {Actions}
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny-width"), (60, "-narrow"), (80, "-medium"), (110, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-tiny-height"), (18, "-short"), (30, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "Cancel run", id="app.cancel", tooltip="Cancel the run, or the loading"),
        # Without either the second binding of the key takes it.
        Binding("escape", "leave_pane", "Back", id="app.back", tooltip="Go back to the stream and the prompt"),
        Binding("ctrl+r", "toggle_rejected", "Rejected", id="app.rejected", tooltip="Show rejected tokens inline"),
        Binding("ctrl+q", "quit", "Quit", id="app.quit", tooltip="Leave specterm", priority=True),
        Binding("f1", "toggle_help", "Help", id="app.help", tooltip="Show or hide help on the focused pane"),
        Binding(
            "ctrl+p",
            "command_palette",
            "Palette",
            id="app.palette",
            tooltip="Find an action by its name",
            priority=True,
        ),
        Binding("f2", "show_pane('prompt')", "Prompt", id="pane.prompt", tooltip="Go to the prompt", show=False),
        Binding("f3", "show_pane('stream')", "Stream", id="pane.stream", tooltip="Go to the stream"),
        Binding("f4", "show_pane('settings')", "Settings", id="pane.settings", tooltip="Go to method and sampling"),
        Binding("f5", "show_pane('devices')", "Devices", id="pane.devices", tooltip="Go to the devices"),
        Binding("f6", "show_pane('figures')", "Figures", id="pane.figures", tooltip="Go to the figures"),
        Binding(
            "f7", "show_pane('inspector')", "Inspector", id="pane.inspector", tooltip="Go to the inspector", show=False
        ),
        Binding("f8", "show_pane('rounds')", "Rounds", id="pane.rounds", tooltip="Go to the rounds", show=False),
        Binding("f9", "show_compare", "Compare", id="app.compare", tooltip="Measure methods, then race them"),
        Binding(
            "ctrl+o", "show_history", "History", id="app.history", tooltip="Search, reopen and compare stored runs"
        ),
        Binding("f12", "show_models", "Models", id="app.models", tooltip="Choose target, drafts, heads and device"),
        Binding(
            "ctrl+l",
            "show_library",
            "Library",
            id="app.library",
            tooltip="Choose a prompt from the library",
            show=False,
        ),
        Binding(
            "ctrl+y",
            "take_setup",
            "Setup",
            id="app.setup",
            tooltip="Copy this setup as a command line, or write it as a plan",
            show=False,
        ),
        Binding("ctrl+t", "next_theme", "Theme", id="app.theme", tooltip="Change to the next theme"),
        Binding("m", "toggle_measuring", "Measure", id="app.measure", tooltip="Paint 4 times a second, record counts"),
    ]

    def __init__(
        self,
        engine: Engine,
        monitor: MonitorLike,
        spec: RunSpec,
        *,
        prompt: str = "",
        initial_load: bool = True,
        theme_folders: Sequence[Path] | None = None,
        history: Path | None = None,
        state: Path | None = None,
        settings: Settings | None = None,
        theme: str | None = None,
        memory: Memory | None = None,
    ) -> None:
        super().__init__()
        self._engine = engine
        self._monitor = monitor
        self._spec = spec
        self._prompt = prompt
        self._initial_load = initial_load
        self._load_job: Job | None = None
        self._run_job: Job | None = None
        self._record = RunRecord()
        self._alternatives = spec.trace == "alternatives"
        self._devices = DeviceHistory()
        self._measuring = False
        self._output = RunOutput(self)
        folders = (themes.shipped_folder(), themes_folder()) if theme_folders is None else theme_folders
        self._memory, self._settings = memory or Memory(), settings or Settings()
        self._idling = Idling(self, self._read_devices, lambda: not self._idle, self._rest)
        self._history = RunHistory(self, history, self._memory)
        self._themes = ThemeChoice(self, folders, self._memory, theme)
        self._conversation = Conversation(spec)
        self._choice = ModelChoice(self, spec.model, state)

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return themes.variable_defaults(self.current_theme.dark)

    def compose(self) -> ComposeResult:
        yield Static("specterm needs a terminal of at least 60 x 18", id="too-small")
        yield ModelBar(self._spec.model, id="models")
        with Horizontal(id="body"):
            with Vertical(id="main"):
                yield (stream := TokenStream(self._record, id="stream"))
                yield stream.search_bar
                yield RoundStrip(self._record, id="rounds")
                yield PromptEditor(self._prompt, self._conversation, id="prompt")
            with Vertical(id="side"):
                yield SettingsPanel(self._spec, id="settings")
                yield FiguresPanel(id="figures")
                yield DevicePanel(self._devices, id="devices")
                yield Inspector(self._record, id="inspector")
        yield FiguresBar(id="figures-bar")
        yield DeviceBar(self._devices, id="device-bar")
        yield Legend(id="legend")
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        # Kept, not looked up: a timer may fire while the screen is being taken down.
        self._models = self.query_one(ModelBar)
        self._stream = self.query_one(TokenStream)
        self._rounds = self.query_one(RoundStrip)
        self._inspector = self.query_one(Inspector)
        self._figures = RunFigures(self.query_one(FiguresPanel), self.query_one(FiguresBar))
        self._device_panes = self.query_one(DevicePanel), self.query_one(DeviceBar)
        self._transcript = Transcript(self._stream, self._record)
        self._drain_timer = self.set_interval(1 / self._frames_per_second, self._drain, pause=True)
        self._idling.start()
        self.theme_changed_signal.subscribe(self, self._redraw)
        self.theme_changed_signal.subscribe(self._stream, self._themes.remember)
        prompt = self.query_one(PromptEditor)
        prompt.recall_from(self._memory.prompts())
        prompt.focus()
        self._inspector.show_recording(self._alternatives)
        self._show_status(Status("no models loaded"))
        self._tell_problems("Themes", self._themes.problems)
        self.keymap, problems = resolve(self._settings.keymap)
        self.set_keymap(self.keymap)
        self._tell_problems("Configuration", [*self._settings.problems, *problems])
        if self._initial_load:
            # Loading begins with imports that hold the interpreter; the first frame comes before them.
            self.call_after_refresh(self._load_first)

    def _tell_problems(self, title: str, problems: Sequence[str]) -> None:
        if problems:
            _log.warning("%s: %s", title, "; ".join(problems))
            text = "\n".join(visible(problem) for problem in problems)
            self.notify(text, title=title, severity="warning", timeout=PROBLEMS_TIMEOUT_S, markup=False)

    def _load_first(self) -> None:
        self._load(self._spec.model)
        if isinstance(self._engine, ReplayEngine):
            self._follow(self._engine.play(), self._spec.method.label, self._spec.method, RunKind.REPLAYED)

    def _load(self, model: ModelSpec) -> None:
        self._load_job = self._engine.load(model)
        self._show_status(Status("loading", "busy"))
        self._drain_timer.resume()
        self.refresh_bindings()

    # The run

    def on_prompt_editor_submitted(self, message: PromptEditor.Submitted) -> None:
        """Generate from the prompt, unless something stands against it; then say what."""
        if self._run_job is not None:
            going = "the last run is still stopping; try again" if self._run_job.cancelled else ""
            self._refuse(going or "a run is going; Escape cancels it")
            return
        if not message.text.strip():
            self._refuse("the prompt is empty; write one first")
            return
        try:
            spec = self.query_one(SettingsPanel).spec()
        except ConfigError as error:
            self._refuse(str(error))
            return
        # Rejected tokens need the texts that the level "counts" leaves out; measuring wants the least recorded.
        trace = "counts" if self._measuring else "alternatives" if self._alternatives else "probs"
        spec = msgspec.structs.replace(spec, trace=trace)
        spec, request = self._conversation.ask(spec, message.text, message.turn)
        self.query_one(PromptEditor).remember(message.text)
        _log.info("run: %s of %s, trace %s", spec.method.label, spec.model.target, spec.trace)
        _log.debug("prompt: %r", message.text)
        kind = RunKind.MEASURED if self._measuring else RunKind.LIVE
        if isinstance(self._engine, ReplayEngine):
            kind = RunKind.REPLAYED
        else:
            self._history.begin(spec, message.text, measured=self._measuring)
        self._follow(self._engine.run(spec, (request,)), spec.method.label, spec.method, kind)

    def _follow(self, job: Job, label: str, method: MethodSpec | None, kind: RunKind) -> None:
        """Show a run from its first event on. `label` names its setting; `method`: see `RunFigures.start`."""
        self._transcript.start_run()
        self._output.start()
        self._stream.action_leave()
        self._figures.start(label, method, kind)
        self._run_job = job
        self._show_pane("stream", focus=False)
        if self._load_job is None:
            self._show_status(Status("starting", "busy"))
        self._idling.stir()
        self._drain_timer.resume()
        self.refresh_bindings()

    def _refuse(self, why: str) -> None:
        self.notify(why, title="Cannot generate", severity="error", markup=False)

    def _drain(self) -> None:
        """Take in what the engine has put, and paint it once."""
        for job in (self._load_job, self._run_job):
            if job is not None:
                for event in job.drain():
                    self._observe(event, job)
        self._stream.flush()
        self._rounds.flush()
        if self._run_job is not None:
            self._figures.draw()
        if self._idle:
            self._drain_timer.pause()

    def _observe(self, event: Event, job: Job) -> None:
        if job is self._run_job:
            self._figures.observe(event)
            self._transcript.observe(event)
            self._history.observe(event)
            self._output.observe(event)
            if self._figures.kind is RunKind.REPLAYED and not isinstance(event, RunFinished):
                return  # its models are not loaded here, and its notices were for then
        elif (told := self._choice.observe(event)) is not None:
            self._use_models(told)
        self._conversation.observe(event, of_run=job is self._run_job)
        match event:
            case LoadProgress():
                self._show_status(Status(event.stage, "busy", event.fraction))
            case Loaded():
                self._models.show_loaded(event)
                self.query_one(PromptEditor).show_mode()
                self._figures.load(event)
            case RowStarted() if not job.cancelled:
                self._show_status(Status("reading the prompt", "busy"))
            case Prefilled() if not job.cancelled:
                self._show_status(Status("generating", "busy"))
            case Notice():
                text = f"{event.text} {event.advice}".strip()
                self.notify(text, severity=_SEVERITY[event.level], markup=False)
            case RunFinished():
                self._finish(event, job)

    def _use_models(self, told: str) -> None:
        """Let the runs that follow use the chosen models; `told`, where it is not empty, says which they are."""
        self.query_one(SettingsPanel).use_models(self._choice.spec)
        if told:
            self._transcript.note(told)
            self.notify(told, markup=False)

    def _finish(self, event: RunFinished, job: Job) -> None:
        what = "loading" if job is self._load_job else "run"
        _log.log(logging.ERROR if event.error else logging.INFO, "%s: %s %s", what, event.reason, event.error or "")
        if job is self._load_job:
            self._load_job, what = None, "Loading"
        else:
            self._run_job, what = None, "The recorded run" if self._figures.kind is RunKind.REPLAYED else "The run"
            self._figures.finish()
            self.query_one(PromptEditor).show_mode()
        match event.reason:
            case "done":
                self._show_status(Status("ready"))
            case "cancelled":
                self._transcript.note(f"{what} was cancelled.")
                self._show_status(Status("cancelled"))
            case "failed":
                error = event.error or "the engine gave no reason"
                self._transcript.note(f"{what} failed: {error}", State.ERROR)
                self._show_status(Status("failed", "error"))
                self.notify(error, title=f"{what} failed", severity="error", markup=False)
        if self._run_job is not None:
            self._show_status(Status("starting", "busy"))
        self.refresh_bindings()

    # What is shown

    @property
    def _frames_per_second(self) -> float:
        if self._measuring:
            return FRAMES_PER_SECOND_MEASURING
        return FRAMES_PER_SECOND_OVER_SSH if os.environ.get("SSH_CONNECTION") else FRAMES_PER_SECOND

    def _show_status(self, status: Status) -> None:
        self._models.show_status(status)

    @property
    def _idle(self) -> bool:
        return self._run_job is None and self._load_job is None

    async def on_event(self, event: events.Event) -> None:
        """Take note that somebody is there."""
        if isinstance(event, events.InputEvent):
            self._idling.stir()
        await super().on_event(event)

    def _rest(self, resting: bool) -> None:
        self._monitor.resting = resting
        self._blink(not resting and not self._measuring)

    def _blink(self, blink: bool) -> None:
        self.query_one(PromptEditor).cursor_blink = blink
        if isinstance(self.focused, Input):
            self.focused.cursor_blink = blink

    def _read_devices(self) -> None:
        if self._devices.observe(self._monitor.latest):
            for pane in self._device_panes:
                pane.draw()

    def _show_pane(self, pane: str, focus: bool = True) -> None:
        """Bring a pane into sight (small terminals show one at a time) and focus it."""
        for view in _VIEWS:
            self.default_screen.set_class(pane == view, f"-view-{view}")
        if focus:
            settings = self.query_one(SettingsPanel)
            self.call_after_refresh(settings.focus_first if pane == "settings" else self.query_one(f"#{pane}").focus)
        self.refresh_bindings()

    @on(TokenStream.CursorMoved)
    def _inspect(self, message: TokenStream.CursorMoved) -> None:
        self._inspector.show(message.token)
        self._rounds.select(None if message.token is None else message.token[0])
        inspecting = self.screen.has_class("-view-inspector")
        if inspecting != (message.token is not None):
            self._show_pane("stream" if inspecting else "inspector", focus=False)

    @on(RoundStrip.Chosen)
    def _inspect_round(self, message: RoundStrip.Chosen) -> None:
        if not self._stream.inspect_part(message.part):  # it emitted no text
            self._inspector.show((message.part, 0))
            self._show_pane("inspector", focus=False)

    # Actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Escape is offered only while it does something, and what the workbench does only while it is in sight."""
        stack = self.screen_stack
        in_sight = stack[-2] if isinstance(stack[-1], CommandPalette) else stack[-1]
        if action in _WORKBENCH_ACTIONS and in_sight is not self.default_screen:
            return False
        if action == "cancel":
            return self._run_job is not None or self._load_job is not None
        return action != "leave_pane" or self._covered

    @property
    def _covered(self) -> bool:
        return any(self.default_screen.has_class(f"-view-{view}") for view in _VIEWS)

    def action_cancel(self) -> None:
        """Cancel the run; without one, the loading."""
        job = self._run_job or self._load_job
        if job is not None and not job.cancelled:
            job.cancel()
            self._show_status(Status("stopping", "busy"))

    def action_leave_pane(self) -> None:
        """Go back to the stream and the prompt."""
        self._stream.action_leave()
        self._show_pane("prompt")

    def action_show_pane(self, pane: str) -> None:
        """Go to a pane."""
        self._show_pane(pane)

    def action_toggle_rejected(self) -> None:
        """Show or hide the tokens that were drafted and not kept."""
        self._stream.show_rejected = not self._stream.show_rejected
        self._stream.border_title = "Stream, with rejected tokens" if self._stream.show_rejected else "Stream"

    def action_copy_output(self) -> None:
        """Copy the output of the last run."""
        self._output.copy(self._transcript.output)

    def action_save_stream(self) -> None:
        """Save the last run to a file."""
        self._output.save()

    def action_show_library(self) -> None:
        """Choose a prompt from the library."""
        from specterm.tui.screens.library import PromptLibrary

        prompt = self.query_one(PromptEditor)
        screen = PromptLibrary(prompts_folder(), prompt.earlier)
        self.push_screen(screen, lambda text: None if text is None else prompt.replace_text(text))

    def action_take_setup(self) -> None:
        """Copy this setup as a command line, or write it as a plan."""
        try:
            self._output.take_setup(self.query_one(SettingsPanel).spec(), self.query_one(PromptEditor).text)
        except ConfigError as error:
            self._refuse(str(error))

    def action_clear_stream(self) -> None:
        """Empty the stream, unless a run is writing to it."""
        if self._run_job is None:
            self._stream.clear()
            self._transcript.clear()
            self._rounds.flush()

    def action_toggle_alternatives(self) -> None:
        """Record the likeliest tokens of target and drafter from the next run on, or no longer."""
        self._alternatives = not self._alternatives
        self._inspector.show_recording(self._alternatives)

    def action_show_models(self) -> None:
        """Choose other models."""
        if isinstance(self._engine, ReplayEngine) or self._run_job is not None or self._load_job is not None:
            busy = "models are being loaded" if self._load_job is not None else "a run is going"
            why = "a recorded run has its own" if isinstance(self._engine, ReplayEngine) else f"{busy}; Escape cancels"
            self.notify(why, title="Cannot choose models", severity="warning")
            return
        self._choice.open(self._monitor.latest, self._load)

    def action_show_history(self) -> None:
        """Open the stored runs."""
        self._history.open(self._replay)

    def action_show_compare(self) -> None:
        """Open the comparison of methods, on the models and with the sampling of now."""
        if self._run_job is not None or isinstance(self._engine, ReplayEngine):
            why = "a replay has no models" if self._run_job is None else "a run is going; Escape cancels it"
            self.notify(why, title="Cannot compare", severity="error", markup=False)
            return
        from specterm.tui.screens.compare import CompareScreen

        try:
            spec = self.query_one(SettingsPanel).spec()
        except ConfigError as error:
            self.notify(str(error), title="Cannot compare", severity="error", markup=False)
            return
        self.push_screen(CompareScreen(self._engine, spec, self.query_one(PromptEditor).text))

    def _replay(self, run: StoredRun | None) -> None:
        """Show a stored run in the stream; nothing of it is stored again."""
        if run is None:
            return
        if self._run_job is not None:
            self._refuse("a run is going; Escape cancels it")
            return
        self._transcript.note(run.title)
        self._follow(ReplayEngine(run.events, run.speed).play(), run.entry.method, None, RunKind.REPLAYED)

    def action_toggle_measuring(self) -> None:
        """Paint seldom and record only counts, so that the screen costs the engine as little as it can."""
        self._measuring = not self._measuring
        self._figures.disturb()
        self._blink(not self._measuring)
        self._drain_timer.stop()
        self._drain_timer = self.set_interval(1 / self._frames_per_second, self._drain, pause=self._idle)
        self._models.show_measuring(self._measuring)

    def action_next_theme(self) -> None:
        """Change to the next theme."""
        self.notify(f"theme {self._themes.next()}", timeout=2)

    def _redraw(self, _theme: Theme) -> None:
        """Draw again what holds resolved colours, once the new ones are in force."""
        for screen in self.screen_stack:
            for widget in screen.query("*"):
                if isinstance(widget, Drawn):
                    self.call_after_refresh(widget.draw)

    def action_toggle_help(self) -> None:
        """Show or hide help."""
        if self.screen.query("HelpPanel"):
            self.action_hide_help_panel()
        else:
            self.action_show_help_panel()

    async def action_quit(self) -> None:
        """Cancel what runs, close the engine off the screen's thread for at most a few seconds, and leave."""
        for job in (self._load_job, self._run_job):
            if job is not None:
                job.cancel()
        self._show_status(Status("closing", "busy"))
        closer = threading.Thread(target=self._engine.close, name="specterm-close", daemon=True)
        closer.start()
        # A load may be deep in an import or a file, and leaves nothing behind that needs an end.
        patience = CLOSE_TIMEOUT_S if self._run_job is not None or self._load_job is None else LOAD_CLOSE_TIMEOUT_S
        await asyncio.to_thread(closer.join, patience)
        self._drain()  # the history wants the last events
        await asyncio.to_thread(self._history.close)
        self.exit()
