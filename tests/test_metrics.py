"""The figures, each worked out by hand from a few events."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_engine import run_events

from specterm.config import MethodSpec, Request, RunSpec
from specterm.events import (
    DeviceReading,
    EmittedToken,
    Event,
    Prefilled,
    Round,
    RowFinished,
    RowRound,
    RowStarted,
    RunFinished,
    RunStarted,
    Sample,
)
from specterm.metrics import METRICS, LiveFigures, against_naive, row_results
from specterm.metrics.rows import repetition

DRAFT = RunSpec(method=MethodSpec(name="draft", parameters={"num_draft_tokens": 4})).checked()
NAIVE = RunSpec(method=MethodSpec(name="naive")).checked()
OUTPUT = tuple(range(8))


def row_started(row: int = 0, arrived_at: float = 0.0) -> RowStarted:
    return RowStarted(arrived_at, row, row, f"prompt-{row}", 0, 0, "text", (1, 2), arrived_at, arrived_at)


def emitted(*ids: int, origin: Any = "plain") -> tuple[EmittedToken, ...]:
    return tuple(EmittedToken(token, "x", origin) for token in ids)


def prefilled(time: float, row: int = 0) -> Prefilled:
    return Prefilled(time, row, 2, 0, time, None, emitted(0)[0])


def figures(events: list[Event], row: int = 0) -> dict[str, Any]:
    return row_results(events)[row].metrics


def test_a_chain_by_hand() -> None:
    # Token one at 0.5 s; then rounds of 0.2 s that keep 4, 1 and 0 of 4 draft tokens: 5 + 1 + 1 tokens, the last
    # round has one token left and so keeps none.
    events = list(run_events(DRAFT, Request(prompt="x"), OUTPUT, (4, 0)))
    got = figures(events)
    assert set(got) == set(METRICS)
    assert (got["output_tokens"], got["prompt_tokens"], got["total_tokens"]) == (8, 3, 11)
    assert (got["rounds"], got["target_passes"]) == (3, 4)
    assert (got["drafted"], got["accepted"], got["rejected"]) == (12, 4, 2)
    assert (got["corrections"], got["bonuses"]) == (2, 1)
    assert got["draft_acceptance_rate"] == pytest.approx(4 / 12)
    assert got["token_wastage"] == pytest.approx(8 / 12)
    assert got["mean_acceptance_length"] == pytest.approx(7 / 3)
    assert got["accepted_per_draft"] == pytest.approx(1 + 4 / 3)
    assert got["per_position_acceptance"] == pytest.approx([1 / 3] * 4)
    assert got["ttft_s"] == 0.5
    assert got["latency_s"] == pytest.approx(1.1)
    assert got["tpot_s"] == pytest.approx(0.6 / 7)
    assert got["throughput_tok_s"] == pytest.approx(8 / 1.1)
    assert got["efficiency_gain"] == pytest.approx(1 - 4 / 8)
    assert [got[f"{part}_time_s"] for part in ("draft", "verify", "other")] == pytest.approx([0.15, 0.42, 0.03])
    for name in ("tree_nodes", "branching_factor", "tree_efficiency", "per_drafter_acceptance", "speedup", "overhead"):
        assert got[name] is None, name
    assert [got[name] for name in METRICS if "energy" in name or "power" in name] == [None] * 5


def test_naive_has_no_draft_figures() -> None:
    got = figures(list(run_events(NAIVE, Request(prompt="x"), OUTPUT, ())))
    assert got["drafted"] == 0
    assert got["efficiency_gain"] == 0
    assert got["mean_acceptance_length"] == 1
    for name in ("draft_acceptance_rate", "accepted_per_draft", "per_position_acceptance", "token_wastage"):
        assert got[name] is None, name


def test_speedup_and_overhead_against_naive() -> None:
    draft = figures(list(run_events(DRAFT, Request(prompt="x"), OUTPUT, (4, 0))))
    naive = figures(list(run_events(NAIVE, Request(prompt="x"), OUTPUT, ())))
    got = against_naive(draft, naive)
    assert got["speedup"] == pytest.approx(1.2 / 1.1)
    assert got["overhead"] == pytest.approx(2.0)
    assert against_naive(naive, naive)["speedup"] == 1


def test_a_tree() -> None:
    # Root with two children; the first has two children of its own. Kept: node 0 and node 3.
    tree = RowRound(
        0,
        (5, 6, 7, 8),
        (-1, -1, 0, 0),
        ("accepted", "unused", "rejected", "accepted"),
        emitted(5, 8, origin="accepted") + emitted(9, origin="bonus"),
        sources=(0b001, 0b100, 0b001, 0b101),
    )
    got = figures(
        [
            RunStarted("r", "", {"method": {"name": "draft"}, "sampling": {"acceptance": "exact"}}, {}),
            row_started(),
            prefilled(1.0),
            Round(2.0, 0, 0.1, 0.8, 0.1, None, (tree,)),
            RowFinished(2.0, 0, "length", "xxxx", (0, 5, 8, 9)),
            RunFinished(2.0, "done"),
        ]
    )
    assert got["tree_nodes"] == 4
    assert got["branching_factor"] == 2
    assert got["tree_efficiency"] == 0.5
    assert got["per_position_acceptance"] == [1, 1]
    assert got["per_drafter_acceptance"] == [pytest.approx(2 / 3), None, 1 / 2]


def test_tokens_behind_a_stop_string_do_not_count() -> None:
    events: list[Event] = [
        row_started(),
        prefilled(1.0),
        Round(2.0, 0, 0, 1, 0, None, (RowRound(0, (), (), (), emitted(1, 2, 3)),)),
        RowFinished(2.0, 0, "stop", "xx", (0, 1)),
    ]
    assert figures(events)["output_tokens"] == 2
    live = LiveFigures()
    for event in events:
        live.observe(event)
    assert live.figures["output_tokens"] == 2


def test_a_stop_string_can_cut_everything() -> None:
    part = RowRound(0, (), (), (), emitted(1))
    got = figures(
        [row_started(), prefilled(1.0), Round(2.0, 0, 0, 1, 0, None, (part,)), RowFinished(2.0, 0, "stop", "", ())]
    )
    assert (got["output_tokens"], got["mean_acceptance_length"]) == (0, 0)
    assert got["throughput_tok_s"] is None


def test_latency_counts_from_arrival() -> None:
    got = figures([row_started(arrived_at=3.0), prefilled(4.0), RowFinished(4.0, 0, "eos", "x", (0,))])
    assert got["ttft_s"] == got["latency_s"] == 1
    assert got["tpot_s"] is None
    assert got["mean_acceptance_length"] is None


def test_nothing_generated_is_null_not_zero() -> None:
    nothing = Prefilled(1.0, 0, 2, 0, 1.0, None, None)
    got = figures([row_started(), nothing, RowFinished(1.0, 0, "length", "", ())])
    assert got["output_tokens"] == 0
    for name in ("ttft_s", "tpot_s", "throughput_tok_s", "efficiency_gain", "repetition"):
        assert got[name] is None, name


@pytest.mark.parametrize(("reason", "finish"), [("cancelled", "cancelled"), ("failed", "error")])
def test_a_row_that_the_stream_leaves_open(reason: Any, finish: str) -> None:
    (result,) = row_results([row_started(), prefilled(1.0), RunFinished(2.0, reason, "out of memory")])
    assert (result.finish_reason, result.text, result.token_ids) == (finish, "x", (0,))


def test_rows_of_a_batch_pay_a_round_in_full_and_share_its_energy() -> None:
    def sample(time: float) -> Sample:  # a constant 50 W
        return Sample(time, (DeviceReading("gpu:0", "X", 0.5, energy_j=50 * time, power_w=50.0, power_source="nvml"),))

    # Both rows are prefilled by 1 s; in four rounds of 1 s row 0 emits 3 tokens each and row 1 one token each.
    rounds = [
        Round(2.0 + i, i, 0.25, 0.5, 0.25, None, (
            RowRound(0, (), (), (), emitted(1, 2, 3)), RowRound(1, (), (), (), emitted(4))
        ))
        for i in range(4)
    ]  # fmt: skip
    events: list[Event] = [row_started(0), row_started(1), prefilled(1.0), prefilled(1.0, 1), sample(0.0)]
    for event in rounds:
        events += [event, sample(event.time)]
    events += [RowFinished(5.0, row, "length", "", tuple(range(1 + n))) for row, n in ((0, 12), (1, 4))]
    first, second = (result.metrics for result in row_results(events))
    assert first["verify_time_s"] == second["verify_time_s"] == 2
    assert first["energy_j"] == pytest.approx(200 * 12 / 16)
    assert second["energy_j"] == pytest.approx(200 * 4 / 16)
    assert first["joules_per_token"] == pytest.approx(12.5) == second["joules_per_token"]
    assert first["power_avg_w"] == pytest.approx(50)
    assert first["gpu_util_avg"] == pytest.approx(0.5)


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=6),
    st.integers(min_value=1, max_value=60),
    st.sampled_from((DRAFT, NAIVE)),
)
def test_live_figures_end_where_the_results_are(accepts: list[int], tokens: int, spec: RunSpec) -> None:
    live = LiveFigures()
    events = list(run_events(spec, Request(prompt="x"), range(tokens), accepts))
    for event in events:
        live.observe(event)
    final = figures(events)
    assert {name: value for name, value in live.figures.items() if value is not None} == {
        name: value for name, value in final.items() if value is not None and name != "repetition"
    }
    assert final["drafted"] >= final["accepted"] + final["rejected"]
    assert final["output_tokens"] == 1 + final["accepted"] + final["corrections"] + final["bonuses"] or spec is NAIVE


def test_live_figures_of_several_rows_sum() -> None:
    live = LiveFigures()
    for event in (row_started(0), prefilled(1.0), row_started(1), prefilled(2.0, 1)):
        live.observe(event)
    both = tuple(RowRound(row, (), (), (), emitted(1)) for row in (0, 1))
    live.observe(Round(3.0, 0, 0, 1, 0, None, both))
    got = live.figures
    assert (got["output_tokens"], got["rounds"], got["verify_time_s"]) == (4, 2, 1)
    assert got["mean_acceptance_length"] == 1
    assert (got["ttft_s"], got["tpot_s"], got["latency_s"]) == (None, None, 3)


@pytest.mark.parametrize(
    ("ids", "share"), [((), None), ((1, 2, 3), None), (range(10), 0.0), ((1,) * 7, 3 / 4), ((1, 2) * 4, 3 / 5)]
)
def test_repetition(ids: Any, share: float | None) -> None:
    assert repetition(tuple(ids)) == share
