"""Several drafters and trees: the output is naive's, nodes know who proposed them, budgets choose and learn."""

import pytest
from harness import decode
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import save_pair

from specterm.bench.prompts import gather
from specterm.config import ModelSpec
from specterm.decoding.drafters.budget import CalibratedBudget, FixedBudget
from specterm.decoding.drafters.candidates import Candidates
from specterm.decoding.estimates import spaced
from specterm.decoding.ports import Recording
from specterm.decoding.sampling import Warps
from specterm.events import Calibration
from specterm.models.loading import load_models

TOKENS = 40
SETTINGS = [
    ("sequential", 1, {}),
    ("sequential", 2, {"num_draft_tokens": 3}),
    ("tree", 1, {"tree_width": 2, "tree_depth": 3, "tree_nodes": 6}),
    ("tree", 2, {"tree_nodes": 16}),
    ("tree", 2, {"tree_width": 1, "tree_depth": 5}),
]


@pytest.fixture(scope="module")
def models():
    return load_models(ModelSpec(drafts=("builtin", "builtin/draft-b"), dtype="float64"))


@pytest.fixture(scope="module")
def prompts(models):
    return [models.codec.encode(request.prompt) for request in gather(("builtin",), 3)]


@pytest.mark.full  # test_every_method has the short matrix
@pytest.mark.parametrize("warps", [Warps(0.0), Warps(0.7, top_p=0.9)], ids=["greedy", "sampled"])
@pytest.mark.parametrize(("method", "drafters", "parameters"), SETTINGS, ids=str)
def test_output_is_naives(models, prompts, method, drafters, parameters, warps):
    target, drafts = models.target.runner, [draft.runner for draft in models.drafts][:drafters]
    naive = decode(target, prompts, warps=warps, max_tokens=TOKENS)
    for batch_size in (1, 3):
        decoded = decode(
            target, prompts, method=method, drafts=drafts, warps=warps, max_tokens=TOKENS, batch_size=batch_size,
            record=Recording(probs=True), **parameters,
        )  # fmt: skip
        assert decoded.ids == naive.ids
        assert {"accepted", "rejected"} <= set(decoded.states)
        sources = {source for part in decoded.rounds for source in part.sources}
        assert sources == ({1} if drafters == 1 else {1, 2, 3})


@pytest.mark.parametrize("kind", ["gpt2", "gemma3", "qwen3"])
def test_trees_on_other_architectures(kind, tmp_path):
    """Sliding windows and learned positions see a tree's depths, not its slots, in the target and in the draft."""
    folder, draft = save_pair(kind, tmp_path, noise=0.2)
    made = load_models(ModelSpec(target=str(folder), drafts=(str(draft),), dtype="float64"))
    rows = [[5, 9, 33], list(range(40, 60))]
    naive = decode(made.target.runner, rows, max_tokens=30)
    decoded = decode(
        made.target.runner, rows, method="tree", drafts=[made.drafts[0].runner], max_tokens=30, batch_size=2,
        tree_width=3, tree_depth=4, tree_nodes=14,
    )  # fmt: skip
    assert decoded.ids == naive.ids
    assert {"accepted", "rejected"} <= set(decoded.states)
    assert any(part.parents != tuple(range(-1, len(part.parents) - 1)) for part in decoded.rounds)


def test_two_drafters_keep_more_than_either(models, prompts):
    target, (first, second) = models.target.runner, [draft.runner for draft in models.drafts]

    def length(drafts):
        rounds = decode(target, prompts, method="sequential", drafts=drafts, max_tokens=60, batch_size=3).rounds
        return sum(len(part.emitted) for part in rounds) / len(rounds)

    assert length([first, second]) > max(length([first]), length([second]))


@pytest.mark.parametrize(("method", "drafters", "parameters"), SETTINGS, ids=str)
def test_alternatives_are_recorded_where_a_drafter_went_on(models, prompts, method, drafters, parameters):
    target, drafts = models.target.runner, [draft.runner for draft in models.drafts][:drafters]
    options = {"method": method, "drafts": drafts, "max_tokens": 16, "batch_size": 3} | parameters
    decoded = decode(target, prompts, record=Recording(probs=True, alternatives=4), **options)
    assert decoded.ids == decode(target, prompts, **options).ids
    leaves = found = 0
    for part in decoded.rounds:
        said = [shown.drafter for shown in part.alternatives]
        leaves += sum(own is None for own in said)
        for token, parent, source, confidence in zip(part.tokens, part.parents, part.sources, part.confidence or ()):
            assert len(said[parent + 1]) == 4
            # They are the first drafter's there, so its own nodes are among them.
            chances = {candidate.id: candidate.probability for candidate in said[parent + 1]}
            if source == 1:
                assert confidence == pytest.approx(chances[token])
                found += 1
    assert found > 8
    assert leaves > 0


@given(st.lists(st.tuples(st.integers(-1, 8), st.integers(0, 3), st.floats(0.01, 1.0), st.integers(0, 2)), max_size=20))
@settings(max_examples=200, deadline=None)
def test_every_beginning_of_the_ranking_is_a_tree(steps):
    made = Candidates()
    for parent, token, confidence, source in steps:
        parent = min(parent, len(made.nodes) - 1)
        whole = confidence * (made.nodes[parent].score if parent >= 0 else 1.0)
        made.add(parent, token, confidence, whole, source)
    order = made.ranked()
    assert sorted(order) == list(range(len(made.nodes)))
    for keep in range(len(order) + 1):
        trie = made.pruned(order[:keep])
        assert all(parent < place for place, parent in enumerate(trie.parents))
        assert len({*zip(trie.parents, trie.tokens)}) == keep


def costs(per_token: float) -> Calibration:
    return Calibration({width: 1.0 + per_token * width for width in (1, 2, 5, 9, 17)}, (0.1,), 64)


def stopped() -> float:
    return 0.0


def test_budget_weighs_hope_against_cost():
    falling = [[0.9 * 0.8**i for i in range(30)]]
    free, dear = (CalibratedBudget(costs(c), draft_s=0.4, most=30, clock=stopped).choose(falling) for c in (1e-6, 0.5))
    assert free == 30
    assert 1 <= dear < 6
    assert CalibratedBudget(costs(0.01), 0.4, most=30, clock=stopped).choose([[0.001] * 30]) == 1


SCORES = st.lists(st.floats(0.0, 1.0), max_size=40).map(lambda row: sorted(row, reverse=True))


@given(
    st.lists(SCORES, min_size=1, max_size=3).filter(any),
    st.dictionaries(st.sampled_from((1, 2, 5, 17, 33)), st.floats(0.1, 4.0), min_size=2),
    st.lists(st.tuples(st.integers(1, 40), st.floats(0.05, 5.0)), max_size=12),
    st.floats(0.0, 2.0),
)
@settings(max_examples=300, deadline=None)
def test_budget_chooses_the_best_size_without_seeing_every_candidate(rows, known, passes, draft_s):
    """As if every size had been tried: against costs that fall with the width here and there, known and observed."""
    budget = CalibratedBudget(Calibration(known, (), 64), draft_s, most=33, clock=stopped)
    for width, took in passes:
        budget._pass_s.observe(width, took)
    rates = {}
    most = min(33, max(map(len, rows)))
    for nodes in {*spaced(most), *(width - 1 for width in known if 1 < width <= most + 1)}:  # a step may end there
        gained = len(rows) + sum(min(1.0, score) for row in rows for score in row[:nodes])
        rates[nodes] = gained / (draft_s + budget._pass_s.at(nodes + 1))
    assert rates[budget.choose(rows)] == pytest.approx(max(rates.values()))


def test_budget_asks_for_no_candidate_that_cannot_be_worth_it():
    asked = []

    def falling():
        for i in range(60):
            asked.append(i)
            yield 0.5 ** (i + 1)

    assert CalibratedBudget(costs(0.1), 0.4, most=60, clock=stopped).choose([falling()]) < 5
    assert len(asked) < 12


def test_budget_learns_that_a_drafter_is_too_sure():
    budget = CalibratedBudget(costs(0.05), draft_s=0.4, most=30, clock=stopped)
    falling = [[0.9 * 0.9**i for i in range(30)]]
    before = budget.choose(falling)
    for _ in range(50):
        budget.learn(expected=4.0, accepted=1)
    assert budget.choose(falling) < before


def test_budget_learns_what_drafts_and_passes_really_cost():
    """Drafting is ten times as dear as calibrated, so more is worth verifying; then passes become dear, and less is."""
    now = 0.0
    budget = CalibratedBudget(costs(0.05), draft_s=0.4, most=30, clock=lambda: now)

    def settled(draft_s, token_s):
        nonlocal now
        chosen = []
        for turn in range(180):
            budget.begin()
            now += draft_s
            hope = (0.5, 0.7, 0.9)[turn % 3]
            chosen.append(budget.choose([[hope ** (i + 1) for i in range(30)]]))
            now += 1.0 + token_s * (chosen[-1] + 1)
            budget.learn(expected=4.0, accepted=4)
        return sum(chosen[-30:]) / 30

    as_calibrated = settled(0.4, 0.05)
    assert settled(4.0, 0.05) > 1.2 * as_calibrated
    assert settled(0.4, 1.0) < 0.8 * as_calibrated


def test_another_level_is_drafted_while_it_brings_tokens_faster_than_rounds_do():
    def deepest(draft_s, ratio, right=1.0):
        """The levels that are drafted, of 8, where each path that goes on has `ratio` of the score before it."""
        budget = CalibratedBudget(costs(0.05), draft_s, most=30, levels=8, clock=stopped)
        budget.learn(expected=1000.0, accepted=round(1000 * right))
        budget.begin()
        reached = 1
        while reached < 8 and budget.paths([ratio ** (reached - 1)], [[ratio**reached]]):
            reached += 1
        return reached

    assert deepest(draft_s=1e-3, ratio=0.9) == 8
    assert deepest(draft_s=80.0, ratio=0.9) == 1
    assert 1 < deepest(draft_s=2.0, ratio=0.5) < deepest(draft_s=2.0, ratio=0.8) < 8
    assert deepest(draft_s=2.0, ratio=0.8, right=0.3) < deepest(draft_s=2.0, ratio=0.8)


def test_a_row_whose_scores_have_vanished_asks_for_no_further_level():
    budget = CalibratedBudget(costs(0.05), draft_s=1e-3, most=30, levels=8, clock=stopped)
    budget.begin()
    assert budget.paths([0.0], [[0.0, 0.0]]) == 0
    assert budget.paths([1e-45], [[0.0, 0.0]]) == 0
    assert budget.paths([0.0, 0.9], [[0.0, 0.0], [0.7, 0.1]]) > 0  # beside a row that has some


def test_the_next_level_has_as_many_paths_as_are_worth_it():
    def widest(draft_s, *reached):
        budget = CalibratedBudget(costs(0.05), draft_s, most=30, levels=8, clock=stopped)
        budget.begin()
        return budget.paths([1.0] * len(reached), reached)

    falling = [0.5, 0.1, 0.02]
    assert [widest(draft_s, falling) for draft_s in (0.5, 2.0, 4.0, 8.0)] == [3, 2, 1, 0]
    assert [widest(draft_s, falling, falling) for draft_s in (1.0, 4.0, 8.0)] == [
        3,
        2,
        1,
    ]  # two rows share what a path costs
    assert FixedBudget(5).paths([1.0], [falling]) == 3


@given(st.integers(1, 64))
def test_costs_between_and_beyond_the_calibrated_widths(tokens):
    assert costs(0.25).forward_s(tokens) == pytest.approx(1.0 + 0.25 * tokens)
