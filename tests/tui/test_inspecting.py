"""Inspecting on the workbench: keys and mouse take the stream, the strip and the inspector to one token."""

from collections.abc import Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Static
from tui.fake_engine import LOADED, FakeEngine, round_of
from tui.judged_rounds import ROUNDS, TREE_SPEC
from tui.screens import settle, stills, workbench

from specterm.events import Calibration, Loaded
from specterm.tui.app import SpectermApp
from specterm.tui.transcript import node_index
from specterm.tui.widgets.figures import FiguresBar, FiguresPanel
from specterm.tui.widgets.inspector import Inspector
from specterm.tui.widgets.round_strip import RoundStrip
from specterm.tui.widgets.token_stream import TokenStream

SNAPSHOTS = Path(__file__).parent / "snapshots"
SIZES = ((60, 18), (80, 24), (120, 40), pytest.param((200, 50), marks=pytest.mark.full))
SIZE = (120, 40)
Compare = Callable[[str, Path], None]


async def generated(pilot: Pilot[None]) -> tuple[SpectermApp, TokenStream]:
    app = pilot.app
    assert isinstance(app, SpectermApp)
    await settle(pilot)
    await pilot.press("enter")
    await settle(pilot)
    await pilot.press("f3")
    await settle(pilot)
    return app, app.query_one(TokenStream)


def under_cursor(stream: TokenStream) -> str | None:
    if stream._cursor is None:
        return None
    return "".join(stream.store._pieces[piece] for piece in stream._cursor.pieces)


def told(app: SpectermApp) -> str:
    return " ".join(str(app.query_one(Inspector).query_one(Static).render()).split())


def judged() -> SpectermApp:
    return workbench(FakeEngine(rounds=ROUNDS), spec=TREE_SPEC)


async def test_i_begins_at_the_newest_token_and_the_keys_move() -> None:
    app = judged()
    async with app.run_test(size=SIZE) as pilot:
        app, stream = await generated(pilot)
        assert not app.query_one(Inspector).display
        await pilot.press("i")
        await settle(pilot)
        assert app.query_one(Inspector).is_on_screen
        seen = [under_cursor(stream)]
        for key in (
            "left",
            "left_square_bracket",
            "left_square_bracket",
            "right",
            "home",
            "end",
            "right_square_bracket",
        ):
            await pilot.press(key)
            seen.append(under_cursor(stream))
        assert seen == [" was", " it", " the", " cat", " down", "Once", " was", " was"]
        await settle(pilot)
        assert stream.border_subtitle == "round 5: no draft, 7.9 ms"
        assert "plain: this round had no draft" in told(app)
        await pilot.press("escape")
        await settle(pilot)
        assert under_cursor(stream) is None
        assert not app.query_one(Inspector).display
        assert app.query_one(RoundStrip)._selected is None
        assert not stream.border_subtitle


async def test_a_rejected_token_is_reached_while_it_is_shown() -> None:
    app = judged()
    async with app.run_test(size=SIZE) as pilot:
        app, stream = await generated(pilot)
        await pilot.press("r", "i", "home", "right", "right")
        await settle(pilot)
        assert under_cursor(stream) == " a"
        assert stream._cursor is not None
        assert stream._cursor.token == (1, node_index(1))
        assert "rejected: drafted, and refused by the target" in told(app)
        await pilot.press("r")
        await settle(pilot)
        assert under_cursor(stream) == " one"


async def test_a_click_inspects_and_the_token_is_drawn_in_reverse() -> None:
    app = judged()
    async with app.run_test(size=SIZE) as pilot:
        app, stream = await generated(pilot)
        at = stream.store.line_text(0).index(" cat")
        await pilot.click(TokenStream, offset=(at + 2 + 1, 1))  # border and padding
        await settle(pilot)
        assert under_cursor(stream) == " cat"
        reversed_ = [s.text for s in stream.render_line(0) if s.style is not None and s.style.reverse]
        assert reversed_ == [" cat"]
        assert '" cat"' in told(app)
        await pilot.click(TokenStream, offset=(3, 1))  # on the prompt: the nearest token of the line
        await settle(pilot)
        assert under_cursor(stream) == "Once"


async def test_the_strip_takes_the_stream_to_a_round() -> None:
    app = judged()
    async with app.run_test(size=SIZE) as pilot:
        app, stream = await generated(pilot)
        await pilot.press("f8")
        await settle(pilot)
        await pilot.press("left", "left", "left")
        await settle(pilot)
        assert under_cursor(stream) == " the"
        assert app.focused is app.query_one(RoundStrip)
        width = app.query_one(RoundStrip).size.width
        await pilot.click(RoundStrip, offset=(width + 2 - 5, 0))  # the fifth from the right, behind the padding
        await settle(pilot)
        assert under_cursor(stream) == " upon"
        assert stream.border_subtitle == "round 1: 1 of 3 accepted, +1 correction, 7.9 ms"


async def test_a_round_without_text_is_inspected_all_the_same() -> None:
    app = workbench(FakeEngine(rounds=[round_of(0, ["a"], [], "b"), round_of(1, [], [], "")]))
    async with app.run_test(size=SIZE) as pilot:
        app, stream = await generated(pilot)
        await pilot.press("i", "f8")
        await settle(pilot)
        await pilot.press("right")
        await settle(pilot)
        assert under_cursor(stream) == "b"
        assert "round 2 of 2" in told(app)


async def test_the_cursor_keeps_its_token_while_more_streams_in_and_lines_wrap_anew() -> None:
    rounds = [round_of(n, [" word"] * 30, [], f"\n{n}") for n in range(30)]
    app = workbench(FakeEngine(rounds=rounds[:15], hold=True))
    async with app.run_test(size=SIZE) as pilot:
        app, stream = await generated(pilot)
        await pilot.press("i")
        await settle(pilot)
        assert under_cursor(stream) == "\n14"
        top = stream.scroll_offset.y
        for event in rounds[15:]:
            app._engine.jobs[0].put(event)  # type: ignore[attr-defined]
        await settle(pilot)
        assert stream.store.line_count > top + stream.size.height + 10
        assert (under_cursor(stream), stream.scroll_offset.y) == ("\n14", top)
        await pilot.resize_terminal(80, 24)
        await settle(pilot)
        assert under_cursor(stream) == "\n14"
        assert stream._cursor is not None
        lines = stream._cursor.lines
        assert stream.scroll_offset.y <= lines.start < lines.stop <= stream.scroll_offset.y + stream.size.height
        await pilot.press("escape")
        await settle(pilot)
        assert stream.is_vertical_scroll_end
        assert app.workbench.runs.jobs.run is not None  # Escape left the tokens and did not cancel


async def test_clearing_takes_the_cursor_the_rounds_and_the_report_away() -> None:
    app = judged()
    async with app.run_test(size=SIZE) as pilot:
        app, stream = await generated(pilot)
        await pilot.press("i", "c")
        await settle(pilot)
        assert under_cursor(stream) is None
        assert "No token is chosen" in told(app) or not app.query_one(Inspector).display
        assert app.query_one(RoundStrip).render_line(0).text.strip() == ""
        await pilot.press("i")
        await settle(pilot)
        assert under_cursor(stream) is None
        assert [n.message for n in app._notifications] == ["there is no token to inspect yet"]
        await pilot.press("f2", "enter")
        await settle(pilot)
        await pilot.press("f3", "i", "home")
        await settle(pilot)
        assert under_cursor(stream) == "Once"
        assert "plain: the first token, drawn by the prefill" in told(app)


async def test_a_new_run_leaves_the_tokens_of_the_last_one() -> None:
    app = judged()
    async with app.run_test(size=SIZE) as pilot:
        app, stream = await generated(pilot)
        await pilot.press("i", "f2", "enter")
        await settle(pilot)
        assert under_cursor(stream) is None
        assert stream.is_on_screen


async def test_a_key_has_the_next_run_record_alternatives() -> None:
    engine = FakeEngine(rounds=ROUNDS)
    app = workbench(engine)
    async with app.run_test(size=SIZE) as pilot:
        app, _ = await generated(pilot)
        await pilot.press("i", "a")
        await settle(pilot)
        assert app.query_one(Inspector).border_subtitle == "alternatives in the next run"
        await pilot.press("f2", "enter")
        await settle(pilot)
        await pilot.press("f3", "a", "f2", "enter")
        await settle(pilot)
        assert [spec.trace for spec, _ in engine.runs] == ["probs", "alternatives", "probs"]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "{}x{}".format(*size))
async def test_the_inspector_at_a_token_of_a_tree(size: tuple[int, int], matches_snapshot: Compare) -> None:
    app = judged()
    async with app.run_test(size=size) as pilot:
        app, stream = await generated(pilot)
        await pilot.press("r", "i", "home", "right_square_bracket", "right_square_bracket", "right")
        await settle(pilot)
        assert under_cursor(stream) == " sat"
        assert stream.is_on_screen
        async for theme, svg in stills(app, pilot, "dark", "light", "colour-blind-safe"):
            matches_snapshot(svg, SNAPSHOTS / f"inspector-{theme}-{size[0]}x{size[1]}.svg")


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=str)
async def test_a_losing_run_says_so_and_keeps_saying_it(size: tuple[int, int]) -> None:
    slow = Calibration({1: 0.002, 3: 0.007}, (0.001,), 64)
    _, loaded, done = LOADED
    assert isinstance(loaded, Loaded)
    load = (Loaded(loaded.time, loaded.target, loaded.drafts, slow), done)
    app = workbench(FakeEngine(load, [round_of(n, [" a"], [" x"], " b") for n in range(12)]))
    async with app.run_test(size=size) as pilot:
        app, _ = await generated(pilot)
        # Rounds of 10 ms against naive steps of 2 + 1, for two tokens each.
        assert "! losing: about 0.60x" in str(app.query_one(FiguresBar).render()) or size == SIZE
        await pilot.press("f6")
        await settle(pilot)
        panel = " ".join(str(app.query_one(FiguresPanel).query_one(Static).render()).split())
        assert panel.startswith("! speculation is losing: about 0.60x naive; drafting takes 20% of a round")
        assert "length 2.00 against break-even 3.33; try" in panel
        assert not app._notifications
