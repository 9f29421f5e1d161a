"""The screen as it looks, at the sizes it is made for and in two themes."""

from collections.abc import Callable
from pathlib import Path

import pytest
from textual.widgets import Select
from tui.fake_engine import CPU, FakeEngine
from tui.screens import PROMPT, settle, still, stills, workbench

from specterm.tui.widgets.token_log import TokenLog

SNAPSHOTS = Path(__file__).parent / "snapshots"
SIZES = ((60, 18), (80, 24), (120, 40), pytest.param((200, 50), marks=pytest.mark.full))
Compare = Callable[[str, Path], None]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "{}x{}".format(*size))
async def test_a_finished_run_with_rejected_tokens(size: tuple[int, int], matches_snapshot: Compare) -> None:
    app = workbench()
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("enter", "ctrl+r")
        async for theme, svg in stills(app, pilot, "dark", "light"):
            assert "Lily" in svg
            matches_snapshot(svg, SNAPSHOTS / f"run-{theme}-{size[0]}x{size[1]}.svg")


@pytest.mark.parametrize("pane", ["f4", "f5", "f6"])
async def test_each_pane_is_reached_with_a_key_in_a_small_terminal(pane: str, matches_snapshot: Compare) -> None:
    app = workbench()
    async with app.run_test(size=(60, 18)) as pilot:
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        await pilot.press(pane)
        svg = await still(app, pilot)
        assert not app.query_one(TokenLog).is_on_screen
        matches_snapshot(svg, SNAPSHOTS / f"pane-{pane}-60x18.svg")
        await pilot.press("escape")
        await settle(pilot)
        assert app.query_one(TokenLog).is_on_screen


async def test_nothing_known_is_n_a_and_never_zero(matches_snapshot: Compare) -> None:
    app = workbench(FakeEngine(load=()), readings=(CPU,))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        matches_snapshot(await still(app, pilot), SNAPSHOTS / "start-120x40.svg")


@pytest.mark.parametrize("size", [(59, 30), (100, 17), (20, 5)], ids=str)
async def test_a_terminal_that_is_too_small_says_so(size: tuple[int, int]) -> None:
    app = workbench()
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        assert app.query_one("#too-small").is_on_screen
        assert not app.query_one("#body").display
        await pilot.resize_terminal(60, 18)
        await settle(pilot)
        assert not app.query_one("#too-small").display
        assert app.query_one(TokenLog).is_on_screen


async def test_resizing_through_every_layout_keeps_the_text() -> None:
    app = workbench()
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        for size in ((80, 24), (60, 18), (200, 50), (59, 17), (120, 40)):
            await pilot.resize_terminal(*size)
            await settle(pilot)
        store = app.query_one(TokenLog).store
        text = "".join(store.line_text(line) + store.separator(line) for line in range(store.line_count))
        assert text.startswith(f"{PROMPT}Once upon a time, there was")
        assert text.endswith("One day, Lily saw")


async def test_the_method_list_opens_over_the_form() -> None:
    app = workbench()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("f4")
        await settle(pilot)
        assert app.focused is app.query_one("#method", Select)
        await pilot.press("enter")
        await settle(pilot)
        assert app.query_one("#method", Select).expanded
