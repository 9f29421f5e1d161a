"""The workbench: prompt, stream and the panes around them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Input, Static

from specterm.config import RunSpec
from specterm.engine.job import Engine
from specterm.errors import ConfigError
from specterm.locations import prompts_folder
from specterm.tui import keys
from specterm.tui.compositor import SparingCompositor
from specterm.tui.device_loss import DeviceLoss
from specterm.tui.idling import Idling
from specterm.tui.memory import Memory
from specterm.tui.ports import MonitorLike
from specterm.tui.run_control import RunControl
from specterm.tui.run_history import StoredRun
from specterm.tui.screen_words import on_screen
from specterm.tui.screens.sized import SizedScreen
from specterm.tui.widgets.device_panel import DeviceBar, DevicePanel
from specterm.tui.widgets.device_text import DeviceHistory
from specterm.tui.widgets.figures import FiguresBar, FiguresPanel
from specterm.tui.widgets.inspector import Inspector
from specterm.tui.widgets.key_hints import KeyHints
from specterm.tui.widgets.legend import Legend
from specterm.tui.widgets.model_bar import ModelBar
from specterm.tui.widgets.prompt_editor import PromptEditor
from specterm.tui.widgets.round_strip import RoundStrip
from specterm.tui.widgets.settings import SettingsPanel
from specterm.tui.widgets.token_stream import TokenStream

_VIEWS = ("settings", "devices", "figures", "inspector")  # the panes of the side column


class WorkbenchScreen(SizedScreen[None]):
    """The first screen of `app`; `spec`, a checked one, is what its settings start from. See `SpectermApp` for the
    rest."""

    TITLE = "specterm"
    AUTO_FOCUS = "#prompt"
    BINDINGS: ClassVar[list[BindingType]] = [*keys.OF_WORKBENCH]

    def __init__(
        self,
        app: App[None],
        engine: Engine,
        monitor: MonitorLike,
        spec: RunSpec,
        *,
        prompt: str,
        initial_load: bool,
        history: Path | None,
        history_limit: int,
        state: Path | None,
        memory: Memory,
    ) -> None:
        super().__init__()
        self._compositor = SparingCompositor()
        self._engine, self._monitor, self._memory = engine, monitor, memory
        self._spec, self._first_prompt, self._initial_load = spec, prompt, initial_load
        self._devices, self._device_loss = DeviceHistory(), DeviceLoss()
        self.runs = RunControl(
            app,
            self,
            engine,
            spec,
            self._follow_run,
            self._draw_devices,
            history=history,
            history_limit=history_limit,
            state=state,
            memory=memory,
        )
        self.idling = Idling(app, self._read_devices, lambda: not self.runs.jobs.idle, self._rest)

    def compose(self) -> ComposeResult:
        yield Static("specterm needs a terminal of at least 60 x 18", id="too-small")
        yield ModelBar(self._spec.model, self._spec.method.name, id="models")
        with Horizontal(id="body"):
            with Vertical(id="main"):
                yield (stream := TokenStream(self.runs.record, id="stream"))
                yield stream.search_bar
                yield RoundStrip(self.runs.record, id="rounds")
                yield PromptEditor(self._first_prompt, self.runs.conversation, id="prompt")
            with Vertical(id="side"):
                yield SettingsPanel(self._spec, id="settings")
                yield FiguresPanel(id="figures")
                yield DevicePanel(self._devices, id="devices")
                yield Inspector(self.runs.record, id="inspector")
        yield FiguresBar(id="figures-bar")
        yield DeviceBar(self._devices, id="device-bar")
        yield Legend(id="legend")
        yield KeyHints()

    def on_mount(self) -> None:
        # Kept, not looked up: a timer may fire while the screen is being taken down.
        self._stream = self.query_one(TokenStream)
        self._rounds = self.query_one(RoundStrip)
        self._prompt = self.query_one(PromptEditor)
        self._settings = self.query_one(SettingsPanel)
        self._inspector = self.query_one(Inspector)
        self._device_panes = self.query_one(DevicePanel), self.query_one(DeviceBar)
        self.runs.start()
        self.idling.start()
        self._prompt.recall_from(self._memory.prompts())
        self._prompt.focus()
        self._inspector.show_recording(self.runs.alternatives)
        if self._initial_load:
            # Loading begins with imports that hold the interpreter; the first frame comes before them.
            self.call_after_refresh(self.runs.load_first)

    # What is shown

    def _follow_run(self) -> None:
        self._show_pane("stream", focus=False)
        self.idling.stir()

    def _rest(self, resting: bool) -> None:
        self._monitor.resting = resting
        self._blink(not resting and not self.runs.jobs.measuring)

    def _blink(self, blink: bool) -> None:
        self._prompt.cursor_blink = blink
        if isinstance(self.app.focused, Input):
            self.app.focused.cursor_blink = blink

    def _read_devices(self) -> None:
        readings = self._monitor.latest
        if (told := self._device_loss.observe(readings)) is not None:
            self.notify(told, title="Devices", severity="warning", markup=False)
        if self._devices.observe(readings) and self.runs.jobs.run is None:
            self._draw_devices()

    def _draw_devices(self) -> None:
        for pane in self._device_panes:
            pane.draw()

    def _show_pane(self, pane: str, focus: bool = True) -> None:
        """Bring a pane into sight (small terminals show one at a time) and focus it."""
        for view in _VIEWS:
            self.set_class(pane == view, f"-view-{view}")
        if focus:
            there = self.query_one(f"#{pane}")
            go = self._settings.focus_first if pane == "settings" else there.focus
            if there.is_on_screen:  # at once: what is typed behind the key is meant for it
                go()
            else:
                self.call_after_refresh(go)
        self.refresh_bindings()

    @on(SettingsPanel.MethodChosen)
    def _name_heads(self, message: SettingsPanel.MethodChosen) -> None:
        self.query_one(ModelBar).show_method(message.method)

    @on(TokenStream.CursorMoved)
    def _inspect(self, message: TokenStream.CursorMoved) -> None:
        self._inspector.show(message.token)
        self._rounds.select(None if message.token is None else message.token[0])
        inspecting = self.has_class("-view-inspector")
        if inspecting != (message.token is not None):
            self._show_pane("stream" if inspecting else "inspector", focus=False)

    @on(RoundStrip.Chosen)
    def _inspect_round(self, message: RoundStrip.Chosen) -> None:
        if not self._stream.inspect_part(message.part):  # it emitted no text
            self._inspector.show((message.part, 0))
            self._show_pane("inspector", focus=False)

    def on_prompt_editor_submitted(self, message: PromptEditor.Submitted) -> None:
        """Generate from the prompt, unless something stands against it; then say what."""
        if (run := self.runs.jobs.run) is not None:
            going = "the last run is still stopping; try again" if run.cancelled else ""
            self._refuse("generate", going or "a run is going; Escape cancels it")
        elif not message.text.strip():
            self._refuse("generate", "the prompt is empty; write one, or choose one with Ctrl+L")
        elif (spec := self._asked_for("generate")) is not None:
            self.runs.generate(spec, message.text, message.turn)

    def _asked_for(self, what: str) -> RunSpec | None:
        """The settings of now; None, and it is said why they do not do, where one of them is bad."""
        try:
            return self._settings.spec()
        except ConfigError as error:
            self._refuse(what, str(error))
            return None

    def _refuse(self, what: str, why: str) -> None:
        self.notify(on_screen(why), title=f"Cannot {what}", severity="error", markup=False)

    # Actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Escape is offered while it does something, and emptying the stream while nothing is written to it."""
        if action == "cancel":
            return self.runs.cancellable is not None
        if action == "clear_stream":
            return self.runs.jobs.run is None
        return action != "leave_pane" or any(self.has_class(f"-view-{view}") for view in _VIEWS)

    def action_cancel(self) -> None:
        """Cancel the run; without one, the loading."""
        self.runs.cancel()

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
        self.runs.output.copy(self.runs.transcript.output)

    def action_save_stream(self) -> None:
        """Save the last run to a file."""
        self.runs.output.save()

    def action_clear_stream(self) -> None:
        """Empty the stream."""
        self._stream.clear()
        self.runs.transcript.clear()
        self._rounds.flush()

    def action_toggle_alternatives(self) -> None:
        """Record the likeliest tokens of target and drafter from the next run on, or no longer."""
        self.runs.alternatives = not self.runs.alternatives
        self._inspector.show_recording(self.runs.alternatives)

    def action_toggle_measuring(self) -> None:
        """Paint seldom and record only counts, so that the screen costs the engine as little as it can."""
        self.runs.measure(not self.runs.jobs.measuring)
        self._blink(not self.runs.jobs.measuring)

    def action_take_setup(self) -> None:
        """Copy this setup as a command line, or write it as a plan."""
        if (spec := self._asked_for("generate")) is not None:
            self.runs.output.take_setup(*self.runs.conversation.run_of(spec, *self._prompt.at_hand))

    def action_show_library(self) -> None:
        """Choose a prompt from the library."""
        from specterm.tui.screens.library import PromptLibrary

        prompt = self._prompt
        screen = PromptLibrary(prompts_folder(), prompt.earlier)
        self.app.push_screen(screen, lambda text: None if text is None else prompt.replace_text(text))

    def action_show_models(self) -> None:
        """Choose other models."""
        self.runs.choose_models(self._monitor.latest)

    def action_show_history(self) -> None:
        """Open the stored runs."""
        self.runs.history.open(self._replay)

    def _replay(self, run: StoredRun | None) -> None:
        if run is not None and self.runs.jobs.run is not None:
            self._refuse("generate", "a run is going; Escape cancels it")
        elif run is not None:
            self.runs.replay(run)

    def action_show_compare(self) -> None:
        """Open the comparison of methods, on the models and with the sampling of now."""
        from specterm.tui.screens.compare import CompareScreen

        if self.runs.jobs.run is not None:
            self._refuse("compare", "a run is going; Escape cancels it")
        elif self.runs.replays:
            self._refuse("compare", "a replay has no models")
        elif (spec := self._asked_for("compare")) is not None:
            conversation, (text, turn) = self.runs.conversation, self._prompt.at_hand
            spec, request = conversation.run_of(spec, text, turn)
            mode = conversation.mode_of(turn)
            self.app.push_screen(CompareScreen(self._engine, spec, request, mode, self.runs.history))

    def action_show_verify(self) -> None:
        """Open the verification, on the models and with the method and sampling of now."""
        from specterm.tui.screens.verify import VerifyScreen
        from specterm.verify.ports import Verifies

        if self.runs.jobs.run is not None:
            self._refuse("verify", "a run is going; Escape cancels it")
        elif not isinstance(self._engine, Verifies):
            self._refuse("verify", "there are no models here that could be asked")
        elif (spec := self._asked_for("verify")) is not None:
            self.app.push_screen(VerifyScreen(self._engine, spec))
