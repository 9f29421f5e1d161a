"""What the keys do, over a scripted engine."""

import time
from pathlib import Path

import pytest
from textual.message import Message
from textual.pilot import Pilot
from textual.widgets import Input, Select, Static
from tui.fake_engine import FakeEngine, FakeMonitor, round_of
from tui.screens import PROMPT, comes, settle, workbench

from specterm.catalogue import HEADS, METHODS
from specterm.config import ModelSpec, RunSpec
from specterm.events import LoadProgress, Notice, RunFinished
from specterm.tui.app import SpectermApp
from specterm.tui.jobs import FRAMES_PER_SECOND
from specterm.tui.widgets.figures import FiguresBar, FiguresPanel
from specterm.tui.widgets.model_bar import ModelBar
from specterm.tui.widgets.prompt_editor import PromptEditor
from specterm.tui.widgets.race_lane import RaceLane
from specterm.tui.widgets.settings import SettingsPanel
from specterm.tui.widgets.token_log import TokenLog
from specterm.tui.widgets.token_store import State
from specterm.tui.widgets.token_stream import TokenStream

OUTPUT = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the sun.\n\nOne day, Lily saw"
)
SIZE = (120, 40)


def shown(app: SpectermApp) -> str:
    store = app.query_one(TokenLog).store
    return "".join(store.line_text(line) + store.separator(line) for line in range(store.line_count))


def spans(app: SpectermApp) -> list[tuple[str, State]]:
    store = app.query_one(TokenLog).store
    return [span for line in range(store.line_count) for span in store.spans(line)]


def status(app: SpectermApp) -> str:
    return str(app.query_one(ModelBar).render())


def notices(app: SpectermApp) -> list[str]:
    return [notification.message for notification in app._notifications]


async def edit(pilot: Pilot[None], field: int, text: str) -> None:
    """Replace the text of a numbered field of the form."""
    await settle(pilot)
    box = list(pilot.app.query_one(SettingsPanel).query(Input))[field]
    box.value = text
    await settle(pilot)


async def test_the_models_are_loaded_at_the_start_and_shown() -> None:
    engine = FakeEngine()
    app = workbench(engine, spec=RunSpec(model=ModelSpec(target="builtin")).checked())
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        builtin = ModelSpec(drafts=("builtin",), **dict.fromkeys(HEADS, "builtin"))
        assert engine.loads == [builtin]
        assert "builtin (21M)" in status(app)
        assert "builtin (2.4M)" in status(app)
        assert status(app).rstrip().endswith("ready")


async def test_loading_shows_its_stage_and_how_far_it_is() -> None:
    app = workbench(FakeEngine(load=(LoadProgress(0.0, "loading target", 0.4),)))
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        assert "40% loading target" in status(app)


async def test_enter_generates_with_the_form_and_records_what_the_stream_needs() -> None:
    engine = FakeEngine()
    app = workbench(engine)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await edit(pilot, 0, "6")
        app.query_one(PromptEditor).focus()
        await pilot.press("enter")
        await settle(pilot)
        ((spec, requests),) = engine.runs
        assert [request.prompt for request in requests] == [PROMPT]
        assert spec.method.parameters["num_draft_tokens"] == 6
        assert spec.trace == "probs"
        assert shown(app) == PROMPT + OUTPUT


async def test_every_token_has_the_state_of_its_origin() -> None:
    app = workbench()
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert spans(app)[:7] == [
            (PROMPT, State.PROMPT),
            ("Once", State.PLAIN),
            (" upon a time", State.ACCEPTED),
            (",", State.CORRECTION),
            (" there was a little", State.ACCEPTED),
            (" girl", State.BONUS),
            (" named", State.ACCEPTED),
        ]
        states = {state for _, state in spans(app)}
        assert states == {State.PROMPT, State.PLAIN, State.ACCEPTED, State.CORRECTION, State.BONUS}


async def test_rejected_tokens_show_where_they_were_proposed_and_struck_through() -> None:
    app = workbench()
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        await pilot.press("ctrl+r")
        await settle(pilot)
        assert "Once upon a time in the, there was" in shown(app)
        assert (" in", State.REJECTED) in spans(app)
        assert (" the", State.DRAFT) in spans(app)
        struck = {
            segment.text.strip()
            for y in range(10)
            for segment in app.query_one(TokenLog).render_line(y)
            if segment.style is not None and segment.style.strike
        }
        assert struck == {"in", "the", "Tom", "who", "her", "garden", "went", "home"}
        await pilot.press("f3", "r")
        await settle(pilot)
        assert shown(app) == PROMPT + OUTPUT


async def test_escape_cancels_a_run_that_waits_for_the_models_and_leaves_the_loading_alone() -> None:
    engine = FakeEngine(load=(LoadProgress(0.0, "loading target", 0.4),), hold=True)
    app = workbench(engine)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("enter")
        await comes(pilot, lambda: bool(engine.jobs))
        await pilot.press("escape")
        await comes(pilot, lambda: app.workbench.runs.jobs.run is None)
        loading = app.workbench.runs.jobs.load
        assert loading is not None
        assert not loading.cancelled
        assert "40% loading target" in status(app)
        await pilot.press("escape")
        await comes(pilot, lambda: loading.cancelled)
        assert "stopping" in status(app)
        assert "escape" not in app.screen.active_bindings, "there is nothing left to cancel"


async def test_escape_cancels_and_the_app_goes_on() -> None:
    engine = FakeEngine(hold=True)
    app = workbench(engine)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert "generating" in status(app)
        await pilot.press("escape")
        await settle(pilot)
        assert engine.jobs[0].cancelled
        assert "cancelled" in status(app)
        await pilot.press("enter")
        await settle(pilot)
        assert len(engine.runs) == 2


async def test_a_second_enter_during_a_run_is_refused() -> None:
    engine = FakeEngine(hold=True)
    app = workbench(engine)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert len(engine.runs) == 1
        assert notices(app) == ["a run is going; Escape cancels it"]


async def test_enter_while_the_last_run_stops_says_so() -> None:
    app = workbench(FakeEngine(hold=True))
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert app.workbench.runs.jobs.run is not None
        app.workbench.runs.jobs.timer.pause()  # the run has not come to its end yet
        await pilot.press("escape", "enter")
        await pilot.pause()
        assert notices(app) == ["the last run is still stopping; try again"]


@pytest.mark.parametrize("prompt", ["", "  \n "])
async def test_an_empty_prompt_is_refused(prompt: str) -> None:
    engine = FakeEngine()
    app = workbench(engine, prompt=prompt)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert engine.runs == []
        assert notices(app) == ["the prompt is empty; write one, or choose one with Ctrl+L"]


async def test_a_bad_value_says_so_beside_its_field_and_holds_back_enter() -> None:
    engine = FakeEngine()
    app = workbench(engine)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await edit(pilot, 0, "0")
        line = "gamma is 0; it must be a whole number from 1 to 64"
        errors = [e for e in app.query(".field-error").results(Static) if e.display]
        assert [str(error.render()) for error in errors] == [line]
        app.query_one(PromptEditor).focus()
        await pilot.press("enter")
        await settle(pilot)
        assert engine.runs == []
        assert notices(app) == [line]
        await edit(pilot, 0, "3")
        assert not [e for e in app.query(".field-error") if e.display]
        await pilot.press("enter")
        await settle(pilot)
        assert len(engine.runs) == 1


async def test_choosing_a_method_shows_its_parameters_and_runs_it() -> None:
    engine = FakeEngine()
    app = workbench(engine)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        app.query_one("#method", Select).value = "naive"
        await settle(pilot)
        assert not app.query_one("#method-fields").children
        app.query_one(PromptEditor).focus()
        await pilot.press("enter")
        await settle(pilot)
        assert engine.runs[0][0].method.name == "naive"
        app.query_one("#method", Select).value = "draft"
        await settle(pilot)
        assert len(app.query_one("#method-fields").children) == len(METHODS["draft"].parameters) > 1


async def test_a_failed_load_leaves_the_app_usable() -> None:
    engine = FakeEngine(load=(RunFinished(0.0, "failed", "--target is 'nowhere'; there is no such folder", 3),))
    app = workbench(engine)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        assert "failed" in status(app)
        assert notices(app) == ["target is 'nowhere'; there is no such folder (Models, F12)"]
        assert "Loading failed: target is 'nowhere'" in shown(app)
        await pilot.press("enter")
        await settle(pilot)
        assert OUTPUT in shown(app)
        assert "ready" in status(app)


async def test_a_failed_run_is_told_and_the_app_goes_on() -> None:
    engine = FakeEngine(failure="the device ran out of memory; take a smaller --max-model-len")
    app = workbench(engine)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert ("The run failed: the device ran out of memory; take a smaller max length (Models, F12)") in shown(app)
        await pilot.press("enter")
        await settle(pilot)
        assert len(engine.runs) == 2


async def test_notices_of_the_engine_are_shown_with_their_advice() -> None:
    app = workbench(FakeEngine(load=(Notice(0.0, "warning", "drafting is [slow]", "use a smaller draft"),)))
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        assert notices(app) == ["drafting is [slow]; use a smaller draft"]


async def test_live_figures_are_called_live_and_final_ones_final() -> None:
    app = workbench(FakeEngine(hold=True))
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert app.query_one(FiguresPanel).border_title == "Figures · live"
        await pilot.press("escape")
        await settle(pilot)
        assert app.query_one(FiguresPanel).border_title == "Figures · final, live"


async def test_measuring_paints_seldom_and_records_counts_only() -> None:
    engine = FakeEngine()
    app = workbench(engine)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("f3", "m")
        assert app.workbench.runs.jobs.timer._interval == 0.25
        await pilot.press("f2")
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert engine.runs[0][0].trace == "counts"
        assert "measuring" in status(app)
        assert app.query_one(FiguresPanel).border_title == "Figures · final"


async def test_copying_takes_the_output_exactly() -> None:
    app = workbench()
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("f3", "y")
        assert app.clipboard == ""
        await pilot.press("f2")
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        await pilot.press("f3")
        await settle(pilot)
        await pilot.press("y")
        assert app.clipboard == OUTPUT


async def test_history_recalls_earlier_prompts() -> None:
    app = workbench(prompt="first")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        editor = app.query_one(PromptEditor)
        await pilot.press("enter")
        await settle(pilot)
        editor.text = "second"
        await pilot.press("enter")
        await settle(pilot)
        editor.text = "being written"
        await pilot.press("up", "up")
        assert editor.text == "first"
        await pilot.press("down", "down")
        assert editor.text == "being written"


async def test_a_newline_does_not_generate() -> None:
    engine = FakeEngine()
    app = workbench(engine, prompt="one")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("ctrl+j", "t", "w", "o")
        assert app.query_one(PromptEditor).text == "one\ntwo"
        assert engine.runs == []


async def test_scrolling_up_stops_following_and_says_what_is_new() -> None:
    rounds = [round_of(n, [" word"] * 30, [], "\n") for n in range(40)]
    app = workbench(FakeEngine(rounds=rounds))
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        log = app.query_one(TokenLog)
        assert log.is_vertical_scroll_end
        log.scroll_to(y=10, animate=False)
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert log.scroll_offset.y == 10
        assert "new lines, End follows" in str(log.border_subtitle)
        log.focus()
        await pilot.press("end")
        await settle(pilot)
        assert log.is_vertical_scroll_end
        assert not log.border_subtitle


async def test_a_stream_that_follows_still_does_after_the_window_changed_its_size() -> None:
    rounds = [round_of(n, [" word"] * 30, [], "\n") for n in range(40)]
    app = workbench(FakeEngine(rounds=rounds))
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        log = app.query_one(TokenLog)
        for size in ((61, 18), (80, 24), (50, 15), (61, 18), (120, 40), (80, 24)):
            await pilot.resize_terminal(*size)
            await settle(pilot)
            assert log.is_vertical_scroll_end, size
            assert log.border_subtitle == "F3, then i inspects tokens", size


async def test_the_line_of_figures_says_once_that_nothing_was_counted() -> None:
    app = workbench(FakeEngine())
    async with app.run_test(size=(100, 24)) as pilot:
        await settle(pilot)
        line = str(app.query_one(FiguresBar).render())
        assert "accepted n/a  rejected n/a" in line


async def test_ten_thousand_tokens_send_no_message_a_token_and_paint_at_the_frame_rate() -> None:
    rounds = [round_of(n, [" a", " b", " c"], [], " d") for n in range(2500)]
    seen: list[Message] = []
    app = workbench(FakeEngine(rounds=rounds))
    async with app.run_test(size=SIZE, message_hook=seen.append) as pilot:
        await settle(pilot)
        flushes = 0
        log = app.query_one(TokenLog)
        flush = log.flush

        def counted() -> None:
            nonlocal flushes
            flushes += 1
            flush()

        log.flush = counted  # type: ignore[method-assign]
        seen.clear()
        started = time.monotonic()
        await pilot.press("enter")
        await settle(pilot)
        assert shown(app).count(" d") == 2500
        assert len(seen) < 1500
        assert flushes <= FRAMES_PER_SECOND * (time.monotonic() - started) + 2


async def test_a_control_character_of_the_model_does_not_reach_the_terminal() -> None:
    app = workbench(FakeEngine(rounds=[round_of(0, [" \x1b]0;title\x07"], [" \x1b[2J"], "\x9b31m")]))
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("enter", "ctrl+r")
        await settle(pilot)
        assert "␛]0;title␇" in shown(app)
        painted = "".join(strip.text for strip in (app.query_one(TokenLog).render_line(y) for y in range(5)))
        assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in painted)


async def test_quitting_during_a_run_cancels_it_and_closes_the_engine() -> None:
    engine = FakeEngine(hold=True)
    app = workbench(engine)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        await pilot.press("ctrl+q")
        await settle(pilot)
    assert engine.jobs[0].cancelled
    assert engine.closed


async def test_broken_themes_are_named_in_one_notice(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text('name = "one"\nprimary = "blu"\n')
    (tmp_path / "two.toml").write_text("name = ")
    (tmp_path / "fine.toml").write_text('name = "fine"\nprimary = "#0000ff"\n')
    app = SpectermApp(FakeEngine(), FakeMonitor(), RunSpec().checked(), theme_folders=(tmp_path,))
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        (notice,) = notices(app)
        assert "one.toml: primary is 'blu'" in notice
        assert "two.toml is not valid TOML" in notice
        await pilot.press("ctrl+t")
        assert app.theme == "fine"


async def test_help_opens_and_closes() -> None:
    app = workbench()
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("f1")
        await settle(pilot)
        assert app.query("HelpPanel")
        presses = 0
        while app.query("HelpPanel") and presses < 9:  # it pages on to its end first
            await pilot.press("f1")
            await settle(pilot)
            presses += 1
        assert not app.query("HelpPanel")


async def test_every_binding_has_an_id_and_a_tooltip() -> None:
    for owner in (SpectermApp, TokenStream, RaceLane, PromptEditor):
        for binding in owner.BINDINGS:
            assert binding.id, binding
            assert binding.tooltip, binding
