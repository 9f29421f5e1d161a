"""The strip of rounds: what a cell shows, and where a click or a key leads."""

from textual.app import App, ComposeResult
from tui.fake_engine import round_of
from tui.judged_rounds import CHAIN, LOOKUP, PLAIN, in_round

from specterm.events import EmittedToken, Prefilled, Round
from specterm.tui.run_record import RunRecord
from specterm.tui.widgets.round_strip import RoundStrip, cell

GAMMA = 4


def filled(rounds: list[Round]) -> RunRecord:
    record = RunRecord()
    record.add_prefill(Prefilled(0.1, 0, 2, 0, 0.1, None, EmittedToken(1, "Once", "plain")))
    for event in rounds:
        record.add_round(event, event.rows[0])
    return record


def told(accepted: int, refused: int, rows: int = 1) -> list[str]:
    event = round_of(0, ["a"] * accepted, ["x"] * refused, "b")
    record = filled([event])
    return cell(record.part(1), GAMMA, rows)


def test_height_is_the_accepted_count_and_texture_how_the_draft_fared() -> None:
    assert [told(n, 0)[0] for n in (1, 2, 3, 4)] == ["▂", "▄", "▆", "█"]
    assert [told(n, GAMMA - n)[0] for n in (1, 2, 3)] == ["⣀", "⣤", "⣶"]
    assert told(0, 4) == ["×"]
    assert told(0, 0) == ["·"]
    assert cell(filled([]).part(0), GAMMA, 2) == [" ", "┊"]


def test_two_rows_have_twice_the_levels() -> None:
    assert [told(n, 0, 2) for n in (1, 2, 3, 4)] == [[" ", "▄"], [" ", "█"], ["▄", "█"], ["█", "█"]]
    assert told(3, 1, 2) == ["⣤", "⣿"]


class Shown(App[None]):
    CSS = "RoundStrip { height: 1; }"

    def __init__(self, record: RunRecord) -> None:
        super().__init__()
        self.strip = RoundStrip(record)
        self.chosen: list[int] = []

    def compose(self) -> ComposeResult:
        yield self.strip

    def on_round_strip_chosen(self, message: RoundStrip.Chosen) -> None:
        self.chosen.append(message.part)


async def test_the_newest_round_is_at_the_right_and_a_click_chooses_it() -> None:
    app = Shown(filled([in_round(0, CHAIN), in_round(1, LOOKUP), in_round(2, PLAIN)]))
    async with app.run_test(size=(20, 3)) as pilot:
        assert app.strip.render_line(0).text == " " * 16 + "┊⣀▅·"
        await pilot.click(RoundStrip, offset=(18, 0))
        await pilot.click(RoundStrip, offset=(3, 0))
        assert app.chosen == [2]
        await pilot.hover(RoundStrip, offset=(17, 0))
        assert app.strip.tooltip == "round 1: 1 of 3 accepted, +1 correction, 7.9 ms"


async def test_arrows_go_from_round_to_round_and_stop_at_the_ends() -> None:
    app = Shown(filled([in_round(0, CHAIN), in_round(1, LOOKUP)]))
    async with app.run_test(size=(20, 3)) as pilot:
        app.strip.focus()
        app.strip.flush()
        await pilot.press("left", "left", "left", "left", "right", "end", "right", "home")
        assert app.chosen == [2, 1, 0, 1, 2, 0]


async def test_the_strip_scrolls_to_an_old_round_and_costs_the_same_with_many() -> None:
    record = filled([in_round(n, CHAIN if n % 2 else LOOKUP) for n in range(5000)])
    asked: list[int] = []
    part = record.part
    record.part = lambda number: asked.append(number) or part(number)  # type: ignore[func-returns-value, method-assign]
    app = Shown(record)
    async with app.run_test(size=(20, 3)):
        assert app.strip.part_at(19) == 5000
        app.strip.select(100)
        asked.clear()
        app.strip.render_line(0)
        assert len(asked) == 20
        assert app.strip.part_at(0) == 90
        app.strip.select(3)
        assert [app.strip.part_at(x) for x in (0, 19)] == [0, 19]
        app.strip.select(4999)
        assert app.strip.part_at(19) == 5000
