"""Chat and completion in the workbench, over a scripted engine."""

from dataclasses import replace

import msgspec
import pytest
from textual.pilot import Pilot
from textual.widgets import Static, TextArea
from tui.fake_engine import LOADED, FakeEngine
from tui.screens import comes, settle, still, workbench
from tui.test_compare_screen import raced, said
from tui.test_screens import SIZES, SNAPSHOTS, Compare

from specterm.config import Message, RunSpec
from specterm.events import RunFinished
from specterm.tui.widgets.figures import FiguresBar, FiguresPanel
from specterm.tui.widgets.prompt_editor import PromptEditor

SIZE = (120, 40)
CHAT = (replace(LOADED[1], target=replace(LOADED[1].target, chat_template=True)), RunFinished(0.2, "done"))
SPEC = RunSpec(chat=True).checked()


async def say(pilot: Pilot[None], text: str) -> None:
    pilot.app.query_one(PromptEditor).text = text
    await pilot.press("enter")
    await settle(pilot)


def title(pilot: Pilot[None]) -> str:
    return str(pilot.app.query_one(PromptEditor).border_title)


def hint(pilot: Pilot[None]) -> str:
    return str(pilot.app.query_one(PromptEditor).border_subtitle)


def contents(messages: tuple[Message, ...]) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in messages]


async def test_a_base_model_completes_and_says_so() -> None:
    engine = FakeEngine()
    app = workbench(engine, spec=SPEC)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        assert title(pilot) == "Prompt · completion"
        await pilot.press("enter")
        await settle(pilot)
        ((spec, (request,)),) = engine.runs
        assert not spec.chat
        assert request.turns == ()


@pytest.mark.parametrize("chat", [True, False])
async def test_a_prompt_that_comes_before_the_models_becomes_what_they_make_of_it(chat: bool) -> None:
    engine = FakeEngine(load=(), hold=True)
    app = workbench(engine, spec=SPEC, prompt="one")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        assert title(pilot) == "Prompt · no models loaded"
        await pilot.press("enter")
        await settle(pilot)
        assert engine.runs[-1][0].chat
        for event in (*(CHAT if chat else LOADED)[-2:],):
            app.workbench.runs.jobs.load.put(event)
        await settle(pilot)
        assert title(pilot) == ("Prompt · chat, turn 1, template of the model" if chat else "Prompt · completion")
        await pilot.press("escape")
        await settle(pilot)
        assert app.query_one(PromptEditor).text == "one"


async def test_turns_are_kept_and_go_with_the_next_one() -> None:
    engine = FakeEngine(CHAT)
    app = workbench(engine, spec=SPEC, prompt="")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        assert title(pilot) == "Prompt · chat, turn 1, template of the model"
        await say(pilot, "one")
        await say(pilot, "two")
        assert title(pilot) == "Prompt · chat, turn 3, template of the model"
        spec, (request,) = engine.runs[-1]
        assert spec.chat
        assert request.prompt == "two"
        (asked, answered) = contents(request.turns)
        assert asked == ("user", "one")
        assert answered[0] == "assistant"
        assert answered[1].startswith("Once upon a time")


async def test_an_earlier_turn_is_sent_again_and_takes_back_what_followed() -> None:
    engine = FakeEngine(CHAT)
    app = workbench(engine, spec=SPEC, prompt="")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        for text in ("one", "two", "three"):
            await say(pilot, text)
        await pilot.press("up", "up")
        assert app.query_one(PromptEditor).text == "two"
        assert hint(pilot) == "Enter sends turn 2 again, and takes back the 1 after it"
        await pilot.press("end", "!", "enter")
        await settle(pilot)
        request = engine.runs[-1][1][0]
        assert request.prompt == "two!"
        assert [content for role, content in contents(request.turns) if role == "user"] == ["one"]
        assert app.workbench.runs.conversation.asked == ["one", "two!"]
        assert "takes back" not in hint(pilot)


async def test_a_turn_that_fails_takes_nothing_back_and_returns_to_the_editor() -> None:
    engine = FakeEngine(CHAT)
    app = workbench(engine, spec=SPEC, prompt="")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await say(pilot, "one")
        await say(pilot, "two")
        engine._failure = "the chat template of it refuses this conversation: no"
        await pilot.press("up", "up", "x", "enter")
        await settle(pilot)
        assert app.workbench.runs.conversation.asked == ["one", "two"]
        assert app.query_one(PromptEditor).text == "onex"


async def test_the_system_prompt_is_edited_and_goes_with_the_turns() -> None:
    engine = FakeEngine(CHAT)
    app = workbench(engine, spec=SPEC, prompt="")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("f10")
        await comes(pilot, lambda: app.screen is not app.workbench and bool(app.screen.query(TextArea)))
        app.screen.query_one(TextArea).text = "Be kind."
        await pilot.press("f10")
        await settle(pilot)
        assert "system prompt" in title(pilot)
        await say(pilot, "one")
        assert engine.runs[-1][0].system == "Be kind."


async def test_a_new_conversation_and_completion_are_a_key_away() -> None:
    engine = FakeEngine(CHAT)
    app = workbench(engine, spec=SPEC, prompt="")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await say(pilot, "one")
        await pilot.press("ctrl+n")
        await say(pilot, "two")
        assert engine.runs[-1][1][0].turns == ()
        await pilot.press("ctrl+g")
        assert title(pilot) == "Prompt · completion"
        await say(pilot, "three")
        spec, (request,) = engine.runs[-1]
        assert not spec.chat
        assert request.turns == ()
        assert app.workbench.runs.conversation.asked == ["two"]


def compared(pilot: Pilot[None]) -> tuple[str, ...]:
    return tuple(str(pilot.app.screen.query_one(f"#compare-{part}", Static).render()) for part in ("prompt", "mode"))


async def test_the_turn_that_was_sent_can_be_compared() -> None:
    app = workbench(FakeEngine(CHAT), spec=SPEC, prompt="")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await say(pilot, "one")
        assert app.query_one(PromptEditor).text == ""
        await pilot.press("f9")
        await settle(pilot)
        assert compared(pilot) == ("prompt: one", "asked as: chat, turn 1, template of the model")


async def test_a_compared_turn_comes_after_those_before_it_and_the_system_prompt() -> None:
    engine = FakeEngine(CHAT)
    app = workbench(engine, spec=msgspec.structs.replace(SPEC, system="Be kind."), prompt="")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await say(pilot, "one")
        await say(pilot, "two")
        app.query_one(PromptEditor).text = "three"
        await pilot.press("f9")
        await settle(pilot)
        mode = "asked as: chat, turn 3, system prompt, template of the model"
        assert compared(pilot) == ("prompt: three", mode)
        await pilot.press("f9")
        screen = await raced(pilot)
        assert "prompt, a turn through the chat template (repeat" in said(screen, "head")
        assert len(engine.runs) == 2 + 4 * (1 + 3)
        for spec, (request,) in engine.runs[2:]:
            assert (spec.chat, spec.system, request.prompt) == (True, "Be kind.", "three")
            assert [content for role, content in contents(request.turns) if role == "user"] == ["one", "two"]
        await pilot.press("escape", "escape")
        await settle(pilot)
        assert app.query_one(PromptEditor).text == "three"
        assert app.workbench.runs.conversation.asked == ["one", "two"]


async def test_the_setup_of_a_turn_says_what_it_takes_along() -> None:
    app = workbench(FakeEngine(CHAT), spec=msgspec.structs.replace(SPEC, system="Be kind."), prompt="")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await say(pilot, "one")
        app.query_one(PromptEditor).text = "two"
        await pilot.press("ctrl+y")
        await settle(pilot)
        assert str(app.screen.query_one("#setup-left", Static).render()) == "the turns before are left out"
        await pilot.press("c")
        await settle(pilot)
        assert app.clipboard.startswith("specterm --prompt two ")
        assert "--system 'Be kind.'" in app.clipboard
        assert "--raw" not in app.clipboard
        await pilot.press("ctrl+g", "ctrl+y")
        await settle(pilot)
        await pilot.press("c")
        await settle(pilot)
        assert "--raw" in app.clipboard
        assert "--system" not in app.clipboard


async def test_what_is_no_turn_is_compared_as_it_stands() -> None:
    engine = FakeEngine(CHAT)
    app = workbench(engine, spec=SPEC, prompt="")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await say(pilot, "one")
        await pilot.press("ctrl+g")
        app.query_one(PromptEditor).text = "two"
        await pilot.press("f9")
        await settle(pilot)
        assert compared(pilot) == ("prompt: two", "asked as: completion")
        await pilot.press("f9")
        screen = await raced(pilot)
        assert "template" not in said(screen, "head")
        assert all(not spec.chat and request.turns == () for spec, (request,) in engine.runs[1:])


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "{}x{}".format(*size))
async def test_a_conversation_as_it_looks(size: tuple[int, int], matches_snapshot: Compare) -> None:
    app = workbench(FakeEngine(CHAT), spec=SPEC, prompt="")
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await say(pilot, "Tell me a story.")
        await say(pilot, "And then?")
        await pilot.press("up")
        svg = await still(app, pilot)
        assert "chat" in svg
        matches_snapshot(svg, SNAPSHOTS / f"chat-{size[0]}x{size[1]}.svg")


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=str)
async def test_a_reused_prefix_is_told_with_the_figures(size: tuple[int, int]) -> None:
    app = workbench(FakeEngine(CHAT), spec=SPEC)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        panel, bar = app.query_one(FiguresPanel), app.query_one(FiguresBar)
        for reused, text in (((1, None), "reused 1 of 2"), ((0, (2, 1)), "reused 0 of 2, drafts 2 and 1")):
            app._engine._reused = reused
            await say(pilot, "And then?")
            assert text in str(panel.border_title if size[0] == 120 else bar.render())
