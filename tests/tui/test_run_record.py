"""What is kept of the rounds in the stream, and for how long."""

import dataclasses

from tui.fake_engine import model_info, round_of
from tui.judged_rounds import DRAFT_SPEC, NGRAM_SPEC, PLAIN, ROUNDS, TREE, TREE_SPEC, in_round

from specterm.config import to_data
from specterm.events import EmittedToken, Loaded, Prefilled, Round
from specterm.tui.run_record import Outcome, RunRecord


def test_a_part_is_given_back_as_it_was() -> None:
    record = RunRecord()
    record.start_run(to_data(TREE_SPEC))
    first = record.add_prefill(Prefilled(0.1, 0, 2, 0, 0.1, None, EmittedToken(1, "Once", "plain", 0.5)))
    assert record.detail(first) == EmittedToken(1, "Once", "plain", 0.5)
    for event in ROUNDS:
        assert record.detail(record.add_round(event, event.rows[0])) == event.rows[0]


def test_a_row_of_a_batch_is_kept_alone() -> None:
    record = RunRecord()
    other = dataclasses.replace(PLAIN, row=3)
    both = Round(0.2, 7, 0.0, 0.1, 0.0, None, (TREE, other))
    assert record.detail(record.add_round(both, other)) == other
    assert (record.part(0).row, record.part(0).round) == (3, 8)


def test_the_summary_says_how_the_draft_fared() -> None:
    record = RunRecord()
    for event in ROUNDS:
        record.add_round(event, event.rows[0])
    parts = [record.part(number) for number in range(len(record))]
    told = [Outcome.PARTIAL, Outcome.PARTIAL, Outcome.FULL, Outcome.PARTIAL, Outcome.NO_DRAFT]
    assert [part.outcome for part in parts] == told
    assert [part.depth for part in parts] == [3, 3, 2, 2, 0]
    assert [part.rounds for part in parts] == [5] * 5
    assert parts[0].told() == "round 1: 1 of 3 accepted, +1 correction, 7.9 ms"
    assert parts[4].told() == "round 5: no draft, 7.9 ms"
    refused = round_of(0, [], [" x"], " y")
    assert record.part(record.add_round(refused, refused.rows[0])).outcome is Outcome.ZERO


def test_old_rounds_keep_their_counts_and_lose_their_detail() -> None:
    record = RunRecord(max_detail_bytes=20_000)
    for index in range(300):
        record.add_round(in_round(index, TREE), TREE)
    kept = [number for number in range(300) if record.detail(number) is not None]
    assert kept == list(range(kept[0], 300))
    assert kept[0] > 0
    assert sum(len(detail) for detail in record._details if detail) <= 20_000
    assert record.part(0).told() == "round 1: 1 of 5 accepted, +1 correction, 7.9 ms"
    assert record.root(kept[0]) is None
    assert record.root(kept[0] + 1) == TREE.emitted[-1]


def test_half_a_character_costs_a_round_its_detail_alone() -> None:
    record = RunRecord()
    broken = round_of(1, [" \udcff"], [" who"], " a")
    kept = [record.add_round(event, event.rows[0]) for event in (ROUNDS[0], broken, ROUNDS[0])]
    assert [record.detail(number) is not None for number in kept] == [True, False, True]
    assert record.part(kept[1]).told() == "round 2: 1 of 2 accepted, +1 correction, 10.0 ms"


def test_drafters_are_called_as_they_were_loaded() -> None:
    same = model_info("builtin", 21_000_000)
    record = RunRecord()
    for spec, loaded, names in (
        (TREE_SPEC, None, ("builtin", "builtin/draft-b")),
        (TREE_SPEC, (model_info("one", 1), model_info("two", 1)), ("one", "two")),
        (TREE_SPEC, (model_info("a", 2_400_000), model_info("a", 1_600_000)), ("a (2.4M)", "a (1.6M)")),
        (DRAFT_SPEC, (model_info("one", 1), model_info("two", 1)), ("one",)),
        (NGRAM_SPEC, (model_info("one", 1),), ("N-gram",)),
    ):
        if loaded is not None:
            record.load(Loaded(0.0, same, loaded, None))
        record.start_run(to_data(spec))
        assert record.facts(record.add_round(ROUNDS[0], ROUNDS[0].rows[0])).drafters == names


def test_the_root_of_a_draft_is_the_token_before_it_in_its_own_row() -> None:
    record = RunRecord()
    record.add_prefill(Prefilled(0.1, 0, 2, 0, 0.1, None, EmittedToken(1, "Once", "plain")))
    first = record.add_round(ROUNDS[0], ROUNDS[0].rows[0])
    second = record.add_round(ROUNDS[1], ROUNDS[1].rows[0])
    other = dataclasses.replace(PLAIN, row=1)
    third = record.add_round(in_round(0, other), other)
    assert record.root(first) == EmittedToken(1, "Once", "plain")
    assert record.root(second) == ROUNDS[0].rows[0].emitted[-1]
    assert record.root(third) is None
    record.clear()
    assert len(record) == 0
    assert record.root(record.add_round(ROUNDS[0], ROUNDS[0].rows[0])) is None
