"""The function keys of the workbench do no harm on another screen: no error, no second screen, no lost measurement."""

from pathlib import Path

import pytest
from tui.fake_engine import FakeEngine, FakeMonitor
from tui.screens import comes, settle
from tui.test_compare_screen import SPEC, HeldEngine, measurement, said

from specterm.tui.app import SpectermApp
from specterm.tui.screens.compare import CompareScreen
from specterm.tui.screens.history import HistoryScreen
from specterm.tui.screens.library import PromptLibrary
from specterm.tui.screens.models import ModelsScreen
from specterm.tui.screens.race import RaceScreen

KEYS = [f"f{number}" for number in range(2, 13)]
OPENED = {"f12": ModelsScreen, "ctrl+o": HistoryScreen, "ctrl+l": PromptLibrary, "f9": CompareScreen}


def app_over(engine: FakeEngine | HeldEngine, folder: Path) -> SpectermApp:
    return SpectermApp(engine, FakeMonitor(), SPEC, prompt="Hello", initial_load=False, history=folder)


@pytest.mark.parametrize("opener", OPENED)
async def test_other_keys_leave_a_screen_as_it_is(opener: str, tmp_path: Path) -> None:
    app = app_over(FakeEngine(), tmp_path)
    async with app.run_test(size=(100, 40)) as pilot:
        await settle(pilot)
        await pilot.press(opener)
        await comes(pilot, lambda: isinstance(app.screen, OPENED[opener]))
        stack = list(app.screen_stack)
        for key in KEYS:
            if key != opener:
                await pilot.press(key)
                await settle(pilot)
                assert list(app.screen_stack) == stack, key
        assert not app._notifications


@pytest.mark.parametrize(
    ("key", "pane"), [("f3", "stream"), ("f5", "devices"), ("f6", "figures"), ("f7", "inspector"), ("f8", "rounds")]
)
async def test_the_prompt_lets_the_keys_of_the_panes_through(key: str, pane: str, tmp_path: Path) -> None:
    app = app_over(FakeEngine(), tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        assert app.focused is not None
        assert app.focused.id == "prompt"
        await pilot.press(key)
        await comes(pilot, lambda: app.focused is not None and app.focused.id == pane)


async def test_a_measurement_goes_on_whatever_function_key_is_pressed(tmp_path: Path) -> None:
    engine = HeldEngine(hold_at=2)
    app = app_over(engine, tmp_path)
    async with app.run_test(size=(100, 40)) as pilot:
        await settle(pilot)
        measured = measurement(engine)
        await app.push_screen(screen := RaceScreen(measured))
        await comes(pilot, lambda: "run 3" in said(screen, "head"))
        stack = list(app.screen_stack)
        for key in KEYS:
            await pilot.press(key)
            await settle(pilot)
            assert list(app.screen_stack) == stack, key
        assert not app._notifications
        assert not measured.cancelled
        await pilot.press("escape")
        await comes(pilot, lambda: screen._ended)
