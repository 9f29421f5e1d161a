"""When a run is told that its speculation loses or does not happen, and what it is told to try."""

import pytest

from specterm.catalogue import METHODS, Method
from specterm.catalogue.plugins import PLUGINS, Plugin
from specterm.config import MethodSpec
from specterm.events import Calibration
from specterm.metrics.counting import METRICS, Figure
from specterm.metrics.verdict import LEAST_ROUNDS, verdict

DRAFT = MethodSpec(name="draft").checked()
COSTS = Calibration({1: 0.010, 2: 0.0105, 5: 0.013}, (0.002,), 64)  # seconds


def figures(
    length: float,
    *,
    rounds: int = 20,
    draft: float = 0.010,
    verify: float = 0.013,
    other: float = 0.001,
    **more: Figure,
) -> dict[str, Figure]:
    """Of `rounds` rounds with these seconds each, and four draft tokens."""
    known: dict[str, Figure] = {
        "rounds": rounds,
        "drafted": 4 * rounds,
        "mean_acceptance_length": length,
        "draft_time_s": draft * rounds,
        "verify_time_s": verify * rounds,
        "other_time_s": other * rounds,
    }
    return dict.fromkeys(METRICS) | known | more


def test_a_loss_says_how_much_and_against_which_break_even() -> None:
    found = verdict(figures(1.3), 20, DRAFT, COSTS)
    assert found is not None
    # A round takes 24 ms, a naive step 10 + 1.
    assert found.text == (
        f"speculation is losing: about {1.3 * 11 / 24:.2f}x naive; drafting takes 42% of a round, "
        "acceptance length 1.30 against break-even 2.18"
    )
    assert found.short == "losing: about 0.60x"
    assert found.advice == "try --adaptive, or naive"


def test_a_machine_that_slowed_down_since_calibration_does_not_look_like_a_loss() -> None:
    slow = {"draft": 0.030, "verify": 0.039, "other": 0.003}
    assert verdict(figures(2.3, **slow), 20, DRAFT, COSTS) is None
    told = [verdict(figures(1.3, **seconds), 20, DRAFT, COSTS) for seconds in ({}, slow)]
    assert told[0] is not None
    assert told[0] == told[1]


def test_a_gain_or_a_draw_says_nothing() -> None:
    assert verdict(figures(3.0), 20, DRAFT, COSTS) is None
    assert verdict(figures(2.17), 20, DRAFT, COSTS) is None


def test_fewer_draft_tokens_are_advised_where_they_promise_more() -> None:
    # The first position is nearly always kept, the others hardly ever.
    kept: list[float | None] = [0.9, 0.05, 0.0, 0.0]
    found = verdict(figures(1.95, per_position_acceptance=kept), 20, DRAFT, COSTS)
    assert found is not None
    assert found.advice == "try gamma 1, or --adaptive, or naive"


def test_a_measured_overhead_beats_calibration() -> None:
    found = verdict(figures(1.3, overhead=1.5), 20, DRAFT, None)
    assert found is not None
    assert found.short == "losing: 0.87x"
    assert "break-even 1.50" in found.text
    assert verdict(figures(1.3, overhead=1.2), 20, DRAFT, COSTS) is None


def test_rounds_without_a_draft_are_told_as_not_active() -> None:
    ngram = MethodSpec(name="ngram").checked()
    found = verdict(figures(1.1), 5, ngram, COSTS)
    assert found is not None
    assert found.text == "speculation is not active: 75% of 20 rounds had no draft and ran as naive does"
    assert found.short == "no draft in 75% of rounds"
    assert "try a draft model" in found.advice
    with_draft = verdict(figures(1.0), 0, DRAFT, COSTS)
    assert with_draft is not None
    assert "100% of 20 rounds" in with_draft.text
    assert "--max-model-len" in with_draft.advice


@pytest.mark.parametrize(
    ("name", "parameters", "told"),
    [
        ("early-exit", {}, "found no room"),
        ("early-exit", {"adaptive": True}, "--adaptive leaves drafts out"),
        ("eagle", {"adaptive": True}, "--adaptive leaves drafts out"),
        ("suffix", {}, "nothing in the text repeats"),
        ("mine", {}, "the plug-in proposed nothing"),
    ],
)
def test_why_there_was_no_draft(name, parameters, told, monkeypatch) -> None:
    mine = Plugin(Method("mine", "Mine", "Mine."), build=print)
    monkeypatch.setitem(METHODS, "mine", mine.method)
    monkeypatch.setitem(PLUGINS, "mine", mine)
    found = verdict(figures(1.0), 2, MethodSpec(name=name, parameters=parameters).checked(), COSTS)
    assert found is not None
    assert "90% of 20 rounds" in found.text
    assert told in found.advice


def test_fewer_nodes_are_advised_to_trees_only() -> None:
    chain, beam = (
        verdict(figures(1.3), 20, MethodSpec(name="early-exit", parameters={"tree_width": width}).checked(), COSTS)
        for width in (1, 3)
    )
    assert chain is not None
    assert beam is not None
    assert "--tree-nodes" not in chain.advice
    assert "fewer --tree-nodes" in beam.advice


def test_the_measured_speedup_is_the_one_that_is_told() -> None:
    found = verdict(figures(1.3, overhead=1.5, speedup=0.92), 20, DRAFT, None)
    assert found is not None
    assert found.short == "losing: 0.92x"
    assert verdict(figures(1.3, overhead=1.5, speedup=1.01), 20, DRAFT, None) is None


def test_what_cannot_be_known_is_not_told() -> None:
    assert verdict(figures(1.0, rounds=LEAST_ROUNDS - 1), 0, DRAFT, COSTS) is None
    assert verdict(figures(1.0), 20, DRAFT, None) is None
    assert verdict(dict.fromkeys(METRICS), 0, DRAFT, COSTS) is None
    assert verdict(figures(1.0), 0, MethodSpec(name="naive").checked(), COSTS) is None
