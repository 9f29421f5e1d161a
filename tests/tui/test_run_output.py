"""What is taken away: copied by the way that is said, saved in four formats, and the setup."""

import json
import sys
import types
from pathlib import Path

import pytest
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Input
from tui.fake_engine import round_of, run_events
from tui.screens import comes, settle, workbench

from specterm.config import RunSpec, to_data
from specterm.metrics import row_results
from specterm.setup_text import command_line, plan_of, plan_text
from specterm.tui import clipboard
from specterm.tui.run_document import as_json, as_markdown, as_text
from specterm.tui.run_events import RunEvents

TEXT = "Once upon a time, there was a little girl named Lily. She loved to play outside in the sun."
OSC52_ENVIRONMENT = ("TERM_PROGRAM", "VTE_VERSION", "TMUX", "SSH_CONNECTION")


def notices(app: App[None]) -> list[str]:
    return [notification.message for notification in app._notifications]


async def ask(pilot: Pilot[None], key: str, path: Path) -> str:
    """Press a key that asks for a file, and give it one; returns the notice."""
    await pilot.press(key)
    await settle(pilot)
    pilot.app.screen.query_one(Input).value = str(path)
    await pilot.press("enter")
    await pilot.app.workers.wait_for_complete()
    await settle(pilot)
    return notices(pilot.app)[-1]


async def test_the_run_is_saved_in_every_format(tmp_path: Path) -> None:
    app = workbench()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("f3")
        assert "no run to save yet" in await ask(pilot, "s", tmp_path / "early.txt")
        await pilot.press("f2", "enter")
        await settle(pilot)
        await pilot.press("f3")
        for suffix in ("txt", "md", "json", "svg"):
            path = tmp_path / f"run.{suffix}"
            assert await ask(pilot, "s", path) == f"written to {path}"
        assert "has no known format; end the name in .txt, .md, .json, .svg" in await ask(
            pilot, "s", tmp_path / "x.pdf"
        )
        assert "cannot be written: " in await ask(pilot, "s", tmp_path / "absent" / "x.txt")
    assert (tmp_path / "run.txt").read_text().startswith(f"Tell me a story about{TEXT}\n\nOne day")
    markdown = (tmp_path / "run.md").read_text()
    assert (
        "<i>Once</i> upon a time <s>in</s> <s><i>the</i></s><b>,</b> there was a little <u>girl</u> named" in markdown
    )
    runs = json.loads((tmp_path / "run.json").read_text())["runs"]
    assert runs[0]["metrics"]["drafted"] > runs[0]["metrics"]["accepted"] > 0
    svg = (tmp_path / "run.svg").read_text()
    assert "<svg" in svg
    assert "Save the run" not in svg
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.json", "run.md", "run.svg", "run.txt"]


def test_json_is_the_object_of_json_and_long_runs_are_kept_whole() -> None:
    rounds = [round_of(index, [" a", " b"], [" c"], " d") for index in range(500)]
    events = run_events("x", rounds, spec=RunSpec().checked())
    kept = RunEvents()
    for event in events:
        kept.observe(event)
    assert list(kept) == events
    assert json.loads(as_json(kept))["runs"][0]["metrics"]["accepted"] == 1000
    assert row_results(kept) == row_results(events)


def test_a_lone_surrogate_loses_nothing() -> None:
    events = run_events("x", [round_of(index, ["\ud800"], [], " d") for index in range(300)])
    kept = RunEvents()
    for event in events:
        kept.observe(event)
    assert list(kept) == events


def test_model_text_cannot_change_the_markdown() -> None:
    events = run_events("# not a heading\n- none", [round_of(0, [" <b>", "**", "\x1b[2J"], [], "`")], "1. x")
    markdown = as_markdown(events)
    assert "\\# not a heading  \n\\- none<i>1\\. x</i> \\<b\\>\\*\\*␛\\[2J<u>\\`</u>" in markdown
    assert as_text(events).endswith("`\n")


async def test_the_setup_is_copied_or_written(tmp_path: Path) -> None:
    app = workbench()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("ctrl+y")
        await settle(pilot)
        await pilot.press("c")
        await settle(pilot)
        spec = RunSpec().checked()
        assert app.clipboard == command_line(app.query_one("#settings").spec(), "Tell me a story about")  # type: ignore[attr-defined]
        assert "--raw" in app.clipboard  # the base model completes
        assert app.clipboard.startswith("specterm --prompt 'Tell me a story about' --target builtin")
        assert "the command line copied" in notices(app)[-1]
        await pilot.press("ctrl+y")
        await settle(pilot)
        told = await ask(pilot, "p", tmp_path / "mine")
        assert told == f"written to {tmp_path / 'mine.jsonl'} and {tmp_path / 'mine.toml'}"
    assert (tmp_path / "mine.toml").read_text() == plan_text(to_data(plan_of(spec, "mine.jsonl")))


class _Told(App[None]):
    """Only what copying needs."""


async def said(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], module: object | None) -> tuple[str, str]:
    """The notice of a copy, and what reached the terminal."""
    for name in OSC52_ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(sys.modules, "pyperclip", module)  # None: importing it fails
    app = _Told()
    async with app.run_test() as pilot:
        clipboard.copy(app, "text", "4 characters")
        await pilot.pause()
        return notices(app)[-1], app.clipboard


async def test_the_way_of_a_copy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    local = types.SimpleNamespace(copy=taken.append, is_available=lambda: True)
    deaf = {"TERM_PROGRAM": "Apple_Terminal"}
    assert await said(monkeypatch, {}, local) == ("4 characters copied through the terminal (OSC 52)", "text")
    assert await said(monkeypatch, deaf, local) == ("4 characters copied with pyperclip", "")
    assert taken == ["text"]
    told, sent = await said(monkeypatch, deaf, None)
    assert "(OSC 52), which this terminal may ignore; install pyperclip" in told
    assert sent == "text"
    told, sent = await said(monkeypatch, {**deaf, "SSH_CONNECTION": "1 2 3 4"}, local)
    assert "(OSC 52)" in told  # the clipboard of the other machine is of no use
    assert "set-clipboard on" in (await said(monkeypatch, {"TMUX": "x"}, local))[0]

    def broken(text: str) -> None:
        raise RuntimeError("no display")

    failing = types.SimpleNamespace(copy=broken, is_available=lambda: True)
    assert (await said(monkeypatch, {"TERM": "linux"}, failing))[0] == (
        "pyperclip could not copy 4 characters: no display"
    )


async def test_pictures_are_saved_where_there_are_no_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DOWNLOAD_DIR", str(tmp_path / "none"))
    app = workbench()
    async with app.run_test() as pilot:
        app.deliver_screenshot("picture.svg")
        await comes(pilot, (tmp_path / "picture.svg").exists)
