"""Sampled trees from draft models: shapes are settled beforehand, draws depend on nothing else, the law is naive's."""

import itertools

import pytest
import torch
from chi_square import chi_square
from feeding import chain
from harness import Decoded, decode
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import save_pair

from specterm.bench.prompts import gather
from specterm.config import ModelSpec
from specterm.decoding.drafters.draft_law import inexhaustible_law
from specterm.decoding.drafters.sampled_shape import sampled_shape
from specterm.decoding.ports import Recording
from specterm.decoding.sampling import Warps, probabilities
from specterm.models.loading import load_models

CPU = torch.device("cpu")
TOKENS = 20
WARPS = Warps(0.7, top_p=0.9)


@pytest.fixture(scope="module")
def models():
    return load_models(ModelSpec(drafts=("builtin", "builtin/draft-b"), dtype="float64"))


@pytest.fixture(scope="module")
def prompts(models):
    return [models.codec.encode(request.prompt) for request in gather(("builtin",), 3)]


def sampled(target, rows, drafts, **given) -> Decoded:
    return decode(
        target, rows, method="tree", drafts=drafts, tree_children="sampled",
        **{"warps": WARPS, "record": Recording(probs=True, alternatives=2), "max_tokens": TOKENS} | given,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("drafters", "parameters"),
    [(1, {}), (1, {"tree_width": 1, "tree_depth": 3}), (2, {"tree_width": 2, "tree_nodes": 9})],
    ids=str,
)
def test_a_row_does_not_depend_on_its_batch(models, prompts, drafters, parameters):
    drafts = [draft.runner for draft in models.drafts][:drafters]
    alone = sampled(models.target.runner, prompts, drafts, **parameters)
    together = sampled(models.target.runner, prompts, drafts, batch_size=3, **parameters)
    assert alone.ids == together.ids
    assert {"accepted", "rejected"} <= set(alone.states)
    assert {source for part in alone.rounds for source in part.sources} == set(range(1, drafters + 1))
    for part in together.rounds:
        if part.emitted[-1].origin != "accepted" and part.tokens:
            assert part.emitted[-1].origin == ("correction" if part.refused else "bonus")
        kept = [i for i, state in enumerate(part.states) if state == "accepted"]
        assert [part.tokens[i] for i in kept] == [t.id for t in part.emitted if t.origin == "accepted"]
        assert [shown.drafter is not None for shown in part.alternatives] == [
            node in part.parents for node in range(-1, len(part.tokens))
        ]
        for p, q, state in zip(part.p or (), part.q or (), part.states, strict=True):
            assert 0.0 <= p <= 1.0 + 1e-9
            assert 0.0 <= q <= 1.0 + 1e-9
            assert state != "accepted" or (p > 0.0 and q > 0.0)


def test_the_shape_is_the_same_in_every_round_but_for_the_end(models, prompts):
    decoded = sampled(models.target.runner, prompts[:1], [models.drafts[0].runner], tree_nodes=14)
    shapes = [part.parents for part in decoded.rounds]
    assert len(shapes[0]) == 14
    for left, shape in zip([TOKENS - 1 - n for n in emitted_before(decoded)], shapes, strict=True):
        if left > 4:
            assert shape == shapes[0]
        else:  # the end of the row: the beginning of the same shape, no deeper than what is still to come
            assert shape == shapes[0][: len(shape)]
            assert depth(shape) == max(0, left - 1)


def emitted_before(decoded: Decoded) -> list[int]:
    return [0, *itertools.accumulate(len(part.emitted) for part in decoded.rounds)][:-1]


def depth(parents: tuple[int, ...]) -> int:
    depths: list[int] = []
    for parent in parents:
        depths.append(1 + (depths[parent] if parent >= 0 else 0))
    return max(depths, default=0)


def test_greedy_decoding_takes_the_likeliest(models, prompts):
    target, drafts = models.target.runner, [models.drafts[0].runner]
    decoded = sampled(target, prompts, drafts, warps=Warps(0.0))
    assert decoded.ids == decode(target, prompts, max_tokens=TOKENS).ids
    assert all(part.q is None for part in decoded.rounds)


def test_the_target_as_its_own_draft_is_never_refused(models, prompts):
    twin = load_models(ModelSpec(drafts=("builtin",), target="builtin", dtype="float64"))
    decoded = sampled(models.target.runner, prompts, [twin.target.runner], warps=Warps(1.0))
    assert set(decoded.states) <= {"accepted", "unused", "cut"}
    assert decoded.states.count("accepted") > TOKENS


def test_a_drafter_whose_context_ends_stops_first(models, prompts):
    """Rows of different depths in one batch, drafters of different depths in one row."""
    target, drafts = models.target.runner, [draft.runner for draft in models.drafts]
    longest = max(map(len, prompts)) + 12
    short = load_models(ModelSpec(drafts=("builtin",), dtype="float64")).drafts[0].runner
    short.max_positions = longest
    run = lambda size: sampled(target, prompts, [drafts[1], short], batch_size=size)  # noqa: E731
    alone, together = run(1), run(3)
    assert alone.ids == together.ids
    masks = [set(part.sources) for part in alone.rounds if len(part.tokens) > 1]
    assert {1, 2} in masks
    assert {1} in masks


def test_the_law_is_naives(tmp_path):
    """The first three tokens after one prompt over many seeds, against the target's own probabilities."""
    target, draft = save_pair("llama", tmp_path, noise=0.3)
    made = load_models(ModelSpec(target=str(target), drafts=(str(draft), str(draft)), dtype="float32"))
    runner, prompt, warps, seeds = made.target.runner, [5, 9, 33], Warps(1.4, top_k=3), 400
    expected: dict[tuple[int, ...], float] = {(): 1.0}
    runner.allocate(1, 16)
    for _ in range(3):
        longer = {}
        for tokens, chance in expected.items():
            law = probabilities(chain(runner, [0], [0], [[*prompt, *tokens]])[0, -1], warps)
            longer |= {(*tokens, int(token)): chance * float(law[token]) for token in law.nonzero()}
        expected = longer
    assert len(expected) == 27
    for drafts in (made.drafts[:1], made.drafts):
        decoded = sampled(
            runner, [prompt] * seeds, [d.runner for d in drafts], warps=warps, seeds=range(seeds), max_tokens=3,
            batch_size=200, tree_width=2, tree_depth=2, tree_nodes=5, record=Recording(),
        )  # fmt: skip
        assert {"accepted", "rejected"} <= set(decoded.states)
        assert set(decoded.ids) <= set(expected)
        counts = torch.tensor([float(decoded.ids.count(tokens)) for tokens in expected])
        statistic, threshold = chi_square(counts, torch.tensor(list(expected.values())) * seeds)
        assert statistic < threshold


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 6), st.integers(1, 40))
@settings(max_examples=80, deadline=None)
def test_a_shape_is_a_tree_in_order(drafters, width, depth_limit, nodes):
    shape = sampled_shape(drafters, width, depth_limit, nodes, CPU)
    assert 0 < shape.nodes <= nodes
    assert list(shape.depths) == sorted(shape.depths)
    assert shape.depths[-1] <= depth_limit
    assert depth(shape.parents) == shape.depths[-1]
    for node, parent in enumerate(shape.parents):
        assert parent < node
        if parent >= 0:
            assert shape.drafters[parent] == shape.drafters[node]
            assert shape.law_of[node] == shape.law_after[parent + 1]
    siblings = [[i for i, parent in enumerate(shape.parents) if parent == node] for node in range(-1, shape.nodes)]
    assert max(map(len, siblings)) == shape.most_children <= width * drafters
    for children in siblings:  # those of one law stand together
        laws = [shape.law_of[i] for i in children]
        assert laws == sorted(laws)
    assert set(shape.law_of) == set(range(shape.laws))
    assert shape.cut([depth_limit] * drafters) == tuple(range(shape.nodes))
    shallow = shape.cut([1] * drafters)
    assert shallow == tuple(range(len(shallow)))


def test_earlier_children_get_deeper_trees():
    shape = sampled_shape(1, 3, 4, 12, CPU)
    below = lambda node: 1 + sum(below(i) for i, parent in enumerate(shape.parents) if parent == node)  # noqa: E731
    first, second = [below(i) for i, parent in enumerate(shape.parents) if parent < 0][:2]
    assert first > second
    assert shape.depths[-1] == 4


def test_a_truncated_law_is_drawn_from_first_and_never_ends():
    logits = torch.tensor([4.0, 3.0, 0.0, -1.0])
    law = inexhaustible_law(logits, Warps(0.7, top_p=0.9))
    kept = probabilities(logits, Warps(0.7, top_p=0.9))
    assert torch.allclose(law, kept, atol=2e-6)
    assert int((kept > 0).sum()) == 2
    tail = law.masked_fill(kept > 0, 0.0)
    assert torch.allclose(tail / tail.sum(), (logits / 0.7).masked_fill(kept > 0, float("-inf")).softmax(0))
