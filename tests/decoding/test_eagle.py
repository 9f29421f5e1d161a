"""EAGLE end to end: the output is naive's at every batch size and for both kinds of tree, whatever the model knows."""

import pytest
import torch
from feature_models import InformedEagle, PlainEagle
from feeding import from_scratch, random_ids, slots
from harness import decode
from tiny_models import save_pair

from specterm.config import ModelSpec
from specterm.decoding.ports import Recording
from specterm.decoding.sampling import Warps
from specterm.models.loading import load_models

TOKENS = 30
PROMPTS = [random_ids(4, 1), random_ids(23, 2), [7], random_ids(11, 3)]
TREES = [  # and how many nodes the largest has
    ({}, 24),
    ({"tree_width": 1, "tree_depth": 5}, 5),
    ({"tree_width": 4, "tree_depth": 3, "tree_nodes": 9}, 9),
    ({"head_tree": "static", "tree_nodes": 12}, 12),
    ({"head_tree": "static", "tree_width": 1, "tree_depth": 3}, 3),
    ({"head_tree": "static", "tree_depth": 9, "tree_nodes": 3}, 3),  # shallower than allowed
]
WARPS = [Warps(0.0), Warps(0.7, top_p=0.9)]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    target, draft = save_pair("llama", tmp_path_factory.mktemp("eagle"), noise=0.05)
    models = load_models(ModelSpec(target=str(target), drafts=(str(draft),), dtype="float64"))
    return models.target.runner, models.drafts[0].runner


@pytest.fixture(scope="module")
def naive(pair):
    return {warps: decode(pair[0], PROMPTS, warps=warps, max_tokens=TOKENS).ids for warps in WARPS}


def run(pair, model=None, method="eagle", prompts=PROMPTS, **options):
    target, draft = pair
    heads = {method: InformedEagle(draft) if model is None else model}
    options = {"max_tokens": TOKENS} | options
    return decode(target, prompts, method=method, heads=heads, **options)


@pytest.mark.parametrize("warps", WARPS, ids=["greedy", "sampled"])
@pytest.mark.parametrize(("tree", "most"), TREES, ids=str)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_output_is_naives(pair, naive, tree, most, warps, batch_size):
    decoded = run(pair, warps=warps, batch_size=batch_size, record=Recording(probs=True), **tree)
    assert decoded.ids == naive[warps]
    assert {"accepted", "rejected"} <= set(decoded.states)
    assert max(len(part.tokens) for part in decoded.rounds) == most
    chains = all(part.parents == tuple(range(-1, len(part.parents) - 1)) for part in decoded.rounds)
    assert chains == (tree.get("tree_width") == 1)
    assert all(0.0 < c <= 1.0 for part in decoded.rounds for c in part.confidence or ())


@pytest.mark.parametrize("head_tree", ["dynamic", "static"])
def test_a_model_that_knows_nothing_is_harmless(pair, naive, head_tree):
    target = pair[0]
    model = PlainEagle(target.vocab_size, target.hidden_size)
    decoded = run(pair, model, "eagle3", batch_size=2, head_tree=head_tree, tree_width=2, tree_nodes=5, tree_depth=3)
    assert decoded.ids == naive[WARPS[0]]
    assert "rejected" in decoded.states


def test_a_truncated_vocabulary_proposes_the_targets_ids(pair, naive):
    ids = torch.arange(4095, 0, -2)
    decoded = run(pair, InformedEagle(pair[1], token_ids=ids), batch_size=3, record=Recording(alternatives=2))
    assert decoded.ids == naive[WARPS[0]]
    assert "accepted" in decoded.states
    proposed = {token for part in decoded.rounds for token in part.tokens}
    said = {c.id for part in decoded.rounds for shown in part.alternatives for c in shown.drafter or ()}
    assert proposed | said <= set(ids.tolist())


def test_a_vocabulary_smaller_than_the_width(pair, naive):
    model = InformedEagle(pair[1], token_ids=torch.tensor([5, 99]))
    decoded = run(pair, model, tree_width=5, tree_depth=2, tree_nodes=200, record=Recording(alternatives=4))
    assert decoded.ids == naive[WARPS[0]]
    assert max(len(part.tokens) for part in decoded.rounds) == 6


@pytest.mark.parametrize("own_context", [12, 30, 40])
def test_a_model_with_a_shorter_context_stops_drafting(pair, naive, own_context):
    """Prompts beyond it are not drafted for at all, and a row stops where its pairs fill it."""
    model = InformedEagle(pair[1], max_positions=own_context)
    decoded = run(pair, model, batch_size=3)
    assert decoded.ids == naive[WARPS[0]]
    paused = 0
    for row, prompt in enumerate(PROMPTS):
        pairs = len(prompt)  # of the text, the first root included
        for part in [part for part in decoded.rounds if part.row == row]:
            useful = len(prompt) + TOKENS - pairs - 2
            assert bool(part.tokens) == (pairs <= own_context and useful > 0)
            paused += pairs > own_context
            pairs += len(part.emitted)
    assert paused > 0


@pytest.mark.parametrize("tokens", [1, 2, 3])
def test_no_tree_is_deeper_than_of_use(pair, tokens):
    decoded = run(pair, max_tokens=tokens, tree_nodes=30)
    assert [len(ids) for ids in decoded.ids] == [tokens] * len(PROMPTS)
    assert all(len(part.tokens) <= (0, 3, 12)[max(0, tokens - 2)] for part in decoded.rounds)


@pytest.mark.parametrize("short", [0, 1, 5])
def test_the_end_of_the_context(pair, short):
    prompt = random_ids(60 - short, 5)
    plain = decode(pair[0], [prompt], context=60, max_tokens=99)
    assert len(plain.ids[0]) == short + 1
    assert run(pair, prompts=[prompt], context=60, max_tokens=99).ids == plain.ids


def test_a_long_prompt_is_prefilled_in_chunks(pair, monkeypatch):
    monkeypatch.setattr("specterm.decoding.prefill.CHUNK_TOKENS", {"cpu": 8})
    decoded = run(pair, batch_size=2)
    monkeypatch.undo()
    assert decoded.ids == run(pair, batch_size=2).ids
    assert "accepted" in decoded.states


def test_a_cache_that_was_used_before_gives_the_same_drafts(pair):
    model = InformedEagle(pair[1])
    first = run(pair, model, batch_size=3)
    again = run(pair, model, batch_size=3)
    assert [part.tokens for part in again.rounds] == [part.tokens for part in first.rounds]


@pytest.mark.parametrize("tree", [{}, {"head_tree": "static"}], ids=str)
def test_alternatives_are_recorded_at_every_expanded_node(pair, tree):
    shown = run(pair, record=Recording(alternatives=5), batch_size=3, **tree)
    assert shown.ids == run(pair, batch_size=3, **tree).ids
    inner = leaves = 0
    for part in shown.rounds:
        assert len(part.alternatives) == len(part.tokens) + 1
        for node, alternatives in enumerate(part.alternatives, start=-1):
            children = [i for i, parent in enumerate(part.parents) if parent == node]
            if not children:
                leaves += alternatives.drafter is None
                continue
            inner += node >= 0
            chances = {c.id: c.probability for c in alternatives.drafter}
            assert list(chances.values()) == sorted(chances.values(), reverse=True)
            assert len(chances) == 5
            for child in children:
                assert part.confidence[child] == pytest.approx(chances[part.tokens[child]])
    assert inner > 0
    assert leaves > 0


def test_the_cache_holds_the_text(pair):
    """After a run the model's keys and values are those of the text, forwarded at once."""
    draft = pair[1]
    model = InformedEagle(draft)
    decoded = run(pair, model, prompts=PROMPTS[:2], batch_size=2)
    assert {"accepted", "rejected"} <= set(decoded.states)
    for row, prompt in enumerate(PROMPTS[:2]):
        length = pairs = len(prompt)  # of the pairs before each round; those of the last draft are up to date
        for part in [part for part in decoded.rounds if part.row == row]:
            pairs = length if part.tokens else pairs
            length += len(part.emitted)
        assert pairs > len(prompt) + 10
        text = [*prompt, *decoded.ids[row]]
        torch.testing.assert_close(
            slots(draft, row, pairs), from_scratch(draft, text[1 : pairs + 1]), rtol=0, atol=1e-9
        )
