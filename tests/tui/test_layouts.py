"""The layout fits the terminal from the first frame on, under other screens too, and nothing is pushed out of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from textual.app import ComposeResult
from textual.pilot import Pilot
from textual.widgets import Markdown
from textual.widgets._toast import Toast
from tui.fake_engine import CPU, GPU
from tui.screens import comes, settle, workbench

from specterm.config import ModelSpec
from specterm.metrics.verdict import Verdict
from specterm.tui.screens import models
from specterm.tui.screens.dialogs import AskPath, AskText, Confirm
from specterm.tui.screens.library import PromptLibrary
from specterm.tui.screens.models import ModelsScreen
from specterm.tui.widgets.figures import FiguresPanel
from specterm.tui.widgets.key_hints import KeyHints
from specterm.tui.widgets.prompt_editor import PromptEditor


class _Watched(ModelsScreen):
    """Keeps the classes that its widgets and each layout were made with."""

    CSS_PATH = Path(models.__file__).with_name("models.tcss")

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.composed: list[frozenset[str]] = []
        self.laid_out: list[frozenset[str]] = []

    def compose(self) -> ComposeResult:
        self.composed.append(self.classes)
        yield from super().compose()

    def _refresh_layout(self, *given: Any, **options: Any) -> None:
        self.laid_out.append(self.classes)
        super()._refresh_layout(*given, **options)


async def test_a_screen_is_laid_out_for_its_size_at_once(tmp_path: Path) -> None:
    app = workbench()
    async with app.run_test(size=(60, 18)) as pilot:
        await settle(pilot)
        recent: Sequence[ModelSpec] = ()
        screen = _Watched(ModelSpec(), recent, ("cpu",), tmp_path)
        await app.push_screen(screen)
        await settle(pilot)
        assert screen.laid_out
        assert screen.composed
        assert all({"-narrow", "-short"} <= classes for classes in (*screen.composed, *screen.laid_out))


async def test_a_screen_that_was_covered_while_the_terminal_shrank_fits_afterwards() -> None:
    app = workbench()
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        assert app.workbench.has_class("-wide", "-tall")
        await pilot.press("f12")
        await settle(pilot)
        await pilot.resize_terminal(60, 18)
        await pilot.press("escape")
        await settle(pilot)
        assert app.screen is app.workbench
        assert app.workbench.has_class("-narrow", "-short")
        assert not app.workbench.has_class("-wide")
        assert app.workbench.query_one("#figures-bar").display


@pytest.mark.parametrize("size", [(110, 32), (120, 40), (200, 50)], ids=str)
async def test_a_verdict_pushes_no_pane_out_of_the_side_column(size: tuple[int, int]) -> None:
    app = workbench(readings=(GPU, CPU))
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        lost = "speculation is losing: about 0.53x naive; drafting takes 48% of a round, acceptance length 2.00 against"
        verdict = Verdict("losing: about 0.53x", f"{lost} break-even 3.80", "try --adaptive, or naive")
        app.workbench.query_one(FiguresPanel).show({}, "live", verdict)
        await settle(pilot)
        side = app.workbench.query_one("#side").region
        for pane in ("settings", "figures", "devices"):
            region = app.workbench.query_one(f"#{pane}").region
            assert region.height >= 6, pane
            assert side.contains_region(region), pane


@pytest.mark.parametrize("size", [(60, 18), (80, 24), (120, 28), (120, 40)], ids=str)
async def test_what_is_told_covers_neither_the_prompt_nor_a_field_nor_the_keys(size: tuple[int, int]) -> None:
    app = workbench()
    async with app.run_test(size=size, notifications=True) as pilot:
        await settle(pilot)
        app.notify("the prompt is empty; write one, or choose one with Ctrl+L", title="Cannot generate", timeout=60)
        await comes(pilot, lambda: any(toast.region for toast in app.screen.query(Toast)))
        (toast,) = app.screen.query(Toast)
        told = app.screen.find_widget(toast)
        assert told.visible_region == told.region, "it is to be read to its end"
        controls = [c for c in app.screen.query("Input, TextArea, Select, Checkbox, KeyHints, TokenStream") if c.region]
        assert len(controls) > 2
        for control in controls:
            region = app.screen.find_widget(control).visible_region.intersection(control.content_region)
            assert not region.intersection(toast.region), control
        bottom = app.screen.query_one(KeyHints).region.y
        assert bottom - toast.region.bottom <= 1, "it stands right above the keys"


@pytest.mark.parametrize("size", [(60, 18), (80, 24), (120, 28), (120, 40), (200, 50)], ids=str)
async def test_several_long_notices_leave_the_whole_prompt_free_and_the_newest_can_be_read(
    size: tuple[int, int],
) -> None:
    app = workbench()
    long = "there is no model folder /models/of/somebody/llama; name a folder, a hub id (owner/model) or 'builtin'"
    async with app.run_test(size=size, notifications=True) as pilot:
        await settle(pilot)
        for told in (long, "the prompt is empty; write one, or choose one with Ctrl+L", f"the last: {long}"):
            app.notify(told, title="Loading failed", severity="error", timeout=60, markup=False)
        await comes(pilot, lambda: len(app.screen.query(Toast)) == 3)
        shown = [app.screen.find_widget(toast) for toast in app.screen.query(Toast) if toast.display and toast.region]
        assert shown
        for place in shown:
            for pane in app.screen.query("PromptEditor, SettingsPanel, KeyHints"):
                assert not place.visible_region.overlaps(pane.region), pane
        newest = app.screen.query(Toast).last()
        assert "the last: there is" in str(newest.render())
        assert app.screen.find_widget(newest).visible_region == newest.region, "it is to be read to its end"


DIALOGS = {
    "confirm": lambda: Confirm("Delete this run?"),
    "path": lambda: AskPath("Write to", "out.md"),
    "text": lambda: AskText("System prompt", "Be kind."),
    "library": lambda: PromptLibrary(Path("prompts"), ()),
}


@pytest.mark.parametrize("dialog", DIALOGS)
@pytest.mark.parametrize("size", [(60, 18), (80, 24)], ids=str)
async def test_what_is_told_over_a_dialog_leaves_its_fields_and_keys_free(size: tuple[int, int], dialog: str) -> None:
    app = workbench()
    async with app.run_test(size=size, notifications=True) as pilot:
        await settle(pilot)
        await app.push_screen(DIALOGS[dialog]())
        app.notify("Prompts skipped: /home/somebody/prompts/sonnets.jsonl: line 3 is not valid JSON", timeout=60)
        await comes(pilot, lambda: any(toast.region for toast in app.screen.query(Toast)))
        (toast,) = app.screen.query(Toast)
        assert toast.is_on_screen
        assert toast.region.height == 2
        for control in app.screen.query("Input, TextArea, OptionList, KeyHints"):
            assert not control.region.overlaps(toast.region), control


async def _rows_shown(pilot: Pilot[None]) -> set[int]:
    """The rows of the help on the focused pane that F1 shows, one page after the other."""
    text = pilot.app.screen.query_one("#widget-help", Markdown)
    seen: set[int] = set()
    while pilot.app.screen.query("HelpPanel"):
        top = int(text.scroll_offset.y)
        rows = range(top, top + text.scrollable_content_region.height)
        assert not seen.issuperset(rows)
        seen.update(rows)
        await pilot.press("f1")
        await settle(pilot)
    return seen


@pytest.mark.parametrize("size", [(60, 18), (80, 24), (120, 40)], ids=str)
async def test_every_line_of_the_help_comes_into_sight_with_the_key_that_shows_it(size: tuple[int, int]) -> None:
    app = workbench()
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("f1")
        await settle(pilot)
        text = app.screen.query_one("#widget-help", Markdown)
        height = text.virtual_size.height
        assert height > 5
        assert await _rows_shown(pilot) >= set(range(height))


@pytest.mark.parametrize("pane", ["f2", "f4"])
async def test_keys_go_to_the_prompt_again_when_the_terminal_was_too_small_for_it(pane: str) -> None:
    app = workbench(prompt="")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press(pane)
        await settle(pilot)
        assert app.focused is not None
        for size in ((20, 5), (80, 24)):
            await pilot.resize_terminal(*size)
            await settle(pilot)
        await pilot.press("a")
        assert app.workbench.query_one(PromptEditor).text == "a"
