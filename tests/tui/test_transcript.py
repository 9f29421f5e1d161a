"""The order in which a run's text is written."""

import dataclasses

from tui.fake_engine import round_of, run_events

from specterm.events import EmittedToken, Event, Prefilled, Round, RowFinished, RowRound, RowStarted
from specterm.tui.run_record import RunRecord
from specterm.tui.transcript import Transcript, node_index, refused_chain
from specterm.tui.widgets.token_store import State


class Page:
    def __init__(self) -> None:
        self.written: list[tuple[str, State, int | None, int]] = []

    def append(self, text: str, state: State, part: int | None = None, index: int = 0) -> None:
        self.written.append((text, state, part, index))

    @property
    def text(self) -> str:
        return "".join(text for text, *_ in self.written)


def written(events: list[Event]) -> Page:
    page = Page()
    transcript = Transcript(page, RunRecord())
    for event in events:
        transcript.observe(event)
    return page


def test_refused_tokens_come_before_the_correction_in_their_round() -> None:
    page = written(run_events("go", [round_of(3, [" a"], [" x", " y"], " b")], first=" 1"))
    assert page.written == [
        ("go", State.PROMPT, None, 0),
        (" 1", State.PLAIN, 0, 0),
        (" a", State.ACCEPTED, 1, 0),
        (" x", State.REJECTED, 1, node_index(1)),
        (" y", State.DRAFT, 1, node_index(2)),
        (" b", State.CORRECTION, 1, 1),
    ]


def test_of_a_tree_the_first_refused_branch_is_taken() -> None:
    #  root - a(accepted) - x(rejected) - x1(unused) - x2(unused)
    #                     \ z(rejected)
    part = RowRound(
        row=0,
        tokens=(1, 2, 3, 4, 5),
        parents=(-1, 0, 0, 1, 3),
        states=("accepted", "rejected", "rejected", "unused", "unused"),
        emitted=(EmittedToken(1, "a", "accepted"), EmittedToken(9, "c", "correction")),
        texts=("a", "x", "z", "x1", "x2"),
    )
    assert list(refused_chain(part)) == [
        (1, "x", State.REJECTED),
        (3, "x1", State.DRAFT),
        (4, "x2", State.DRAFT),
    ]


def test_what_was_refused_beside_an_accepted_sibling_is_left_out() -> None:
    #  root - y(rejected) - y1(unused)
    #       \ a(accepted) - x(rejected)
    part = RowRound(
        row=0,
        tokens=(1, 2, 3, 4),
        parents=(-1, -1, 0, 1),
        states=("rejected", "accepted", "unused", "rejected"),
        emitted=(EmittedToken(2, "a", "accepted"), EmittedToken(9, "c", "correction")),
        texts=("y", "a", "y1", "x"),
    )
    assert list(refused_chain(part)) == [(3, "x", State.REJECTED)]
    whole = dataclasses.replace(part, tokens=(1, 2), parents=(-1, -1), states=("rejected", "accepted"))
    assert whole.refused == ()
    assert list(refused_chain(whole)) == []


def test_without_recorded_texts_nothing_refused_is_written() -> None:
    (part,) = round_of(0, ["a"], ["x"], "b").rows
    assert list(refused_chain(dataclasses.replace(part, texts=None))) == []


def test_rows_that_interleave_are_written_one_after_the_other() -> None:
    def started(row: int) -> RowStarted:
        return RowStarted(0.0, row, row, "p", 0, 0, f"[{row}]", (1,), 0.0, 0.0)

    def first(row: int) -> Prefilled:
        return Prefilled(0.1, row, 1, 0, 0.1, None, EmittedToken(1, f"first{row}", "plain"))

    both = [round_of(n, ["a"], [], f"{n}", row=row).rows[0] for n in (0, 1) for row in (0, 1)]
    rounds = [Round(0.2, n, 0.1, 0.1, 0.0, None, tuple(both[2 * n : 2 * n + 2])) for n in (0, 1)]
    done = [RowFinished(0.3, row, "length", "", ()) for row in (1, 0)]
    page = written([started(0), started(1), first(0), first(1), *rounds, *done])
    assert page.text == "[0]first0a0a1\n\nrow 1: [1]first1a0a1"


def test_the_output_is_what_the_model_gave_without_prompt_and_refused_tokens() -> None:
    transcript = Transcript(Page(), RunRecord())
    for event in run_events("go", [round_of(0, ["\ta"], ["x"], "\x1b")], first=" 1"):
        transcript.observe(event)
    assert transcript.output == " 1\ta\x1b"
    transcript.start_run()
    assert transcript.output == ""
