"""Keys that come in one write, as from a terminal multiplexer: each does what it would do by itself."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Input
from tui.fake_engine import FakeEngine
from tui.screens import PROMPT, settle, workbench

from specterm.tui import key_order
from specterm.tui.screens.models import ModelsScreen
from specterm.tui.widgets.name_field import NameField
from specterm.tui.widgets.prompt_editor import PromptEditor
from specterm.tui.widgets.search_bar import SearchBar


def burst(pilot: Pilot[None], *keys: str) -> None:
    """Press keys without waiting for what they do."""
    for key in keys:
        character = key if len(key) == 1 else {"enter": "\r", "space": " "}.get(key)
        pilot.app.post_message(events.Key(key, character))


async def comes(pilot: Pilot[None], found: Callable[[], object], expected: object) -> None:
    """Wait until what is found is as expected, however slow the machine is."""
    give_up = time.monotonic() + 30
    while found() != expected and time.monotonic() < give_up:
        await pilot.pause(0.05)
    assert found() == expected


async def test_a_prompt_typed_over_another_in_one_write() -> None:
    engine = FakeEngine()
    app = workbench(engine, prompt="an old prompt")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        burst(pilot, "ctrl+u", "n", "e", "w", "backspace", "t", "ctrl+j", "x", "enter", "y")
        await comes(pilot, lambda: app.query_one(PromptEditor).text, "net\nxy")
        await comes(pilot, lambda: [requests[0].prompt for _, requests in engine.runs], ["net\nx"])


@pytest.mark.parametrize("longest_wait_s", [key_order.LONGEST_WAIT_S, 0.001])  # the latter is over long before
async def test_a_prompt_typed_before_the_first_screen_is_there_loses_no_letter(
    longest_wait_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_order, "LONGEST_WAIT_S", longest_wait_s)
    app = workbench(prompt="")
    for key in "Oliver":
        app.post_message(events.Key(key, key))
    async with app.run_test(size=(80, 24)) as pilot:
        await comes(pilot, lambda: app.query_one(PromptEditor).text, "Oliver")
        await settle(pilot)


@pytest.mark.parametrize("longest_wait_s", [key_order.LONGEST_WAIT_S, 0.001])  # the latter is over long before
async def test_letters_behind_a_key_that_moves_the_focus_go_where_it_went(
    longest_wait_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_order, "LONGEST_WAIT_S", longest_wait_s)
    app = workbench()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        burst(pilot, "f12", "ctrl+u", "a", "tab", "b", "shift+tab", "c", "escape", "d")
        await comes(pilot, lambda: app.workbench.query_one(PromptEditor).text, f"{PROMPT}d")
        burst(pilot, "f12", "ctrl+u", "a", "tab", "tab", "b", "shift+tab", "shift+tab", "c")
        # Who comes back to a field types over what it holds.
        await comes(pilot, lambda: [field.text for field in app.screen.query(NameField)][:3], ["c", "", "b"])


async def test_a_field_that_goes_away_holds_no_key_back() -> None:
    """The focused field is taken down with a key in its queue."""
    app = workbench()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("f12")
        await settle(pilot)
        assert isinstance(app.screen, ModelsScreen)
        burst(pilot, "a")
        await app.pop_screen()
        burst(pilot, "b", "c")
        await comes(pilot, lambda: app.query_one(PromptEditor).text[-2:], "bc")


async def test_a_search_typed_in_one_write_with_its_key_loses_no_letter() -> None:
    app = workbench()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        await pilot.press("f3")
        await settle(pilot)
        app.post_message(events.Key("slash", "/"))
        burst(pilot, "a", "b", "c")
        await comes(pilot, lambda: app.query_one(SearchBar).query_one(Input).value, "abc")
