"""What is painted can be read: WCAG's ratio of each text to its ground, on the screens and in every shipped theme."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from rich.style import Style
from textual.color import Color
from textual.geometry import Region
from textual.pilot import Pilot
from tui.fake_engine import FakeEngine
from tui.judged_rounds import ROUNDS, TREE_SPEC
from tui.screens import settle, workbench
from tui.test_themes import NAMES, contrast

from specterm.tui.app import SpectermApp

TEXT, GRAPH = 4.5, 3.0
"""The least ratios: of text, and of what is drawn."""


def drawn(character: str) -> bool:
    """Whether it is a line, a block or a dot of braille, and no text."""
    return "─" <= character <= "▟" or "⠀" <= character <= "⣿" or character in "┊×·●▼▲▾▸"


def ratios(app: SpectermApp, region: Region) -> dict[tuple[str, str], tuple[str, float]]:
    """By the colours, what is painted in `region` and how it stands to the least ratio: 1 just does."""
    found: dict[tuple[str, str], tuple[str, float]] = {}
    for y, strip in enumerate(app.screen._compositor.render_strips()):
        if not region.y <= y < region.bottom:
            continue
        for segment in strip.crop(region.x, region.right):
            text, style = segment.text.strip(), segment.style or Style()
            if not text or all("─" <= c <= "╿" or c in "▔▁▏▕▊▎▐▌" or c in "▂▃▅▆▇" for c in text):
                continue  # frames and scroll bars
            assert style.color is not None, text
            assert style.bgcolor is not None, text
            fore, back = Color.from_rich_color(style.color), Color.from_rich_color(style.bgcolor)
            if style.reverse:
                fore, back = back, fore
            ratio = contrast(fore, back) / (GRAPH if all(map(drawn, text)) else TEXT)
            if ratio < found.get((fore.hex, back.hex), ("", 21.0))[1]:
                found[fore.hex, back.hex] = text, ratio
    return found


async def _stream(pilot: Pilot[None]) -> None:
    await pilot.press("f3", "i", "home", "right_square_bracket", "right_square_bracket", "right")


def _keys(*keys: str) -> Callable[[Pilot[None]], Awaitable[None]]:
    async def press(pilot: Pilot[None]) -> None:
        await pilot.press(*keys)

    return press


FULL = pytest.mark.full
STATES = (
    pytest.param(_stream, id="inspector"),
    pytest.param(_keys("f4"), id="settings", marks=FULL),
    pytest.param(_keys("f12"), id="models", marks=FULL),
    pytest.param(_keys("f9"), id="compare", marks=FULL),
    pytest.param(_keys("ctrl+l"), id="library", marks=FULL),
    pytest.param(_keys("ctrl+p"), id="palette", marks=FULL),
)


@pytest.mark.parametrize("reach", STATES)
async def test_every_text_can_be_read_in_every_theme(
    reach: Callable[[Pilot[None]], Awaitable[None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    app = workbench(FakeEngine(rounds=ROUNDS), spec=TREE_SPEC)
    unreadable: dict[str, dict[str, tuple[str, str]]] = {}
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("enter", "ctrl+r")
        await settle(pilot)
        for name in NAMES:
            app.theme = name
            await settle(pilot)
            await reach(pilot)
            await settle(pilot)
            place = next(iter(app.screen.query("#dialog, CommandList")), app.screen)
            found = ratios(app, place.region)
            assert len(found) > 1
            unreadable[name] = {text: colours for colours, (text, ratio) in found.items() if ratio < 1}
            await pilot.press("escape")
            await settle(pilot)
            assert app.screen is app.workbench
    assert {name: texts for name, texts in unreadable.items() if texts} == {}
