"""The lanes of a comparison: measured one after the other, then raced side by side; and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Static

from specterm.bench.summary import Summary
from specterm.report.document import Document
from specterm.tui.head_line import head_line
from specterm.tui.measurement import Measured
from specterm.tui.race import Heat, RaceClock, heats
from specterm.tui.report_export import export_report
from specterm.tui.screens.sized import SizedScreen
from specterm.tui.verdict_words import difference_text, figures_text, sentence
from specterm.tui.widgets.key_hints import KeyHints
from specterm.tui.widgets.legend import Legend
from specterm.tui.widgets.position_bar import PositionBar
from specterm.tui.widgets.race_lane import RaceLane
from specterm.tui.widgets.verdict_table import ALL_COLUMNS_WIDTH, VerdictTable
from specterm.tui.widgets.visible_text import visible

MEASURING_INTERVAL_S = 1.0  # every paint takes time from the engine that is being timed
FRAMES_PER_SECOND = 10.0
_SEEK_SHARE = 0.05
_MEDIUM, _WIDE = 80, 110  # columns from which two lanes, or all, are shown
_RACING = frozenset(("play", "pace", "seek", "restart"))


class RaceScreen(SizedScreen[None]):
    """Runs `measurement` in a thread and replays what it recorded. `title` says which one it is; `clock` counts the
    seconds of whoever watches."""

    CSS_PATH = "race.tcss"
    HELP = """\
## Race

While it measures, the screen is painted once a second and **Escape** stops within a round; what was measured is
kept and called partial. Then all lanes replay the same repeat of a prompt, the one of the median time, on a common
clock of recorded times: **Space** plays and pauses, **<** and **>** change the speed, **Left** and **Right** seek,
**Home** restarts, **n** takes the next prompt. **Tab** goes to the next lane; the line below the table says what it is
worth. Speedup is against naive in the same run, with the 95 % interval over prompts (over repeats of a single one).
**▶** stands before the first token that is not naive's. **d** says how to deploy the setting that won, **e** writes
the report that `--batch` writes. The history keeps the comparison.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "lane(1)", "Lane", id="race.lane", tooltip="Go to the next lane"),
        Binding("escape", "stop", "Stop", id="race.stop", tooltip="Stop measuring, and keep what was measured"),
        Binding("escape", "back", "Back", id="race.back", tooltip="Go back to where the race was opened"),
        Binding("space", "play", "Play", id="race.play", tooltip="Play or pause"),
        Binding("d", "deploy", "Deploy", id="race.deploy", tooltip="How to deploy the setting that won"),
        Binding("e", "export", "Export", id="race.export", tooltip="Write the report of --batch into a folder"),
        Binding("left", "seek(-1)", "Seek", id="race.seek_back", tooltip="Seek back"),
        Binding("right", "seek(1)", "Seek", id="race.seek_on", tooltip="Seek on"),
        Binding("less_than_sign,comma", "pace(-1)", "Slower", id="race.slower", tooltip="Play slower", key_display="<"),
        Binding(
            "greater_than_sign,full_stop", "pace(1)", "Faster", id="race.faster", tooltip="Play faster", key_display=">"
        ),
        Binding("home", "restart", "Restart", id="race.restart", tooltip="Go to the start", show=False),
        Binding("shift+tab", "lane(-1)", "Lane back", id="race.lane_back", tooltip="The lane before", show=False),
        Binding("n", "prompt(1)", "Prompt", id="race.prompt", tooltip="Race the next prompt"),
        Binding("b", "prompt(-1)", "Prompt back", id="race.prompt_back", tooltip="The prompt before", show=False),
    ]

    def __init__(self, measurement: Measured, clock: Callable[[], float] = time.monotonic, *, title: str = "") -> None:
        super().__init__()
        self._measurement, self._title_told = measurement, title
        self._now = clock
        self._configurations = [method.label for method in measurement.plan.methods]
        names = [method.name for method in measurement.plan.methods]
        self._naive = names.index("naive") if "naive" in names else None
        self._heats: list[Heat] = []
        self._heat = 0
        self._chosen = 0
        self._clock = RaceClock(0.0, clock)
        self._ended = False

    def compose(self) -> ComposeResult:
        yield Static("specterm needs a terminal of at least 60 x 18", id="too-small")
        yield Static("", id="race-head", markup=False)
        with Horizontal(id="race-lanes"):
            for configuration in self._configurations:
                yield RaceLane(configuration)
        yield PositionBar(id="race-position")
        yield VerdictTable(id="race-verdict")
        yield Static("", id="race-words", markup=False)
        yield Static("", id="race-deploy", markup=False)
        yield Legend(id="legend")
        yield KeyHints()

    def on_mount(self) -> None:
        self._lanes = list(self.query(RaceLane))
        self._bar = self.query_one(PositionBar)
        self._table = self.query_one(VerdictTable)
        self._race_timer = self.set_interval(1 / FRAMES_PER_SECOND, self._race, pause=True)
        self._choose(0)
        self._worker = self.run_worker(self._measurement.run, thread=True, exit_on_error=False)
        self._poll_timer = self.set_interval(MEASURING_INTERVAL_S, self._poll)
        self._poll()

    def on_unmount(self) -> None:
        self._measurement.cancel()

    # Measuring

    def _poll(self) -> None:
        """Show how the trials stand; when they have ended, begin the race."""
        standing = self._measurement.standing
        if standing.ended or self._worker.is_finished:
            self._poll_timer.pause()
            self._end()
        else:
            progress = standing.progress
            if self._measurement.cancelled:
                self._head("stopping within a round")
            elif progress is None:
                self._head("loading the models · Escape stops")
            else:
                self._head(f"measuring run {progress.done + 1} of {progress.total} · Escape stops · {progress.doing}")
        self._tell()

    def _end(self) -> None:
        standing = self._measurement.standing
        self._ended = True
        naive = None if self._naive is None else self._configurations[self._naive]
        self._heats = heats(self._configurations, naive, self._measurement.recorded)
        if not self._heats:
            why = standing.error or (str(self._worker.error) if self._worker.error else self._failure)
            self._head(f"nothing to race: {why}")
        else:
            ratios = [entry.speedup.ratio if entry.speedup else 0.0 for entry in standing.summary]
            self._choose(ratios.index(max(ratios)) if ratios else 0)
            self._start_heat(0)
            if self._document is not None:
                self.query_one("#race-deploy", Static).update(visible(self._document.deployment.verdict))
        self.refresh_bindings()

    @property
    def _failure(self) -> str:
        failures = self._document.failures if self._document else []
        return failures[0].error if failures else "it was stopped before a run had ended"

    @property
    def _document(self) -> Document | None:
        return self._measurement.standing.document

    @property
    def _complete(self) -> bool:
        return self._document is not None and self._document.complete

    @property
    def _chat(self) -> bool:
        """Whether prompts went through a chat template."""
        plan, models = self._measurement.plan, self._document.models if self._document else None
        own = models is not None and models.target.chat_template
        return plan.chat and (plan.chat_template is not None or own)

    def _head(self, text: str) -> None:
        self.query_one("#race-head", Static).update(head_line("Compare", self._title_told, text))

    # The race

    def _start_heat(self, number: int) -> None:
        """Race a prompt from its start."""
        self._heat = number
        heat = self._heats[number]
        for lane, lap in zip(self._lanes, heat.laps, strict=True):
            lane.show(lap)
        self._clock = RaceClock(heat.seconds, self._now)
        self._bar.show(self._clock)
        partial = "" if self._complete else "PARTIAL, stopped · "
        repeat = f"repeat {heat.repeat + 1} of {self._measurement.plan.repeats}, the median"
        turn = ", a turn through the chat template" if self._chat else ""
        self._head(f"{partial}prompt {number + 1} of {len(self._heats)}: {heat.prompt_id}{turn} ({repeat})")
        self.action_play()

    def _race(self) -> None:
        """Bring every lane to the clock's time."""
        self._clock.tick()
        for lane in self._lanes:
            lane.advance(self._clock.position)
        self._bar.draw()
        if not self._clock.playing:
            self._race_timer.pause()

    def action_play(self) -> None:
        """Play or pause."""
        self._clock.toggle()
        self._race_timer.resume()

    def action_pace(self, step: int) -> None:
        """Change the speed."""
        self._clock.change_pace(step)
        self._race()

    def action_seek(self, step: int) -> None:
        """Go back or on by a twentieth of the race."""
        self._clock.seek(self._clock.position + step * _SEEK_SHARE * self._clock.seconds)
        self._race()

    def action_restart(self) -> None:
        """Go to the start."""
        self._clock.seek(0.0)
        self._race()

    def action_prompt(self, step: int) -> None:
        """Race another prompt."""
        self._start_heat((self._heat + step) % len(self._heats))
        self._tell()

    # Lanes and verdict

    def on_resize(self, event: events.Resize) -> None:
        self._arrange()
        self._tell()

    def action_lane(self, step: int) -> None:
        """Go to another lane."""
        self._choose((self._chosen + step) % len(self._lanes))
        self._tell()

    def _choose(self, lane: int) -> None:
        self._chosen = lane
        self._arrange()
        self._lanes[lane].focus()

    def _arrange(self) -> None:
        """Show the lanes that there is room for: all, the chosen one beside naive's (or its neighbour), or it alone."""
        beside = self._naive or 0
        if self._chosen == beside:
            beside = (beside + 1) % len(self._lanes)
        width = self.size.width
        for number, lane in enumerate(self._lanes):
            lane.display = number == self._chosen or width >= _WIDE or (width >= _MEDIUM and number == beside)

    def _tell(self) -> None:
        """Show the verdict as far as it is known."""
        summary = self._measurement.standing.summary
        reference = None if self._naive is None else self._configurations[self._naive]
        self._table.show(summary, self._chosen, reference, compared=self._ended)
        words = self.query_one("#race-words", Static)
        if not summary:
            words.update("")
            return
        words.update("\n".join(self._words(summary[self._chosen])))

    def _words(self, entry: Summary) -> list[str]:
        """What there is to say about the chosen lane."""
        reference = self._chosen == self._naive
        compared = self._document is not None
        told = [visible(sentence(entry, reference=reference, complete=self._complete, compared=compared))]
        if self._heats and self._naive is not None:
            laps = self._heats[self._heat].laps
            lap, naive = laps[self._chosen], laps[self._naive]
            if lap is not None and naive is not None and lap.difference is not None:
                told.append(difference_text(entry.configuration, lap, naive, free=not entry.matches_naive))
        if self.size.width < ALL_COLUMNS_WIDTH:
            told.append(figures_text(entry))
        return told

    # Actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The race has keys when there is one, and a report when there are trials, which Escape stops first."""
        match action:
            case "prompt":
                return len(self._heats) > 1
            case "export" | "deploy":
                return bool(self._heats) and self._document is not None
            case "stop":
                return not self._ended and not self._measurement.cancelled
            case "back":
                return self._ended
        return action not in _RACING or bool(self._heats)

    def action_stop(self) -> None:
        """Stop measuring."""
        self._measurement.cancel()
        self._poll()
        self.refresh_bindings()

    def action_back(self) -> None:
        """Go back to the lanes, or to the history."""
        self.dismiss(None)

    def action_deploy(self) -> None:
        """Say how to deploy the setting that won."""
        from specterm.tui.screens.deploy import DeployScreen

        assert self._document is not None
        self.app.push_screen(DeployScreen(self._document.deployment))

    def action_export(self) -> None:
        """Ask for a folder and write the report into it."""
        assert self._document is not None
        export_report(self, self._document, self._measurement.plan.formats)
