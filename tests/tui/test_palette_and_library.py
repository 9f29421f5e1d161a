"""The command palette knows every action; the library brings prompts into the editor."""

from pathlib import Path

import pytest
from textual.command import CommandList, CommandPalette
from textual.widgets import Input, OptionList
from tui.fake_engine import FakeEngine, FakeMonitor
from tui.screens import settle, workbench

from specterm.config import RunSpec
from specterm.settings import Settings
from specterm.tui import themes
from specterm.tui.app import SpectermApp
from specterm.tui.keymap import binding_ids
from specterm.tui.memory import Memory
from specterm.tui.palette import Actions
from specterm.tui.screens.library import PromptLibrary
from specterm.tui.widgets.key_hints import KeyHints
from specterm.tui.widgets.prompt_editor import PromptEditor


async def offered(app: SpectermApp) -> dict[str, str]:
    """What the palette offers: the help of each action by its title."""
    return {str(hit.display): str(hit.help) async for hit in Actions(app.default_screen).discover()}


async def test_the_palette_offers_every_action_of_the_workbench_with_its_keys() -> None:
    app = SpectermApp(
        FakeEngine(),
        FakeMonitor(),
        RunSpec().checked(),
        theme_folders=(themes.shipped_folder(),),
        settings=Settings(keymap={"app.theme": "f9"}),
    )
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        found = await offered(app)
        assert found["Change to the next theme"] == "f9 · specterm · app.theme"
        assert found["Search the text of the stream"] == "/ · Stream · stream.search"
        assert found["Generate from the prompt"].endswith("Prompt · completion · prompt.submit")
        assert "To the next token" not in found  # there is no cursor yet
        ids = {told.rpartition(" · ")[2] for told in found.values()}
        panes = ("app.", "pane.", "prompt.", "stream.")
        missing = {name for name in binding_ids() if name.startswith(panes)} - ids
        # The same action under another id, and what cannot be done now.
        assert missing <= {
            "app.back", "app.cancel", "app.close_help", "prompt.figures", "prompt.inspector", "prompt.setup",
            "stream.cancel", "stream.rejected", "stream.end", "stream.home", "stream.line-down", "stream.line-up",
            "stream.up", "stream.down", "stream.start", "stream.follow", "stream.end-search", "stream.next-match",
            "stream.previous-match",
        }  # fmt: skip


async def test_an_action_of_the_palette_is_done_where_it_belongs() -> None:
    app = workbench()
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        await pilot.press("ctrl+p", *"move a cursor")
        await app.workers.wait_for_complete()
        await settle(pilot)
        assert CommandPalette.is_open(app)
        assert app.screen.query_one(CommandList).region.width == 100  # not as wide as the terminal
        assert "Change to the next theme" in await offered(app)
        assert "Go to the figures" in await offered(app)
        await pilot.press("down", "enter")
        await settle(pilot)
        if CommandPalette.is_open(app):
            await pilot.press("enter")
            await settle(pilot)
        assert app.query_one("#stream")._cursor is not None  # type: ignore[attr-defined]


async def test_an_open_palette_has_the_colours_of_a_theme_that_is_chosen_meanwhile() -> None:
    app = workbench()
    painted: dict[str, list[str]] = {}
    async with app.run_test(size=(80, 24)) as pilot:
        for before, after in (("light", "light"), ("dark", "light"), ("dark", "dark")):
            app.theme = before
            await settle(pilot)
            await pilot.press("ctrl+p", *"theme")
            await app.workers.wait_for_complete()
            app.theme = after
            await settle(pilot)
            assert CommandPalette.is_open(app)
            found = app.screen.query_one(CommandList).region
            strips = app.screen._compositor.render_strips()[found.y : found.bottom]
            assert strips
            painted[f"{before} to {after}"] = ["".join(f"{s.text}<{s.style}>" for s in strip) for strip in strips]
            await pilot.press("escape")
            await settle(pilot)
    assert painted["dark to light"] == painted["light to light"]
    assert painted["dark to dark"] != painted["light to light"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    own = tmp_path / "prompts"
    own.mkdir()
    (own / "mine.txt").write_text("Write a limerick\nWrite [bold]a sonnet\x1b[2J\n")
    (own / "broken.json").write_text("{")
    (own / "readme.md").write_text("x")
    monkeypatch.setattr("specterm.tui.screens.workbench.prompts_folder", lambda: own)
    return own


async def test_a_prompt_is_chosen_from_the_library(folder: Path) -> None:
    app = workbench()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.query_one(PromptEditor).remember("an earlier one")
        await pilot.press("ctrl+l")
        await settle(pilot)
        screen = app.screen
        assert isinstance(screen, PromptLibrary)
        assert "broken.json: not valid JSON" in [n.message for n in app._notifications][-1]
        options = screen.query_one(OptionList)
        assert options.option_count == 33
        screen.query_one(Input).value = "mine SONNET"
        await settle(pilot)
        assert options.option_count == 1
        assert str(options.get_option_at_index(0).prompt).endswith("Write [bold]a sonnet␛[2J")
        screen.query_one(Input).value = "nowhere"
        await settle(pilot)
        hints = screen.query_one(KeyHints)
        assert hints.render_line(0).text.split() == ["esc", "Cancel"]
        await pilot.press("up", "down", "enter")
        assert app.screen is screen
        screen.query_one(Input).value = "mine"
        await settle(pilot)
        await pilot.press("down", "up", "enter")
        await settle(pilot)
        editor = app.query_one(PromptEditor)
        assert editor.text == "Write a limerick"
        assert app.focused is editor
        await pilot.press("ctrl+l")
        await settle(pilot)
        app.screen.query_one(Input).value = "earlier"
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert editor.text == "an earlier one"
        await pilot.press("ctrl+z")
        assert editor.text == "Write a limerick"


async def run_one(folder: Path, *, history: bool = True) -> SpectermApp:
    """A session in which the prompt "Hello" runs."""
    app = SpectermApp(
        FakeEngine(),
        FakeMonitor(),
        RunSpec().checked(),
        prompt="Hello",
        theme_folders=(themes.shipped_folder(),),
        history=folder / "data" if history else None,
        memory=Memory(folder / "state"),
    )
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        await app.action_quit()
    return app


async def test_prompts_are_recalled_in_the_next_session_unless_the_history_is_off(tmp_path: Path) -> None:
    from specterm.history.archive import Archive

    await run_one(tmp_path, history=False)
    assert Memory(tmp_path / "state").prompts() == []
    await run_one(tmp_path)
    assert Memory(tmp_path / "state").prompts() == ["Hello"]
    app = await run_one(tmp_path)
    assert app.workbench._memory.prompts() == ["Hello"]
    Memory(tmp_path / "state").forget_prompts()
    Archive(tmp_path / "data").set_recording(False)
    await run_one(tmp_path)
    assert Memory(tmp_path / "state").prompts() == []
