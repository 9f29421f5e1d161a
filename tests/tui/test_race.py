"""The race without a screen: which runs are raced, the common clock, and what a lane has written when."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from scripted_engine import run_events

from specterm.bench.trials import Trial
from specterm.config import MethodSpec, Request, RunSpec
from specterm.events import RowFinished
from specterm.tui.race import SPEEDS, LapReplay, RaceClock, heats
from specterm.tui.widgets.token_store import HIDDEN_STATES, State

LANES = ("naive", "draft gamma 4")


def trial(
    lane: str, output: Sequence[int], *, prompt: str = "a", repeat: int = 0, accepts: Sequence[int] = (4,)
) -> Trial:
    """A run of 0.5 s for the prefill, 0.1 s a naive round, 0.2 s a drafted one."""
    spec = RunSpec(method=MethodSpec(name=lane.split()[0])).checked()
    request = Request(prompt="a: ", prompt_id="a", repeat=repeat)
    return Trial(lane, repeat, tuple(run_events(spec, request, output, (4,))))


class Watch:
    """A clock that is moved by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Written:
    """A page that keeps what is written."""

    def __init__(self) -> None:
        self.pieces: list[tuple[str, State]] = []

    def append(self, text: str, state: State, part: int | None = None, index: int = 0) -> None:
        self.pieces.append((text, state))

    @property
    def text(self) -> str:
        return "".join(text for text, state in self.pieces if state not in (State.PROMPT, *HIDDEN_STATES))


def test_the_clock_plays_pauses_and_stops_at_the_end() -> None:
    watch = Watch()
    clock = RaceClock(10.0, watch)
    watch.now += 5
    clock.tick()
    assert (clock.position, clock.playing) == (0.0, False)
    clock.toggle()
    watch.now += 2
    clock.tick()
    assert clock.position == pytest.approx(2.0)
    clock.change_pace(1)
    assert clock.speed == 2.0
    watch.now += 1
    clock.toggle()
    watch.now += 50
    clock.tick()
    assert (clock.position, clock.playing) == (pytest.approx(4.0), False)
    clock.toggle()
    watch.now += 50
    clock.tick()
    assert (clock.position, clock.playing) == (10.0, False)
    clock.toggle()
    assert (clock.position, clock.playing) == (0.0, True)


def test_the_clock_has_ends_in_time_and_in_pace() -> None:
    clock = RaceClock(3.0, Watch())
    for step, end in ((1, SPEEDS[-1]), (-1, SPEEDS[0])):
        for _ in range(len(SPEEDS) + 2):
            clock.change_pace(step)
        assert clock.speed == end
    clock.seek(99.0)
    assert clock.position == 3.0
    clock.seek(-1.0)
    assert clock.position == 0.0


def test_a_heat_takes_the_repeat_of_the_median_time_for_every_lane() -> None:
    trials = [trial(LANES[0], range(8 + more), repeat=n) for n, more in enumerate((4, 0, 2))]
    trials += [trial(LANES[1], range(8 + more), repeat=n) for n, more in enumerate((4, 0, 2))]
    (heat,) = heats(LANES, LANES[0], trials)
    naive, draft = heat.laps
    assert heat.repeat == 2
    assert naive is not None
    assert draft is not None
    assert (len(naive.tokens), naive.seconds) == (10, pytest.approx(0.5 + 9 * 0.1))
    assert (len(draft.tokens), draft.seconds) == (10, pytest.approx(0.5 + 2 * 0.2))
    assert heat.seconds == naive.seconds
    assert draft.difference is None


def test_a_repeat_that_lacks_a_lane_is_raced_only_where_no_other_is_whole() -> None:
    cut = trial(LANES[1], range(8), repeat=1)
    broken = Trial(LANES[1], 1, tuple(event for event in cut.events if not isinstance(event, RowFinished)))
    whole = [trial(lane, range(8)) for lane in LANES]
    (heat,) = heats(LANES, LANES[0], [*whole, trial(LANES[0], range(8), repeat=1), broken])
    assert (heat.repeat, None in heat.laps) == (0, False)
    (heat,) = heats(LANES, LANES[0], [trial(LANES[0], range(8), repeat=1), broken])
    assert (heat.repeat, heat.laps[1]) == (1, None)


@pytest.mark.parametrize(
    ("output", "difference", "written"),
    [
        ((0, 1, 2, 3, 4, 5), None, "the cat sat on a mat "),
        ((0, 1, 2, 7, 4, 5), 3, "the cat sat ▶slept a mat "),
        ((7, 1, 2, 3, 4, 5), 0, "▶slept cat sat on a mat "),
        ((0, 1, 2, 3), 4, "the cat sat on ▶"),
    ],
    ids=["same", "inside a round", "the first", "shorter"],
)
@pytest.mark.parametrize("lane", [LANES[1], "naive twice"])
def test_the_first_difference_is_marked_in_the_text(
    lane: str, output: tuple[int, ...], difference: int | None, written: str
) -> None:
    (heat,) = heats((LANES[0], lane), LANES[0], [trial(LANES[0], range(6)), trial(lane, output)])
    lap = heat.laps[1]
    assert lap is not None
    assert lap.difference == difference
    assert "".join(lap.around) == "".join(token.text for token in lap.tokens)
    page = Written()
    replay = LapReplay(page, page.pieces.clear)
    replay.show(lap)
    replay.to(lap.seconds)
    assert page.text == written
    assert replay.finished
    replay.to(0.5)
    replay.to(lap.seconds)
    assert page.text == written


def test_a_lane_has_written_what_was_there_at_the_time() -> None:
    (heat,) = heats(LANES, LANES[0], [trial(lane, range(8)) for lane in LANES])
    lap = heat.laps[1]
    assert lap is not None
    page = Written()
    replay = LapReplay(page, page.pieces.clear)
    replay.show(lap)
    texts = []
    for position in (0.0, 0.49, 0.5, 0.69, 0.71, 0.5, 9.0):
        replay.to(position)
        texts.append((page.text, replay.tokens))
    six = "the cat sat on a mat "
    assert texts == [("", 0), ("", 0), ("the ", 1), ("the ", 1), (six, 6), ("the ", 1), (six + "and slept ", 8)]
    states = {state for _, state in page.pieces}
    assert {State.ACCEPTED, State.BONUS, State.PLAIN} <= states
