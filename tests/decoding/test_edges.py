"""The edges of decoding: ends inside a block, limits, short and long prompts, refill, recording."""

import pytest
import torch
from harness import decode
from tiny_models import save_pair

from specterm.config import ModelSpec
from specterm.decoding.ports import Recording
from specterm.decoding.sampling import Warps
from specterm.events import Prefilled, Round, RowStarted
from specterm.models.loading import load_models

METHODS = ["naive", "draft"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    target, draft = save_pair("llama", tmp_path_factory.mktemp("edges"), noise=0.03)
    models = load_models(ModelSpec(target=str(target), drafts=(str(draft),), dtype="float64"))
    return models.target.runner, [models.drafts[0].runner]


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """A target that is its own draft: every greedy draft is accepted, so ends fall inside accepted blocks."""
    target, _ = save_pair("llama", tmp_path_factory.mktemp("twins"))
    models = load_models(ModelSpec(target=str(target), drafts=(str(target),), dtype="float64"))
    return models.target.runner, [models.drafts[0].runner]


PROMPT = [5, 17, 900, 33]


def run(pair, method="draft", prompts=(PROMPT,), **options):
    target, drafts = pair
    return decode(target, list(prompts), method=method, drafts=drafts if method == "draft" else (), **options)


@pytest.mark.parametrize("method", METHODS)
def test_one_token_prompt(pair, method):
    decoded = run(pair, method, [[7]], max_tokens=10)
    assert len(decoded.ids[0]) == 10
    assert decoded.ids == run(pair, "naive", [[7]], max_tokens=10).ids


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tokens", [1, 2, 3])
def test_short_outputs(pair, method, tokens):
    decoded = run(pair, method, max_tokens=tokens)
    assert len(decoded.ids[0]) == tokens
    assert decoded.finished[0].reason == "length"
    assert all(len(part.tokens) <= max(0, tokens - 2) for part in decoded.rounds)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_to_generate(pair, method):
    decoded = run(pair, method, max_tokens=0)
    assert decoded.ids == [()]
    assert decoded.finished[0].text == ""
    assert [e.token for e in decoded.events if isinstance(e, Prefilled)] == [None]
    assert not decoded.rounds


@pytest.mark.parametrize("method", METHODS)
def test_eos_as_first_token(pair, method):
    first = run(pair, "naive", max_tokens=1).ids[0][0]
    decoded = run(pair, method, eos=[first], max_tokens=20)
    assert decoded.ids == [(first,)]
    assert decoded.finished[0].reason == "eos"
    assert decoded.finished[0].text == ""
    assert not decoded.rounds


@pytest.mark.parametrize("gamma", [1, 4, 9])
def test_eos_at_every_place_of_a_block(twins, gamma):
    free = run(twins, max_tokens=24).ids[0]
    places = [i for i in range(len(free)) if free[i] not in free[:i]]
    assert len(places) > 10
    cut = 0
    for place in places:
        decoded = run(twins, eos=[free[place]], max_tokens=24, num_draft_tokens=gamma)
        assert decoded.ids[0] == free[: place + 1]
        assert decoded.finished[0].reason == "eos"
        assert decoded.finished[0].text == "".join(decoded.pieces(0)) == "".join(f"{i} " for i in free[:place])
        cut += decoded.states.count("cut")
    assert cut > 0 if gamma > 1 else True


@pytest.mark.parametrize("method", METHODS)
def test_stop_string_across_tokens_and_inside_a_block(twins, method):
    free = run(twins, "naive", max_tokens=24).ids[0]
    for place in range(1, 20):
        # The second half of one token's text and the first half of the next.
        stop = f"{free[place]} {free[place + 1]}"[1:-1]
        text = "".join(f"{i} " for i in free)
        decoded = run(twins, method, stop=(stop,), max_tokens=24)
        done = decoded.finished[0]
        assert done.reason == "stop"
        assert done.text == text[: text.find(stop)] == "".join(decoded.pieces(0))
        kept = "".join(f"{i} " for i in done.token_ids)
        assert done.text.startswith(kept)
        assert len(done.text) - len(kept) < 6
        assert done.token_ids == free[: len(done.token_ids)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("short", [0, 1, 2, 6])
def test_the_context_limit(pair, method, short):
    context = 40
    prompt = (PROMPT * 10)[: context - short]
    decoded = run(pair, method, [prompt], context=context, max_tokens=100)
    # The last token stands one past the context: it is emitted, never forwarded.
    assert len(decoded.ids[0]) == short + 1
    assert decoded.finished[0].reason == "context"
    assert decoded.ids == run(pair, "naive", [prompt], context=context, max_tokens=100).ids


def test_a_draft_with_a_shorter_context_stops_drafting(pair):
    target, (draft,) = pair
    longest = draft.max_positions
    draft.max_positions = 20
    try:
        decoded = run(pair, prompts=[PROMPT, PROMPT * 8], max_tokens=30, batch_size=2)
    finally:
        draft.max_positions = longest
    assert decoded.ids == run(pair, "naive", [PROMPT, PROMPT * 8], max_tokens=30).ids
    drafted = {row: sum(len(p.tokens) for p in decoded.rounds if p.row == row) for row in (0, 1)}
    assert drafted[0] > 0
    assert drafted[1] == 0
    assert any(part.emitted[0].origin == "plain" for part in decoded.rounds if part.row == 1)


def test_refill_gives_each_prompt_a_free_slot(pair):
    generator = torch.Generator().manual_seed(2)
    prompts = [torch.randint(1, 4096, (n,), generator=generator).tolist() for n in (3, 9, 1, 14, 6, 2, 11)]
    decoded = run(pair, prompts=prompts, batch_size=3, max_tokens=15)
    assert decoded.ids == run(pair, "naive", prompts, max_tokens=15).ids
    started = [e for e in decoded.events if isinstance(e, RowStarted)]
    assert [e.row for e in started] == list(range(7))
    assert {e.slot for e in started} == {0, 1, 2}
    assert max(len(e.rows) for e in decoded.events if isinstance(e, Round)) == 3


def test_rounds_add_up(pair):
    decoded = run(pair, max_tokens=60)
    for part in decoded.rounds:
        kept = part.states.count("accepted")
        assert [t.origin for t in part.emitted][:kept] == ["accepted"] * kept
        own = part.emitted[kept:]
        assert [t.origin for t in own] == (
            ["correction"] if "rejected" in part.states else ["bonus" if part.tokens else "plain"]
        )
        first_refused = part.states.index("rejected") if "rejected" in part.states else len(part.states)
        assert set(part.states[:first_refused]) <= {"accepted"}
        assert set(part.states[first_refused + 1 :]) <= {"unused"}
    assert 1 + sum(len(part.emitted) for part in decoded.rounds) == 60
    for event in decoded.events:
        if isinstance(event, Round):
            assert event.draft_s > 0
            assert event.verify_s > 0
            assert event.other_s >= 0


@pytest.mark.parametrize("warps", [Warps(0.0), Warps(0.9)], ids=str)
def test_trace_levels(pair, warps):
    counts = run(pair, warps=warps, max_tokens=30)
    probs = run(pair, warps=warps, max_tokens=30, record=Recording(probs=True))
    everything = run(pair, warps=warps, max_tokens=30, record=Recording(probs=True, alternatives=3))
    assert counts.ids == probs.ids == everything.ids
    assert all(part.texts is None and part.p is None and part.q is None for part in counts.rounds)
    drafted = [part for part in probs.rounds if part.tokens]
    for part in drafted:
        assert part.texts == tuple(f"{i} " for i in part.tokens)
        assert len(part.p) == len(part.tokens)
        own = part.confidence if warps.greedy else part.q
        assert (part.q is None) == warps.greedy
        assert all(0.0 <= x <= 1.0 for x in (*part.p, *own))
        assert all(t.p is not None for t in part.emitted)
    for part in everything.rounds:
        assert len(part.alternatives) == len(part.tokens) + 1
        for node, found in enumerate(part.alternatives):
            ps = [c.probability for c in found.target]
            assert ps == sorted(ps, reverse=True)
            assert (found.drafter is None) == (node == len(part.tokens))
        if warps.greedy and part.tokens:
            assert part.alternatives[0].drafter[0].id == part.tokens[0]
            assert part.alternatives[0].target[0].id == part.emitted[0].id
