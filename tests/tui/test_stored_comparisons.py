"""Comparisons in the history's screen, prompts that go with their runs, and conversations that are taken up again."""

from pathlib import Path

import pytest
from history.stored_runs import one_run, store
from scripted_engine import ScriptedEngine
from textual.widgets import Static
from tui.fake_engine import FakeEngine, FakeMonitor
from tui.screens import settle
from tui.test_compare_screen import app_over as compare_app
from tui.test_compare_screen import raced
from tui.test_conversation import CHAT, contents, title
from tui.test_history_screen import app_over, calm, comes, listed, notices

from specterm.config import RunSpec
from specterm.history.archive import Archive
from specterm.tui.app import SpectermApp
from specterm.tui.memory import Memory
from specterm.tui.screens.deploy import DeployScreen
from specterm.tui.screens.history import HistoryScreen
from specterm.tui.screens.race import RaceScreen
from specterm.tui.widgets.prompt_editor import PromptEditor
from specterm.tui.widgets.run_table import RunTable


async def test_a_comparison_is_stored_and_opened_without_measuring_again(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    app = compare_app(engine, history=tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("f9")
        await settle(pilot)
        await pilot.press("f9")
        screen = await raced(pilot)
        ran = len(engine.ran)
        assert ran > 8
        verdict = str(screen.query_one("#race-deploy", Static).render())
        assert verdict.startswith("deploy ")
        await pilot.press("escape", "escape")
        await settle(pilot)
        await pilot.press("ctrl+o")
        await calm(pilot)
        (entry,) = app.screen.query_one(RunTable).entries
        assert (entry.kind, entry.state, entry.verdict) == ("comparison", "done", verdict)
        assert verdict in str(app.screen.query_one("#history-entry", Static).render())
        await pilot.press("enter")
        again = await raced(pilot)
        assert again is not screen
        assert len(engine.ran) == ran
        assert "run 1, " in str(again.query_one("#race-head", Static).render())
        assert again._table._rows == screen._table._rows
        assert [heat.laps for heat in again._heats] == [heat.laps for heat in screen._heats]
        await pilot.press("d")
        await settle(pilot)
        assert isinstance(app.screen, DeployScreen)
        await pilot.press("c")
        await settle(pilot)
        assert "vllm serve" in app.clipboard
        assert app.clipboard.startswith(verdict)
        await pilot.press("escape")
        await calm(pilot)
        assert isinstance(app.screen, HistoryScreen)
        await pilot.press("d", "y")
        await calm(pilot)
        assert Archive(tmp_path).entries() == []


async def test_a_comparison_is_not_compared_with_a_run(tmp_path: Path) -> None:
    app = compare_app(ScriptedEngine(), history=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("f9")
        await settle(pilot)
        await pilot.press("f9")
        assert isinstance(await raced(pilot), RaceScreen)
        await pilot.press("escape", "escape")
        store(tmp_path, one_run())
        await pilot.press("ctrl+o")
        await calm(pilot)
        assert listed(app) == [2, 1]
        await pilot.press("space", "space", "c")
        await calm(pilot)
        assert "a comparison is marked" in notices(app)[-1]


async def test_deleted_prompts_are_recalled_no_more(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "state")
    for prompt in ("kept", "gone", "twice"):
        memory.add_prompt(prompt)
    store(tmp_path, *[one_run()] * 4, prompts=["kept", "gone", "twice", "twice"])
    app = app_over(tmp_path, memory=memory)
    async with app.run_test(size=(120, 40)) as pilot:
        await calm(pilot)
        await pilot.press("ctrl+o")
        await calm(pilot)
        await pilot.press("space", "down", "space", "d")  # the newer "twice", and "gone"
        await calm(pilot)
        assert "The prompts go too" in str(app.screen.query_one("#dialog Static", Static).render())
        await pilot.press("y")
        await calm(pilot)
        assert listed(app) == [3, 1]
        assert memory.prompts() == ["kept", "twice"]
        await pilot.press("P", "y")
        await calm(pilot)
        assert memory.prompts() == []
        assert app.query_one(PromptEditor).earlier == ()


async def test_prompts_go_with_the_runs_that_the_limit_deletes(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "state")
    app = app_over(tmp_path, memory=memory, history_limit=2)
    async with app.run_test(size=(120, 40)) as pilot:
        await calm(pilot)
        editor = app.query_one(PromptEditor)
        for prompt in ("one", "two", "one", "three"):
            editor.text = prompt
            await pilot.press("enter")
            await calm(pilot)
        await comes(pilot, lambda: memory.prompts() == ["one", "three"])
        await comes(pilot, lambda: list(editor.earlier) == ["one", "one", "three"])
        await pilot.press("up", "up")
        editor.forget({"three"})
        await pilot.press("up")
        assert editor.text == "one"
        assert [entry.prompt for entry in Archive(tmp_path).entries()] == ["three", "one"]


async def test_a_conversation_of_the_history_is_continued(tmp_path: Path) -> None:
    spec = RunSpec(chat=True, system="Be brief.").checked()
    first = SpectermApp(FakeEngine(load=CHAT), FakeMonitor(), spec, prompt="one", history=tmp_path)
    async with first.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        for prompt in ("one", "two"):
            first.query_one(PromptEditor).text = prompt
            await pilot.press("enter")
            await settle(pilot)
        said = first.workbench.runs.conversation._turns
        assert [question for question, _ in said] == ["one", "two"]
        await first.action_quit()
    engine = FakeEngine(load=CHAT)
    app = SpectermApp(engine, FakeMonitor(), RunSpec(chat=True).checked(), prompt="", history=tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("ctrl+o")
        await calm(pilot)
        await pilot.press("enter")
        await calm(pilot)
        assert title(pilot) == "Prompt · chat, turn 3, system prompt, template of the model"
        assert "the conversation is restored" in notices(app)[-1]
        app.query_one(PromptEditor).text = "three"
        app.query_one(PromptEditor).focus()
        await pilot.press("enter")
        await settle(pilot)
        ((asked, (request,)),) = engine.runs
        assert (asked.system, request.prompt) == ("Be brief.", "three")
        turns = [message for question, answer in said for message in (("user", question), ("assistant", answer))]
        assert contents(request.turns) == turns


@pytest.mark.parametrize("loaded", [True, False], ids=["a base model", "none"])
async def test_why_a_conversation_cannot_be_continued_is_said(loaded: bool, tmp_path: Path) -> None:
    events = one_run(spec=RunSpec(chat=True).checked())
    store(tmp_path, events, spec=RunSpec(chat=True).checked())
    app = app_over(tmp_path, FakeEngine() if loaded else FakeEngine(load=()))
    async with app.run_test(size=(120, 40)) as pilot:
        await calm(pilot)
        await pilot.press("ctrl+o")
        await calm(pilot)
        await pilot.press("enter")
        await calm(pilot)
        why = "the loaded model has no chat template" if loaded else "no models are loaded yet"
        assert any(why in notice for notice in notices(app))
        assert app.workbench.runs.conversation.asked == []
