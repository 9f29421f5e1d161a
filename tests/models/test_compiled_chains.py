"""Chains in one call, and the likeliest tokens, against the same step by step."""

import pytest
import torch

from specterm.config import ModelSpec
from specterm.decoding.drafters.draft_law import over_vocabulary
from specterm.decoding.drafters.host_beams import chain_levels, ranked, ranked_by_torch
from specterm.decoding.ports import Block
from specterm.decoding.prefill import prefill
from specterm.decoding.sampling import (
    Purpose,
    Warps,
    draw,
    probabilities,
    purpose_key,
    row_key,
    uniforms,
)
from specterm.decoding.tree import Topology
from specterm.kernels.machine import this_machine
from specterm.models.loading import load_models

pytestmark = pytest.mark.skipif(this_machine() is None, reason="no kernels for this processor")
PROMPT = torch.arange(5, 45)


@pytest.fixture(params=["8bit", "none"])
def draft(request):
    models = load_models(ModelSpec(device="cpu", draft_quantize=request.param).checked())
    runner = models.drafts[0].runner
    runner.allocate(2, 96)
    prefill(runner, 1, PROMPT)
    return runner


def stepped(runner, tokens, most, vocab):
    """The chain, token by token."""
    for place, token in enumerate(tokens[:-1]):
        runner.step(1, 40 + place, token)
    logits, drawn, chances = [], [], []
    last = tokens[-1]
    for place in range(most):
        logits.append(runner.step(1, 40 + len(tokens) - 1 + place, last))
        law = logits[-1][:vocab].double().softmax(-1)
        last = int(law.argmax())
        drawn.append(last)
        chances.append(float(law[last]))
    return drawn, chances, torch.stack(logits)


@pytest.mark.parametrize("tokens", [[17], [17, 300], [17, 300, 4, 99, 8]], ids=len)
@pytest.mark.parametrize("vocab", [4096, 1003, 7])
def test_a_chain_is_made_of_its_steps(draft, tokens, vocab):
    wanted = stepped(draft, tokens, 6, vocab)
    drawn, chances, logits = draft.greedy_chain(1, 40, tokens, 6, 0.0, vocab)
    assert drawn == wanted[0]
    assert chances == pytest.approx(wanted[1], rel=1e-5)
    assert torch.equal(logits[:6], wanted[2])


@pytest.mark.parametrize("vocab", [4096, 1003, 5000])
@pytest.mark.parametrize("warps", [Warps(0.8), Warps(1.3, top_p=0.9), Warps(1.0, top_k=7, min_p=0.01)])
def test_a_sampled_chain_is_made_of_its_steps(draft, warps, vocab):
    key = purpose_key(row_key(5, [1, 2]), Purpose.DRAFT)
    u = uniforms(torch.tensor([key]), torch.arange(90, 96).unsqueeze(0))[0]
    drawn, laws = draft.sampled_chain(1, 40, [17, 300], 6, vocab, warps, key, 90)
    laws = laws[:6].clone()
    draft.forward(Block((1,), (40,), torch.tensor([[17, 300]]), Topology.of_chain(1, draft.device)))
    last = 300
    for place, (token, law) in enumerate(zip(drawn, laws, strict=True)):
        wanted = probabilities(over_vocabulary(draft.step(1, 41 + place, last), vocab), warps)
        torch.testing.assert_close(law, wanted)
        assert token == int(draw(law, u[place])) == int(draw(wanted, u[place]))
        last = token


def test_a_chain_ends_where_it_is_unlikely(draft):
    _, chances, _ = draft.greedy_chain(1, 40, [17], 6, 0.0, 4096)
    for count in range(1, 7):
        product = torch.tensor(chances[:count]).prod()
        drawn, _, _ = draft.greedy_chain(1, 40, [17], 6, float(product) * 1.0001, 4096)
        assert len(drawn) <= count
    assert len(draft.greedy_chain(1, 40, [17], 6, float(product) * 0.9, 4096)[0]) == 6


def test_a_token_beyond_the_table_is_no_fault(draft):
    """Targets may have more tokens than a draft has."""
    drawn, _, logits = draft.greedy_chain(1, 40, [40_000], 2, 0.0, 4096)
    assert len(drawn) == 2
    assert logits[:2].isfinite().all()


def test_there_is_no_chain_before_a_cache():
    runner = load_models(ModelSpec(device="cpu").checked()).drafts[0].runner
    assert runner.greedy_chain(0, 0, [3], 2, 0.0, 4096) is None
    assert runner.sampled_chain(0, 0, [3], 2, 4096, Warps(1.0), 7, 0) is None


@pytest.mark.parametrize("vocab", [1, 3, 16, 17, 4096, 5003])
def test_the_likeliest_tokens_are_those_of_torch(vocab):
    logits = torch.randn((2, 3, vocab), generator=torch.Generator().manual_seed(vocab))
    if vocab > 16:  # of those that are alike the first ones come first
        logits[0, 0, [5, 16]] = logits[0, 1, [2, vocab - 1]] = 9.0
        logits[1, 2] = 1.0
    for count in (1, 3, 6):
        ours, theirs = ranked(logits, count), ranked_by_torch(logits, count)
        for row, other in zip(ours, theirs, strict=True):
            for (ids, chances), (wanted, expected) in zip(row, other, strict=True):
                assert list(ids) == list(wanted)
                assert chances == pytest.approx(expected, rel=1e-5)


def test_banned_tokens_come_last_and_once():
    logits = torch.full((1, 1, 40), float("-inf"))
    logits[0, 0, [20, 3]] = torch.tensor([2.0, 1.0])
    ((ids, chances),) = ranked(logits, 5)[0]
    assert ids == [20, 3, 0, 1, 2]
    assert chances[2:] == [0.0, 0.0, 0.0]
    assert [len(set(ids)) for ids, _ in ranked(torch.full((1, 1, 7), float("-inf")), 7)[0]] == [7]


def test_levels_of_a_chain():
    logits = torch.randn((2, 50), generator=torch.Generator().manual_seed(1))
    tokens, chances = logits.argmax(-1).tolist(), logits.softmax(-1).amax(-1).tolist()
    first, second = (level.rows()[0] for level in chain_levels(tokens, chances, logits, 3))
    assert (first.tokens, second.tokens) == ([[tokens[0]]], [[tokens[1]]])
    assert second.score == [[pytest.approx(chances[0] * chances[1])]]
    assert [token for token, _ in second.alternatives[0]] == logits[1].topk(3).indices.tolist()
    plain = chain_levels(tokens, chances, logits, 0)
    assert not plain[0].rows()[0].alternatives
