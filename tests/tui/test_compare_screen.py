"""Comparing methods from the keyboard: lanes, measuring, racing, verdict and export."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from scripted_engine import ScriptedEngine
from textual.pilot import Pilot
from textual.widgets import Input, Select, Static
from tui.fake_engine import FakeMonitor
from tui.screens import PROMPT, comes, settle, still, stills

from specterm.config import MethodSpec, PlanSpec, Request, RunSpec, SamplingSpec
from specterm.engine.job import Job
from specterm.events import RunFinished
from specterm.tui import themes
from specterm.tui.app import SpectermApp
from specterm.tui.measurement import Measurement
from specterm.tui.screens.compare import CompareScreen
from specterm.tui.screens.race import RaceScreen
from specterm.tui.widgets.method_form import MethodForm
from specterm.tui.widgets.position_bar import PositionBar
from specterm.tui.widgets.race_lane import RaceLane
from specterm.tui.widgets.verdict_table import VerdictTable

SNAPSHOTS = Path(__file__).parent / "snapshots"
SIZES = ((60, 18), (80, 24), (120, 40), pytest.param((200, 50), marks=pytest.mark.full))
GREEDY = SamplingSpec(temperature=0.0)
SPEC = RunSpec(sampling=GREEDY).checked()
METHODS = (MethodSpec(name="naive"), MethodSpec(name="draft"), MethodSpec(name="ngram"))
Compare = Callable[[str, Path], None]


class Watch:
    """A clock that is moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class HeldEngine(ScriptedEngine):
    """A scripted engine whose run `hold_at` ends only when it is cancelled."""

    def __init__(self, hold_at: int) -> None:
        super().__init__()
        self._hold_at = hold_at

    def run(self, spec: RunSpec, requests: tuple[Request, ...]) -> Job:
        job = super().run(spec, requests)
        if len(self.ran) - 1 != self._hold_at:
            return job
        held = _HeldJob()
        for event in job.drain()[:4]:
            held.put(event)
        return held


class _HeldJob(Job):
    def cancel(self) -> None:
        if not self.cancelled:
            super().cancel()
            self.put(RunFinished(0.6, "cancelled"))


def app_over(engine: ScriptedEngine, prompt: str = PROMPT, history: Path | None = None) -> SpectermApp:
    folders = (themes.shipped_folder(),)
    return SpectermApp(
        engine, FakeMonitor(), SPEC, prompt=prompt, theme_folders=folders, initial_load=False, history=history
    )


def measurement(engine: ScriptedEngine, *prompts: str, repeats: int = 2) -> Measurement:
    plan = PlanSpec(methods=METHODS, sampling=GREEDY, repeats=repeats, prompts=("prompt",)).checked()
    return Measurement(engine, plan, [Request(prompt=p, prompt_id=f"p{n}") for n, p in enumerate(prompts or (PROMPT,))])


async def raced(pilot: Pilot[None]) -> RaceScreen:
    """The race screen, once everything has been measured."""
    await comes(pilot, lambda: isinstance(pilot.app.screen, RaceScreen) and pilot.app.screen._ended)
    assert isinstance(pilot.app.screen, RaceScreen)
    return pilot.app.screen


def text_of(lane: RaceLane) -> str:
    store = lane.store
    return "".join(store.line_text(line) + store.separator(line) for line in range(store.line_count))


def said(screen: RaceScreen, part: str) -> str:
    return str(screen.query_one(f"#race-{part}", Static).render())


def methods(app: SpectermApp) -> list[str]:
    return [form.method for form in app.screen.query(MethodForm)]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "{}x{}".format(*size))
async def test_the_lanes(size: tuple[int, int], matches_snapshot: Compare) -> None:
    app = app_over(ScriptedEngine())
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("f9")
        await settle(pilot)
        assert methods(app) == ["naive", "draft", "ngram", "medusa"]
        matches_snapshot(await still(app, pilot), SNAPSHOTS / f"compare-{size[0]}x{size[1]}.svg")


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "{}x{}".format(*size))
async def test_the_race_with_a_lane_that_differs(size: tuple[int, int], matches_snapshot: Compare) -> None:
    engine, watch = ScriptedEngine({"draft": (0, 1, 2, 3, 9, 5, 6, 7)}, shortfall=5.0), Watch()
    app = app_over(engine)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await app.push_screen(RaceScreen(measurement(engine), watch))
        screen = await raced(pilot)
        watch.now += 0.95
        screen._race()
        await pilot.press("space")
        if screen._chosen != 1:
            await pilot.press("tab" if screen._chosen == 0 else "shift+tab")
        await settle(pilot)
        assert "different from token 5" in said(screen, "words")
        assert "DIFFERENT 2/2" in _cells(screen)
        async for theme, svg in stills(app, pilot, "dark", "high-contrast"):
            matches_snapshot(svg, SNAPSHOTS / f"race-{theme}-{size[0]}x{size[1]}.svg")


async def test_from_the_workbench_to_the_verdict_and_back_with_keys_only() -> None:
    engine = ScriptedEngine()
    app = app_over(engine)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("f9")
        await settle(pilot)
        await pilot.press("ctrl+l")  # the last one: the focus is in none yet
        await comes(pilot, lambda: methods(app) == ["naive", "draft", "ngram"])
        app.screen.query(Select).first().focus()
        await pilot.press("ctrl+l")  # naive, where the focus is
        await comes(pilot, lambda: methods(app) == ["draft", "ngram"])
        await pilot.press("ctrl+n")
        await comes(pilot, lambda: methods(app) == ["draft", "ngram", "naive"])
        await pilot.press("ctrl+n")
        await comes(pilot, lambda: len(methods(app)) == 4)
        await pilot.press("tab", "f9")
        screen = await raced(pilot)
        assert len(engine.ran) == 4 + 4 * 3
        assert screen._complete
        # 8 tokens, naive 0.5 + 7 x 0.1 s, draft 0.5 + 2 x 0.2 s, in every repeat.
        assert said(screen, "words") == "draft gamma 4: 1.33x (1.33 to 1.33), faster, output identical"
        await pilot.press("tab")
        assert said(screen, "words").startswith("ngram gamma 4: 1.33x")
        await pilot.press("tab", "tab", "shift+tab")
        assert said(screen, "words") == "naive: 6.7 tok/s, what the others are compared with"
        await pilot.press("escape")
        await settle(pilot)
        assert isinstance(app.screen, CompareScreen)
        await pilot.press("escape")
        await settle(pilot)
        assert app.screen is app.default_screen


async def test_play_seek_speed_and_prompts() -> None:
    engine, watch = ScriptedEngine(), Watch()
    app = app_over(engine)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await app.push_screen(RaceScreen(measurement(engine, "one", "two"), watch))
        screen = await raced(pilot)
        naive, draft, _ = screen.query(RaceLane)
        assert screen._clock.playing  # at once
        watch.now += 0.72
        screen._race()
        assert (text_of(naive), text_of(draft)) == ("onethe cat sat ", "onethe cat sat on a mat ")
        assert "playing 1x 0.72/1.20 s" in str(screen.query_one(PositionBar).render())
        assert "replayed from recorded times" in str(screen.query_one(PositionBar).render())
        await pilot.press("space", "less_than_sign", "right")
        watch.now += 100
        screen._race()
        assert (screen._clock.playing, screen._clock.speed) == (False, 0.5)
        assert screen._clock.position == pytest.approx(0.72 + 0.06)
        await pilot.press("left", "left", "greater_than_sign")
        assert screen._clock.position == pytest.approx(0.66)
        assert text_of(draft) == "onethe "
        await pilot.press("home")
        assert (screen._clock.position, text_of(draft)) == (0.0, "one")
        await pilot.press("n")
        assert "prompt 2 of 2: p1 (repeat 1 of 2, the median)" in said(screen, "head")
        watch.now += 100
        screen._race()
        assert text_of(draft) == "twothe cat sat on a mat and slept "
        assert draft.border_subtitle == "8/8 tokens ✓ 0.90 s"
        assert not screen._clock.playing
        await comes(pilot, lambda: not screen._race_timer._active.is_set())  # nothing runs while nothing moves
        await pilot.press("b")
        assert "prompt 1 of 2" in said(screen, "head")


async def test_escape_stops_within_a_round_and_what_was_measured_is_partial() -> None:
    engine = HeldEngine(hold_at=7)  # three warm-ups, a whole repeat, then the second run of the next
    app = app_over(engine)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await app.push_screen(RaceScreen(measurement(engine)))
        screen = app.screen
        assert isinstance(screen, RaceScreen)
        await comes(pilot, lambda: "run 8 of 9" in said(screen, "head"))
        assert "repeat 2, p0" in said(screen, "head")
        assert "…" in _cells(screen)  # speedups so far, outputs not compared yet
        assert screen.check_action("export", ()) is False
        assert screen.active_bindings["escape"].binding.description == "Stop"
        await pilot.press("escape")
        await raced(pilot)
        assert screen.active_bindings["escape"].binding.description == "Back"
        assert len(engine.ran) == 8
        assert "PARTIAL" in said(screen, "head")
        assert said(screen, "words").endswith("partial")
        assert screen._heats[0].repeat == 0
        assert not screen._measurement.standing.document.complete  # type: ignore[union-attr]


def _cells(screen: RaceScreen) -> set[str]:
    table = screen.query_one(VerdictTable)
    return {table._output(entry, table._style("lane")).plain for entry in table._rows}


async def test_models_that_cannot_be_loaded_and_runs_that_fail_are_said() -> None:
    for engine, why in (
        (ScriptedEngine(load_error="no such folder"), "no such folder"),
        (ScriptedEngine(fail=dict.fromkeys(("naive", "draft", "ngram"), "out of memory")), "out of memory"),
    ):
        app = app_over(engine)
        async with app.run_test(size=(120, 40)) as pilot:
            await settle(pilot)
            await app.push_screen(RaceScreen(measurement(engine)))
            screen = await raced(pilot)
            assert said(screen, "head") == f"Compare · nothing to race: {why}"
            await pilot.press("space", "n", "e", "left", "tab")
            assert app.screen is screen
            await pilot.press("escape")
            await settle(pilot)
            assert app.screen is app.default_screen


async def test_the_report_is_that_of_a_batch(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    app = app_over(engine)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await app.push_screen(RaceScreen(measurement(engine)))
        await raced(pilot)
        for folder, message in (
            (tmp_path / "out", "wrote report.json, report.csv, report.md, report.html"),
            (tmp_path / "file", "is a file"),
        ):
            (tmp_path / "file").write_text("")
            await pilot.press("e")
            await settle(pilot)
            app.screen.query_one(Input).value = str(folder)
            await pilot.press("enter")
            await app.workers.wait_for_complete()
            await comes(pilot, lambda message=message: any(message in n.message for n in app._notifications))  # type: ignore[misc]
        document = json.loads((tmp_path / "out" / "report.json").read_text())
        assert document["complete"]
        assert [entry["speedup"]["ratio"] for entry in document["summary"]] == pytest.approx([1.0, 4 / 3, 4 / 3])


async def test_what_stands_against_a_comparison_is_said_in_place() -> None:
    app = app_over(ScriptedEngine(), prompt="  ")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("f9")
        await settle(pilot)
        problem = app.screen.query_one("#compare-problem", Static)
        await pilot.press("f9")
        assert "prompt is empty" in str(problem.render())
        app.screen.query(Select)[1].value = "naive"
        await settle(pilot)
        assert not problem.display
        await pilot.press("f9")
        assert str(problem.render()).startswith("lanes 1 and 2 are both 'naive'")
        app.screen.query(Select)[1].value = "draft"
        await settle(pilot)
        assert "prompt: none; name a prompt set" in str(app.screen.query_one("#compare-prompt", Static).render())
        app.screen.query(Input).first().value = "stories, nowhere"
        await settle(pilot)
        assert "prompts: those of stories, nowhere" in str(app.screen.query_one("#compare-prompt", Static).render())
        await pilot.press("f9")
        assert "prompts is 'nowhere'" in str(problem.render())
        app.screen.query(Input).first().value = "stories"
        app.screen.query(Input)[1].value = "3"
        await settle(pilot)
        await pilot.press("f9")
        screen = await raced(pilot)
        assert len(screen._heats) == 3


async def test_while_a_run_is_going_nothing_can_be_compared() -> None:
    app = app_over(HeldEngine(hold_at=0))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("enter", "f9")
        assert app.screen is app.default_screen
        assert [n.message for n in app._notifications] == ["a run is going; Escape cancels it"]
        await pilot.press("escape")
        await settle(pilot)
