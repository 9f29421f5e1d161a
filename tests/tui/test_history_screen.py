"""The stored runs on the screen: what the keys do, and how it looks."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from history.stored_runs import store, until
from textual import events
from textual.events import Key
from textual.pilot import Pilot
from textual.widgets import Input, Static
from tui.fake_engine import FakeEngine, FakeMonitor, round_of, run_events
from tui.screens import PROMPT, settle, still, stills

from specterm.config import MethodSpec, RunSpec, to_data
from specterm.engine.replay import ReplayEngine
from specterm.events import Event, RunFinished, RunStarted
from specterm.history.archive import Archive, Entry
from specterm.tui import themes
from specterm.tui.app import SpectermApp
from specterm.tui.difference import first_difference
from specterm.tui.palette import Actions
from specterm.tui.screens.history import HistoryScreen
from specterm.tui.screens.run_comparison import RunComparison
from specterm.tui.widgets.figures import FiguresPanel
from specterm.tui.widgets.key_hints import KeyHints
from specterm.tui.widgets.run_table import RunTable
from specterm.tui.widgets.token_log import TokenLog

SNAPSHOTS = Path(__file__).parent / "snapshots"
SIZES = ((60, 18), (80, 24), (120, 40), pytest.param((200, 50), marks=pytest.mark.full))
NAIVE = RunSpec(method=MethodSpec(name="naive")).checked()
DRAFT = RunSpec().checked()
Compare = Callable[[str, Path], None]


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def app_over(folder: Path, engine: FakeEngine | ReplayEngine | None = None, **arguments: object) -> SpectermApp:
    os.environ.pop("NO_COLOR", None)
    given = {"prompt": PROMPT, "theme_folders": (themes.shipped_folder(),), "history": folder, **arguments}
    return SpectermApp(engine or FakeEngine(), FakeMonitor(), DRAFT, **given)  # type: ignore[arg-type]


def recorded(prompt: str, spec: RunSpec = DRAFT, *rounds: object) -> list[Event]:
    """A run as the engine would report it, with its spec."""
    events = run_events(prompt, rounds or (round_of(0, [" was"], [" a"], " not"),))  # type: ignore[arg-type]
    return [RunStarted("run", "2025-01-01T00:00:00Z", to_data(spec), {}), *events[1:]]


def fill(folder: Path) -> None:
    """Four runs at fixed times: drafted, naive, failed and interrupted."""
    store(folder, recorded("Tell me a story"))
    store(folder, recorded("Tell me a story", NAIVE, round_of(0, [], [], " was"), round_of(1, [], [], "\x1b[2J too")),
          prompts=["Tell me a story"], spec=NAIVE)  # fmt: skip
    failed = [recorded("x")[0], RunFinished(0.1, "failed", "the device ran out of memory", 3)]
    store(
        folder, failed, recorded("Zwölf [b]Boxkämpfer\x1b jagen")[:4], prompts=["long", "Zwölf [b]Boxkämpfer\x1b jagen"]
    )
    with sqlite3.connect(folder / "history.db") as connection:
        connection.execute("UPDATE runs SET prompt = 'Tell me a story' WHERE id = 1")
        connection.execute("UPDATE runs SET started_at = 1735732800 + 3600 * id, finished_at = started_at + 1")
        connection.execute("UPDATE runs SET pid = 0 WHERE reason IS NULL")
    connection.close()


async def click_on(pilot: Pilot[None], label: str) -> None:
    """Click a key of the open dialog."""
    keys = pilot.app.screen.query_one(KeyHints)
    at = "".join(segment.text for segment in keys.render_line(0)).index(label)
    await pilot.click(keys, offset=(at, 0))
    await calm(pilot)


async def calm(pilot: Pilot[None]) -> None:
    """Everything under way is done, the screen's reading of the database too."""
    await settle(pilot)
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


async def comes(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    give_up = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up
        await pilot.pause(0.05)


def listed(app: SpectermApp) -> list[int]:
    return [entry.id for entry in app.screen.query_one(RunTable).entries]


def shown(app: SpectermApp) -> str:
    stored = app.query_one(TokenLog).store
    return "".join(stored.line_text(line) + stored.separator(line) for line in range(stored.line_count))


def notices(app: SpectermApp) -> list[str]:
    return [notification.message for notification in app._notifications]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "{}x{}".format(*size))
async def test_the_list_of_runs(size: tuple[int, int], tmp_path: Path, matches_snapshot: Compare) -> None:
    fill(tmp_path)
    app = app_over(tmp_path)
    async with app.run_test(size=size) as pilot:
        await calm(pilot)
        await pilot.press("ctrl+o")
        await calm(pilot)
        await pilot.press("space", "down")
        await calm(pilot)
        app.screen.query_one("#history-head", Static).update("History · 4 runs · sizes differ")
        svg = await still(app, pilot)
        assert "Boxk" in svg
        assert "\x1b" not in svg
        assert listed(app) == [4, 3, 2, 1]
        matches_snapshot(svg, SNAPSHOTS / f"history-{size[0]}x{size[1]}.svg")


async def test_keys_typed_behind_the_one_that_opens_the_history_are_for_its_list(tmp_path: Path) -> None:
    fill(tmp_path)
    app = app_over(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await calm(pilot)
        for key in ("ctrl+o", "down", "down", "space", "down", "space"):
            app.post_message(Key(key, " " if key == "space" else None))
        await comes(pilot, lambda: isinstance(app.screen, HistoryScreen) and len(listed(app)) == 4)
        await calm(pilot)
        assert set(app.screen.query_one(RunTable).marked) == {1, 2}


async def test_a_narrow_terminal_shows_the_whole_date_of_a_run(tmp_path: Path) -> None:
    fill(tmp_path)
    app = app_over(tmp_path)
    async with app.run_test(size=(60, 18)) as pilot:
        await calm(pilot)
        await pilot.press("ctrl+o", "down", "down")
        await calm(pilot)
        entry = app.screen.query_one("#history-entry", Static)
        lines = [entry.render_line(y).text.strip() for y in range(entry.size.height)]
        assert lines[0].startswith("run 2")
        assert any(line.startswith("2025-01-01 14:00:00") for line in lines), lines
        assert lines[-1] == "Tell me a story"


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "{}x{}".format(*size))
async def test_two_runs_side_by_side(size: tuple[int, int], tmp_path: Path, matches_snapshot: Compare) -> None:
    fill(tmp_path)
    app = app_over(tmp_path)
    async with app.run_test(size=size) as pilot:
        await calm(pilot)
        await pilot.press("ctrl+o")
        await calm(pilot)
        await pilot.press("c")
        assert notices(app) == ["0 runs are marked; mark two with Space to compare them"]
        await pilot.press("down", "down", "space", "space", "c")
        await calm(pilot)
        assert isinstance(app.screen, RunComparison)
        told = str(app.screen._body.render())
        assert "The prompts are the same (15 characters)." in told
        assert "The outputs differ from character 9 on (▶):" in told
        assert "run 1: Once was▶ not" in told
        assert "run 2: Once was▶␛[2J too" in told
        assert "draft acceptance" in told
        names = ("dark", "light", "high-contrast") if size == (80, 24) else ("dark",)
        async for theme, svg in stills(app, pilot, *names):
            matches_snapshot(svg, SNAPSHOTS / f"two-runs-{theme}-{size[0]}x{size[1]}.svg")
        await pilot.press("escape")
        await calm(pilot)
        assert isinstance(app.screen, HistoryScreen)


def offered(app: SpectermApp) -> list[str]:
    return [hint.description for hint in app.screen.query_one(KeyHints)._hints]


async def test_an_empty_history_says_so(tmp_path: Path, matches_snapshot: Compare) -> None:
    app = app_over(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await calm(pilot)
        await pilot.press("ctrl+o")
        await calm(pilot)
        await pilot.press("h")
        await calm(pilot)
        assert not Archive(tmp_path).standing().recording
        assert "OFF" in str(app.screen.query_one("#history-head", Static).render())
        app.screen.query_one("#history-head", Static).update("History · 0 runs · OFF: new runs are not stored")
        matches_snapshot(await still(app, pilot), SNAPSHOTS / "history-empty-80x24.svg")
        assert offered(app)[:3] == ["Back", "On/off", "Quit"], "there is no run to do anything with"
        await pilot.press("enter", "p", "space", "c", "e", "d", "P", "h", "escape")
        await calm(pilot)
        assert app.screen is app.default_screen
        assert Archive(tmp_path).standing().recording


async def test_a_run_of_the_workbench_is_stored_and_reopened(tmp_path: Path) -> None:
    app = app_over(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await calm(pilot)
        await pilot.press("enter")
        await settle(pilot)
        text, figures = shown(app), app.workbench.runs.figures._live.figures
        until(lambda: [entry.state for entry in Archive(tmp_path).entries()] == ["done"])
        await pilot.press("f3", "c")
        assert shown(app) == ""
        await pilot.press("ctrl+o")
        await calm(pilot)
        await pilot.press("enter")
        await calm(pilot)
        assert app.screen is app.default_screen
        assert shown(app).startswith("Run 1, 20")
        assert shown(app).endswith(text)
        assert app.workbench.runs.figures is not None
        assert app.workbench.runs.figures._live.figures == figures
        assert app.query_one(FiguresPanel).border_title == "Figures · recorded"
        await pilot.press("ctrl+q")
    assert len(Archive(tmp_path).entries()) == 1


async def test_a_run_that_is_left_is_stored_to_its_end(tmp_path: Path) -> None:
    app = app_over(tmp_path, FakeEngine(hold=True))
    async with app.run_test(size=(120, 40)) as pilot:
        await calm(pilot)
        await pilot.press("enter")
        await settle(pilot)
        await pilot.press("ctrl+q")
    (entry,) = Archive(tmp_path).entries()
    assert entry.state == "cancelled"


async def test_the_palette_lists_the_history_where_it_can_be_opened(tmp_path: Path) -> None:
    app = app_over(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await calm(pilot)

        async def offered() -> dict[str, object]:
            return {str(hit.display): hit.command async for hit in Actions(app.screen).discover()}

        await (await offered())["Search, reopen and compare stored runs"]()  # type: ignore[operator]
        await calm(pilot)
        assert isinstance(app.screen, HistoryScreen)
        assert "Search, reopen and compare stored runs" not in await offered()


async def test_the_filter_narrows_the_list_and_escape_clears_it(tmp_path: Path) -> None:
    fill(tmp_path)
    app = app_over(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await calm(pilot)
        await pilot.press("ctrl+o")
        await calm(pilot)
        await pilot.press("slash", *"boxk")
        await calm(pilot)
        assert offered(app)[:2] == ["Clear filter", "Quit"], "the letters go into the filter"
        await pilot.press("enter")
        await calm(pilot)
        assert listed(app) == [4]
        assert offered(app)[:6] == ["Reopen", "Clear filter", "Filter", "Play", "Mark", "Compare"]
        assert "1 of 4 runs" in str(app.screen.query_one("#history-head", Static).render())
        await pilot.press("escape")
        await calm(pilot)
        assert listed(app) == [4, 3, 2, 1]
        app.screen.query_one(Input).value = "state:failed method:draft"
        await calm(pilot)
        assert listed(app) == [3]
        app.screen.query_one(Input).value = "nowhere"
        await calm(pilot)
        assert listed(app) == []
        assert offered(app)[:4] == ["Clear filter", "Filter", "Purge", "On/off"]
        assert "no run matches" in str(app.screen.query_one("#history-empty", Static).render())
        await pilot.press("ctrl+o", "ctrl+o")
        await calm(pilot)
        assert app.screen is app.default_screen


async def test_a_run_that_another_program_deleted_is_said_and_leaves_the_list(tmp_path: Path) -> None:
    fill(tmp_path)
    app = app_over(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await calm(pilot)
        await pilot.press("ctrl+o")
        await calm(pilot)
        assert listed(app) == [4, 3, 2, 1]
        Archive(tmp_path).delete([4])
        await pilot.press("enter")
        await comes(pilot, lambda: listed(app) == [3, 2, 1])
        assert any("there is no run 4 in" in notice for notice in notices(app))


async def test_a_filter_typed_in_one_write_loses_no_letter(tmp_path: Path) -> None:
    fill(tmp_path)
    app = app_over(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await calm(pilot)
        await pilot.press("ctrl+o")
        await calm(pilot)
        for key, name in (("/", "slash"), ("a", "a"), ("b", "b"), ("c", "c")):
            app.post_message(events.Key(name, key))
        await comes(pilot, lambda: app.screen.query_one(Input).value == "abc")


async def test_a_list_that_comes_when_the_screen_has_lost_its_widgets_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    app, going = app_over(tmp_path), threading.Event()
    entries = Archive.entries

    def late(*arguments: object, **options: object) -> list[Entry]:
        assert going.wait(10)
        return entries(*arguments, **options)  # type: ignore[arg-type]

    async def leave(screen: HistoryScreen) -> None:  # its widgets have gone, its workers have not
        assert not screen.query(Input)
        going.set()
        await asyncio.sleep(0.2)

    async with app.run_test(size=(80, 24)) as pilot:
        await calm(pilot)
        await pilot.press("ctrl+o")
        await calm(pilot)
        monkeypatch.setattr(Archive, "entries", late)
        monkeypatch.setattr(HistoryScreen, "on_unmount", leave, raising=False)
        app.screen.query_one(Input).value = "abc"
        await pilot.pause()
    assert going.is_set()


async def test_deleting_and_purging_ask_first(tmp_path: Path) -> None:
    fill(tmp_path)
    archive = Archive(tmp_path)
    app = app_over(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await calm(pilot)
        await pilot.press("ctrl+o")
        await calm(pilot)
        await pilot.press("down", "d", "n")
        await calm(pilot)
        assert len(archive.entries()) == 4
        await pilot.press("d", "y")
        await calm(pilot)
        assert listed(app) == [4, 2, 1]
        await pilot.press("home", "space", "space", "d", "y")
        await calm(pilot)
        assert listed(app) == [1]
        await pilot.press("P", "escape")
        await calm(pilot)
        assert len(archive.entries()) == 1
        await pilot.press("P", "y")
        await calm(pilot)
        assert archive.entries() == []


async def test_the_keys_of_a_dialog_can_be_clicked(tmp_path: Path) -> None:
    fill(tmp_path)
    archive = Archive(tmp_path)
    app = app_over(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await calm(pilot)
        await pilot.press("ctrl+o")
        await calm(pilot)
        for key, label, left in (("d", "No", 4), ("d", "Yes", 3), ("P", "No", 3), ("P", "Yes", 0)):
            await pilot.press(key)
            await calm(pilot)
            await click_on(pilot, label)
            assert isinstance(app.screen, HistoryScreen)
            assert len(archive.entries()) == left


async def test_a_file_is_written_or_not_with_a_click(tmp_path: Path) -> None:
    fill(tmp_path)
    app = app_over(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await calm(pilot)
        await pilot.press("ctrl+o")
        await calm(pilot)
        await pilot.press("end")
        for label, written in (("Cancel", False), ("Write", True)):
            await pilot.press("e")
            await calm(pilot)
            app.screen.query_one(Input).value = str(tmp_path / "run.json")
            await click_on(pilot, label)
            assert (tmp_path / "run.json").exists() is written


async def test_the_keys_of_history_reach_its_list_before_the_runs_are_read(tmp_path: Path) -> None:
    fill(tmp_path)
    app = app_over(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await calm(pilot)
        app.post_message(Key("ctrl+o", None))
        await comes(pilot, lambda: isinstance(app.screen, HistoryScreen))
        app.post_message(Key("z", "z"))
        await calm(pilot)
        assert isinstance(app.focused, RunTable)
        assert app.screen.query_one("#history-filter", Input).value == ""


async def test_a_run_that_was_interrupted_is_said_to_be(tmp_path: Path) -> None:
    fill(tmp_path)
    app = app_over(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await calm(pilot)
        await pilot.press("ctrl+o")
        await calm(pilot)
        await pilot.press("enter")
        await calm(pilot)
        assert shown(app).endswith("this run was interrupted; what is shown is what had been stored by then")


async def test_export_asks_where_and_says_what_went_wrong(tmp_path: Path) -> None:
    fill(tmp_path)
    app = app_over(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await calm(pilot)
        await pilot.press("ctrl+o")
        await calm(pilot)
        await pilot.press("end")
        for name, said in (
            ("run.json", "run 1 written to"),
            ("run.pdf", "no known format"),
            ("no/run.md", "No such file"),
        ):
            await pilot.press("e")
            await calm(pilot)
            app.screen.query_one(Input).value = str(tmp_path / name)
            await pilot.press("enter")
            await calm(pilot)
            assert said in notices(app)[-1]
        document = json.loads((tmp_path / "run.json").read_text())
        assert document["runs"][0]["metrics"]["accepted"] == 1
        await pilot.press("e", "escape")
        await calm(pilot)
        assert isinstance(app.screen, HistoryScreen)


async def test_a_replay_at_its_own_pace_can_be_cancelled(tmp_path: Path) -> None:
    store(tmp_path, recorded("slow", DRAFT, round_of(0, [" was"], [], " not"), round_of(1, [], [], " late", time=60.0)))
    app = app_over(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await calm(pilot)
        await pilot.press("ctrl+o")
        await calm(pilot)
        await pilot.press("p")
        await comes(pilot, lambda: "not" in shown(app))
        assert app.query_one(FiguresPanel).border_title == "Figures · replay"
        await pilot.press("ctrl+o")
        await calm(pilot)
        await pilot.press("enter")
        await calm(pilot)
        assert notices(app)[-1] == "a run is going; Escape cancels it"
        await pilot.press("escape")
        await comes(pilot, lambda: shown(app).endswith("The recorded run was cancelled."))
        assert " late" not in shown(app)


async def test_a_damaged_database_is_said_and_the_app_goes_on(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file, where a folder should be")
    app = app_over(tmp_path / "data")
    async with app.run_test(size=(120, 40)) as pilot:
        await calm(pilot)
        await pilot.press("ctrl+o")
        await calm(pilot)
        assert "SPECTERM_DATA_DIR" in str(app.screen.query_one("#history-empty", Static).render())
        await pilot.press("escape")
        await calm(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert "Lily" in shown(app)
        await comes(pilot, lambda: any("no longer stored" in text for text in notices(app)))


async def test_without_a_history_nothing_is_opened() -> None:
    app = app_over(Path("unused"), history=None)
    async with app.run_test(size=(120, 40)) as pilot:
        await calm(pilot)
        await pilot.press("ctrl+o")
        await calm(pilot)
        assert app.screen is app.default_screen
        assert "--no-history" in notices(app)[-1]


async def test_a_workbench_over_a_recording_plays_it_at_once_and_again_on_enter(tmp_path: Path) -> None:
    engine = ReplayEngine(recorded("hello"), speed=None)
    app = app_over(tmp_path, engine, prompt="hello", history=None, initial_load=True)
    async with app.run_test(size=(120, 40)) as pilot:
        await comes(pilot, lambda: shown(app) == "helloOnce was not")
        assert app.query_one(FiguresPanel).border_title == "Figures · recorded"
        await pilot.press("enter")
        await comes(pilot, lambda: shown(app) == "helloOnce was not\n\nhelloOnce was not")
        assert notices(app) == []


async def test_five_hundred_runs_are_read_as_the_cursor_gets_there(tmp_path: Path) -> None:
    fill(tmp_path)
    with sqlite3.connect(tmp_path / "history.db") as connection:
        connection.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 496) INSERT INTO runs "
            "(started_at, reason, method, models, prompt, spec, measured, pid) "
            "SELECT 0, 'done', 'naive', 'builtin', 'prompt ' || i, '{}', 0, 0 FROM n"
        )
    connection.close()
    app = app_over(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await calm(pilot)
        await pilot.press("ctrl+o")
        await calm(pilot)
        assert len(listed(app)) == 100
        while len(listed(app)) < 500:
            before = len(listed(app))
            await pilot.press("end")
            await calm(pilot)
            assert len(listed(app)) > before
        await pilot.press("end")
        await calm(pilot)
        assert listed(app) == list(range(500, 0, -1))


@pytest.mark.parametrize(
    ("left", "right", "at"), [("", "", None), ("ab", "ab", None), ("ab", "ac", 1), ("ab", "abc", 2), ("", "a", 0)]
)
def test_the_first_difference(left: str, right: str, at: int | None) -> None:
    assert first_difference(left, right) == at
    assert first_difference(right, left) == at
