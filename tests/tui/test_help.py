"""The help on the focused pane: Escape closes it, and does nothing else then, on every screen."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from tui.fake_engine import FakeEngine, FakeMonitor
from tui.screens import comes, settle, workbench

from specterm.config import RunSpec
from specterm.tui.app import SpectermApp
from specterm.tui.screens.compare import CompareScreen
from specterm.tui.screens.history import HistoryScreen
from specterm.tui.screens.models import ModelsScreen
from specterm.tui.screens.workbench import WorkbenchScreen
from specterm.tui.widgets.key_hints import KeyHints


@pytest.mark.parametrize(
    ("keys", "screen"),
    [((), WorkbenchScreen), (("f9",), CompareScreen), (("f12",), ModelsScreen), (("ctrl+o",), HistoryScreen)],
)
async def test_escape_closes_the_help_and_leaves_the_screen_as_it_is(
    keys: Sequence[str], screen: type, tmp_path: Path
) -> None:
    app = SpectermApp(FakeEngine(), FakeMonitor(), RunSpec().checked(), history=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press(*keys)
        await comes(pilot, lambda: isinstance(app.screen, screen))
        hints = app.screen.query_one(KeyHints)
        before = hints.render_line(0).text
        await pilot.press("f1")
        await comes(pilot, lambda: "esc Close help" in hints.render_line(0).text)
        assert app.screen.query("HelpPanel")
        await pilot.press("escape")
        await comes(pilot, lambda: hints.render_line(0).text == before)
        assert not app.screen.query("HelpPanel")
        assert isinstance(app.screen, screen)


async def test_escape_closes_the_help_before_it_cancels_a_run() -> None:
    app = workbench(engine := FakeEngine(hold=True))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("enter")
        await comes(pilot, lambda: bool(engine.jobs))
        await pilot.press("f1", "escape")
        await comes(pilot, lambda: not app.screen.query("HelpPanel"))
        assert not engine.jobs[0].cancelled
        await pilot.press("escape")
        await comes(pilot, lambda: engine.jobs[0].cancelled)
