"""Verifying from the workbench: one line a check, cancelling, what is refused."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from textual.geometry import Region
from textual.widgets import Static
from tui.fake_engine import FakeEngine
from tui.screens import comes, settle, still, workbench

from specterm.config import MethodSpec, RunSpec, SamplingSpec
from specterm.engine.local import LocalEngine
from specterm.tui.screens.verify import VerifyScreen
from specterm.verify.plan import VerifySpec
from specterm.verify.result import CheckResult, Difference, Models, Verification
from specterm.verify.run import Progress

SNAPSHOTS = Path(__file__).parent / "snapshots"
BASE = CheckResult(
    method="draft gamma 4", acceptance=("exact", "top-p"), check="greedy", lossless=True, lossless_reason="It is.",
    result="identical", drafted=114, accepted=63, rejected=16,
)  # fmt: skip


def changed(**fields) -> CheckResult:
    return CheckResult(**{name: getattr(BASE, name) for name in BASE.__struct_fields__} | fields)


RESULTS = (
    BASE,
    changed(check="law", result="same_law", statistic=8.2, freedom=7, critical=31.4, p_value=0.31, rows=12220,
            total_variation=0.0093, chance_variation=0.0088),
    changed(acceptance=("block",), result="different", difference=Difference(
        prompt_id="stories-1", position=7, expected=31, expected_text=" cat\x1b[2J", found=99, found_text=" [dog]",
        gap=2.5)),
    changed(acceptance=("typical",), check="distance", result="measured", lossless=False, rows=12220,
            total_variation=0.12, chance_variation=0.0088, log_probability_change=0.31, log_probability_error=0.02),
    changed(method="ngram gamma 4", result="not_tested", note="nothing was accepted", accepted=0),
)  # fmt: skip
MODELS = Models(target="builtin", drafts=("builtin",), heads={}, dtype="float32", device="CPU")


class Script:
    """Stands in for `verify`: gives the results, and waits before the last one where it is to be held."""

    def __init__(self, *, hold: bool = False) -> None:
        self.asked: list[VerifySpec] = []
        self._go = threading.Event()
        if not hold:
            self._go.set()

    def __call__(self, engine, spec, progress, *, keep, begin, cancelled) -> Verification:
        self.asked.append(spec)
        found = Verification(models=MODELS)
        for done, result in enumerate(RESULTS):
            progress(Progress(done, len(RESULTS), "draft gamma 4, exact: law", 0.5))
            while done == len(RESULTS) - 1 and not self._go.wait(0.01):
                if cancelled():
                    found.interrupted = True
                    return found
            found.results.append(result)
            keep(result)
        found.complete = True
        return found


def head(screen) -> str:
    return str(screen.query_one("#verify-head", Static).content)


@pytest.mark.parametrize("size", [(60, 18), (80, 24), (120, 40)], ids=lambda size: "{}x{}".format(*size))
async def test_results_come_line_by_line(size, matches_snapshot) -> None:
    app, script = workbench(), Script()
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        screen = VerifyScreen(FakeEngine(), RunSpec().checked(), script)
        await app.push_screen(screen)
        await pilot.press("a")
        await comes(pilot, lambda: "FAILED" in head(screen))
        assert head(screen) == "Verify · 2 passed · 1 FAILED · 1 not tested · 1 measured · builtin in float32"
        svg = await still_of(app, pilot, screen)
        assert "\x1b" not in svg
        matches_snapshot(svg, SNAPSHOTS / f"verify-{size[0]}x{size[1]}.svg")
    assert script.asked[0].methods == ()
    assert script.asked[0].rules == ()


async def test_words_stay_clear_of_their_sign_in_any_width() -> None:
    app, script = workbench(), Script()
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        screen = VerifyScreen(FakeEngine(), RunSpec().checked(), script)
        await app.push_screen(screen)
        await pilot.press("a")
        await comes(pilot, lambda: "FAILED" in head(screen))
        await comes(pilot, lambda: [bool(region) for region in regions(screen)] == [True] * len(RESULTS))
        wide = regions(screen)
        await pilot.resize_terminal(60, 18)
        await comes(pilot, lambda: max(region.right for region in regions(screen)) <= 60)
        narrow = regions(screen)
        assert len(narrow) == len(RESULTS)
        assert {region.x for region in (*wide, *narrow)} == {3}
        assert sum(region.height for region in narrow) > sum(region.height for region in wide)
        await pilot.press("enter")  # another verification begins with none of these
        await comes(pilot, lambda: len(script.asked) == 2 and "FAILED" in head(screen))
        assert len(screen.query(".verify--words")) == len(RESULTS)


def regions(screen) -> list[Region]:
    return [words.region for words in screen.query(".verify--words")]


async def still_of(app, pilot, screen) -> str:
    screen.query_one("#verify-body").scroll_home(animate=False)
    app.set_focus(None)
    return await still(app, pilot)


def escape_does(screen) -> str:
    return screen.active_bindings["escape"].binding.description


async def test_a_fault_of_the_checks_is_told_and_can_be_left() -> None:
    def faulty(*_: object, **__: object) -> Verification:
        raise RuntimeError("no such kernel")

    app = workbench()
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        screen = VerifyScreen(FakeEngine(), RunSpec().checked(), faulty)
        await app.push_screen(screen)
        await pilot.press("enter")
        await comes(pilot, lambda: "not verified: no such kernel" in head(screen))
        await pilot.press("escape")
        await comes(pilot, lambda: app.screen is app.workbench)


async def test_escape_stops_and_then_goes_back() -> None:
    app, script = workbench(), Script(hold=True)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        screen = VerifyScreen(FakeEngine(), RunSpec().checked(), script)
        await app.push_screen(screen)
        introduction = screen.query_one("#verify-introduction", Static)
        assert introduction.is_on_screen
        await pilot.press("enter")
        await comes(pilot, lambda: "5 of 5" in head(screen))
        assert not introduction.display
        assert "50%" in head(screen)
        assert escape_does(screen) == "Stop"
        await pilot.press("a")  # one at a time
        await pilot.press("escape")
        await comes(pilot, lambda: "stopped" in head(screen))
        assert escape_does(screen) == "Back"
        assert len(script.asked) == 1
        assert script.asked[0].rules == ("exact",)
        assert [method.name for method in script.asked[0].methods] == ["draft"]
        await pilot.press("escape")
        await pilot.pause()
        assert not isinstance(app.screen, VerifyScreen)


async def test_an_engine_without_models_is_refused() -> None:
    app = workbench()
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("f3", "v")
        await settle(pilot)
        assert not isinstance(app.screen, VerifyScreen)
        assert any("could be asked" in notice.message for notice in app._notifications)


async def test_the_built_in_models_are_verified_from_the_workbench() -> None:
    spec = RunSpec(method=MethodSpec(name="ngram"), sampling=SamplingSpec(temperature=0.0)).checked()
    app = workbench(LocalEngine(), spec=spec)
    async with app.run_test(size=(120, 40)) as pilot:
        await comes(pilot, lambda: app.workbench.runs.jobs.load is None or app.workbench.runs.jobs.load.finished)
        await pilot.press("f3", "v")
        await comes(pilot, lambda: isinstance(app.screen, VerifyScreen))
        await pilot.press("enter")
        await comes(pilot, lambda: "passed" in head(app.screen))
        assert head(app.screen).startswith("Verify · 1 passed · 0 FAILED")
    app._engine.close()
