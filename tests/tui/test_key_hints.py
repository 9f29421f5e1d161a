"""The line of keys: what fits, what a click does, and what follows the focus."""

from textual.app import App, ComposeResult
from textual.widgets import Input
from tui.fake_engine import FakeEngine, FakeMonitor
from tui.screens import comes, settle, workbench

from specterm.config import RunSpec
from specterm.events import RunFinished
from specterm.settings import Settings
from specterm.tui.app import SpectermApp
from specterm.tui.widgets.key_hints import KeyHints


class Bound(App[None]):
    BINDINGS = [  # noqa: RUF012
        ("f2", "one", "First"),
        ("f3", "two", "Second"),
        ("f4", "one", "First again"),
        ("f5", "refused", "Refused"),
        ("f6", "long", "A description that no narrow line holds"),
    ]
    done = ""

    def compose(self) -> ComposeResult:
        yield Input()
        yield KeyHints()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return None if action == "refused" else True

    def action_one(self) -> None:
        self.done += "1"

    def action_two(self) -> None:
        self.done += "2"

    def action_refused(self) -> None:
        self.done += "x"


def shown(hints: KeyHints) -> str:
    return hints.render_line(0).text.rstrip()


async def test_what_fits_is_shown_once_and_a_click_does_what_the_key_does():
    app = Bound()
    async with app.run_test(size=(40, 5)) as pilot:
        hints = app.query_one(KeyHints)
        await pilot.pause()
        assert shown(hints) == " f2 First f3 Second f5 Refused"
        for column in (1, 9, 11, 20):
            await pilot.click(KeyHints, offset=(column, 0))
        await pilot.click(KeyHints, offset=(35, 0))
        await pilot.pause()
        assert app.done == "12"
        await pilot.resize_terminal(80, 5)
        await pilot.pause()
        assert "no narrow line" in shown(hints)
        assert hints.hint_at(45).description.startswith("A description")


async def test_what_cannot_be_done_now_is_dim():
    app = Bound()
    async with app.run_test(size=(40, 5)) as pilot:
        await pilot.pause()
        line = app.query_one(KeyHints).render_line(0)
        assert [s.text for s in line if s.style is not None and s.style.dim] == ["f5", " Refused"]


async def test_a_key_of_the_keymap_keeps_the_place_of_its_action():
    app = SpectermApp(
        FakeEngine(), FakeMonitor(), RunSpec().checked(), settings=Settings(keymap={"app.compare": "ctrl+b"})
    )
    async with app.run_test(size=(60, 18)) as pilot:
        await settle(pilot)
        assert shown(app.query_one(KeyHints)) == " ⏎ Run f1 Help ^p Palette f4 Settings ^b Compare f12 Models"


async def test_how_to_cancel_stands_first_while_a_run_streams_and_is_gone_when_it_ends_under_a_dialog():
    engine = FakeEngine(hold=True)
    app = workbench(engine)
    async with app.run_test(size=(60, 18)) as pilot:
        await settle(pilot)
        await pilot.press("enter", "f3")
        await settle(pilot)
        hints = app.query_one(KeyHints)
        assert shown(hints).startswith(" esc Cancel i Inspect")
        await pilot.press("s")
        await settle(pilot)
        assert app.screen is not app.workbench
        engine.jobs[0].put(RunFinished(0.2, "done"))
        await comes(pilot, lambda: app.workbench.runs.jobs.run is None)
        await pilot.press("escape")
        await comes(pilot, lambda: app.screen is app.workbench)
        assert shown(hints).startswith(" i Inspect")
        await pilot.press("s")
        await settle(pilot)
        assert "Cancel" not in shown(hints), "the dialog's key is no key of the workbench"


async def test_escape_in_the_stream_ends_the_search_before_it_cancels_the_run():
    engine = FakeEngine(hold=True)
    app = workbench(engine)
    async with app.run_test(size=(60, 18)) as pilot:
        await settle(pilot)
        await pilot.press("enter", "f3", "slash", *"time", "enter")
        await settle(pilot)
        assert shown(app.query_one(KeyHints)).startswith(" esc End search")
        await pilot.press("escape")
        await settle(pilot)
        assert not engine.jobs[0].cancelled
        await pilot.press("escape")
        await comes(pilot, lambda: engine.jobs[0].cancelled)
