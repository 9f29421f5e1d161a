"""What is to be compared: two to four methods, each with its own settings, on one prompt or on a prompt set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.widgets import Static

from specterm.catalogue import SAMPLING
from specterm.config import MethodSpec, Request, RunSpec
from specterm.engine.job import Engine
from specterm.errors import ConfigError
from specterm.tui import lanes
from specterm.tui.head_line import head_line
from specterm.tui.measurement import Measurement
from specterm.tui.run_history import RunHistory
from specterm.tui.screen_words import on_screen
from specterm.tui.screens.sized import SizedScreen
from specterm.tui.widgets.key_hints import KeyHints
from specterm.tui.widgets.method_form import MethodForm
from specterm.tui.widgets.parameter_field import ParameterField
from specterm.tui.widgets.visible_text import visible


class _Lane(VerticalScroll, can_focus=False):
    """The form of one lane."""

    def __init__(self, method: MethodSpec) -> None:
        super().__init__(classes="lane")
        self.form = MethodForm(method)

    def compose(self) -> ComposeResult:
        yield self.form


class CompareScreen(SizedScreen[None]):
    """Chooses lanes and workload; models, sampling and conversation are those of `spec`, a checked one, for all lanes.
    The prompt is `request`, and `mode` says what becomes of it. What is measured goes into `history`."""

    CSS_PATH = "compare.tcss"
    HELP = """\
## Compare

Two to four lanes, each a method with its own settings. Models, acceptance rule and sampling are the workbench's, the
same for all. **F9** measures them one after the other, interleaved over the repeats, then replays them side by side.
A lane with **Naive** gives speedups and says whether outputs are the same. **Ctrl+N** adds a lane, **Ctrl+L** removes
the one that has the focus, or else the last. **prompts** may name sets (builtin, stories, code, arithmetic) or files;
empty means the workbench's prompt, which in a conversation is its next turn, or else the one that was sent last, with
the system prompt and the turns before it. Prompts of sets and files are completed as they stand.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.pop_screen", "Back", id="compare.back", tooltip="Back to the workbench"),
        Binding("f9", "measure", "Measure", id="compare.measure", tooltip="Measure the lanes, then race them"),
        Binding("ctrl+n", "add_lane", "Add lane", id="compare.add", tooltip="Add a lane"),
        Binding(
            "ctrl+l",
            "remove_lane",
            "Remove lane",
            id="compare.remove",
            tooltip="Remove the focused lane, or else the last",
        ),
    ]

    def __init__(self, engine: Engine, spec: RunSpec, request: Request, mode: str, history: RunHistory) -> None:
        super().__init__()
        self._engine, self._spec, self._request, self._mode, self._history = engine, spec, request, mode, history

    def compose(self) -> ComposeResult:
        yield Static("specterm needs a terminal of at least 60 x 18", id="too-small")
        yield Static(head_line("Compare", "one after the other, then side by side"), id="compare-head")
        with VerticalScroll(id="compare-body", can_focus=False):
            with Container(id="workload"):
                yield from (ParameterField(parameter, parameter.default) for parameter in lanes.WORKLOAD)
            yield Static("", id="compare-prompt", markup=False)
            yield Static(f"asked as: {self._mode}", id="compare-mode", markup=False)
            yield Static(self._shared, id="compare-shared", markup=False)
            with Container(id="lanes"):
                yield from (_Lane(method) for method in lanes.usual_lanes(self._spec))
        yield Static("", id="compare-problem", markup=False)
        yield KeyHints()

    def on_mount(self) -> None:
        self._number_lanes()

    @property
    def _lanes(self) -> Sequence[_Lane]:
        return list(self.query(_Lane))

    @property
    def _shared(self) -> str:
        """What all lanes have in common, from the workbench."""
        sampling = self._spec.sampling
        told = [f"{p.title} {value}" for p in SAMPLING if (value := getattr(sampling, p.name)) not in (None, ())]
        return f"all lanes: {sampling.acceptance}, {', '.join(visible(text) for text in told)}"

    def _number_lanes(self) -> None:
        for number, lane in enumerate(self._lanes, 1):
            lane.border_title = f"Lane {number}"
        self._tell()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Lanes can be added up to the most, and removed down to the least."""
        match action:
            case "add_lane":
                return len(self._lanes) < lanes.MOST
            case "remove_lane":
                return len(self._lanes) > lanes.LEAST
        return True

    @on(MethodForm.Changed)
    @on(ParameterField.Edited)
    def _edited(self) -> None:
        self._tell()

    def _tell(self) -> None:
        """Say what stands against each lane, in place."""
        for lane in self._lanes:
            problem = ""
            if lane.form.complete:
                try:
                    lanes.checked_lane(self._spec, lane.form.spec())
                except ConfigError as error:
                    problem = str(error)
            lane.form.show_problem(problem)
        self.query_one("#compare-prompt", Static).update(self._prompts)
        self._say("")
        self.refresh_bindings()

    @property
    def _prompts(self) -> str:
        """What the lanes are measured on."""
        try:
            named = self.query(ParameterField).first().value()
        except ConfigError:
            return ""  # the field says what is wrong
        if named:
            return f"prompts: those of {visible(str(named))}, each on its own"
        own = visible(self._request.prompt.strip())
        return f"prompt: {own or 'none; name a prompt set, or write one in the workbench'}"

    def _say(self, problem: str) -> None:
        line = self.query_one("#compare-problem", Static)
        line.update(visible(on_screen(problem, lanes.WORKLOAD)))
        line.display = bool(problem)

    async def action_add_lane(self) -> None:
        """Add a lane behind the others and go there."""
        taken = [lane.form.method for lane in self._lanes]
        lane = _Lane(lanes.further_lane(self._spec, taken))
        await self.query_one("#lanes").mount(lane)
        self._number_lanes()
        lane.form.focus_first()

    async def action_remove_lane(self) -> None:
        """Remove the lane that has the focus, else the last one."""
        there = [lane for lane in self._lanes if lane.has_focus_within]
        number = self._lanes.index((there or self._lanes)[-1])
        await self._lanes[number].remove()
        self._number_lanes()
        self._lanes[min(number, len(self._lanes) - 1)].form.focus_first()

    def action_measure(self) -> None:
        """Check everything, then measure and race."""
        try:
            prompts, limit, repeats, warmup = (f.value() for f in self.query("#workload > ParameterField"))  # type: ignore[attr-defined]
            methods = [lane.form.spec() for lane in self._lanes]
            plan, requests = lanes.comparison(self._spec, methods, self._request, prompts, limit, repeats, warmup)
        except ConfigError as error:
            self._say(str(error))
            return
        from specterm.tui.screens.race import RaceScreen

        recording = self._history.begin_comparison(plan, requests)
        self.app.push_screen(RaceScreen(Measurement(self._engine, plan, requests, recording)))
