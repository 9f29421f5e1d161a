"""Nothing happens: then hardly anything wakes up."""

import asyncio

import pytest
from textual.timer import Timer
from tui.fake_engine import CPU, FakeEngine
from tui.screens import comes, settle, workbench

from specterm.tui import idling
from specterm.tui.idling import Pace
from specterm.tui.widgets.prompt_editor import PromptEditor


async def test_at_rest_nothing_wakes_up_but_the_look_at_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[Timer] = []
    tick = Timer._tick

    async def counted(timer: Timer, *, next_timer: float, count: int) -> None:
        woken.append(timer)
        await tick(timer, next_timer=next_timer, count=count)

    monkeypatch.setattr(Timer, "_tick", counted)
    app = workbench(readings=(CPU,))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        monkeypatch.setattr(idling, "RESTS_AFTER_S", 0.0)
        app.workbench.idling._tick()
        assert app.workbench.idling.pace is Pace.RESTING
        assert app.workbench._monitor.resting
        assert not app.query_one(PromptEditor).cursor_blink
        await settle(pilot)
        woken.clear()
        await asyncio.sleep(1.5)
        assert len(woken) <= 1
        monkeypatch.setattr(idling, "RESTS_AFTER_S", 60.0)
        await pilot.press("x")
        assert app.workbench.idling.pace is Pace.QUIET
        assert not app.workbench._monitor.resting
        assert app.query_one(PromptEditor).cursor_blink
        woken.clear()
        await asyncio.sleep(1.5)
        assert 1 <= len(woken) <= 6  # a look a second, and the cursor


async def test_while_a_run_goes_the_devices_are_looked_at_often() -> None:
    app = workbench(FakeEngine(hold=True))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.workbench.idling._tick()
        assert app.workbench.idling.pace is Pace.QUIET
        await pilot.press("enter")
        await comes(pilot, lambda: app.workbench.idling.pace is Pace.BUSY)
        await pilot.press("escape")
        await settle(pilot)
        app.workbench.idling._tick()
        assert app.workbench.idling.pace is Pace.QUIET
