"""Sampled output with fixed children equals naive sampling with the same seed, alone and in a batch; and the same model
as its own draft is never refused."""

import pytest
import torch
from harness import decode
from tiny_models import save_pair

from specterm.config import ModelSpec
from specterm.decoding.sampling import Warps
from specterm.models.loading import load_models

WARPS = [Warps(1.0), Warps(0.7, top_p=0.9), Warps(1.3, top_k=20, min_p=0.02)]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    target, draft = save_pair("llama", tmp_path_factory.mktemp("pair"), noise=0.02)
    return load_models(ModelSpec(target=str(target), drafts=(str(draft),), dtype="float64"))


@pytest.fixture(scope="module")
def prompts():
    generator = torch.Generator().manual_seed(4)
    return [torch.randint(1, 4096, (n,), generator=generator).tolist() for n in (3, 12, 1, 25, 8)]


@pytest.mark.parametrize("warps", WARPS, ids=str)
def test_greedy_draft_equals_naive_with_the_same_seed(models, prompts, warps):
    target, drafts = models.target.runner, [models.drafts[0].runner]
    seeds = [3, 1, 4, 1, 5]
    naive = decode(target, prompts, warps=warps, seeds=seeds, max_tokens=40)
    assert len(set(naive.ids)) == 5
    for batch_size in (1, 5):
        drafted = decode(
            target, prompts, method="draft", drafts=drafts, warps=warps, seeds=seeds, max_tokens=40,
            batch_size=batch_size, draft_temperature=0.0,
        )  # fmt: skip
        assert drafted.ids == naive.ids
        assert "accepted" in drafted.states
        assert "rejected" in drafted.states


@pytest.mark.parametrize("warps", WARPS, ids=str)
def test_a_sampled_row_does_not_depend_on_its_batch(models, prompts, warps):
    target, drafts = models.target.runner, [models.drafts[0].runner]
    run = lambda rows, size: decode(  # noqa: E731
        target, rows, method="draft", drafts=drafts, warps=warps, max_tokens=40, batch_size=size
    )
    alone = run(prompts, 1)
    together = run(prompts, 5)
    backwards = run(prompts[::-1], 2)
    assert alone.ids == together.ids == backwards.ids[::-1]
    assert {"accepted", "rejected"} <= set(alone.states)


@pytest.mark.parametrize("warps", WARPS, ids=str)
def test_the_target_as_its_own_draft_is_never_refused(models, prompts, warps, tmp_path_factory):
    twin = load_models(ModelSpec(target=models.target.info.path, drafts=(models.target.info.path,), dtype="float64"))
    decoded = decode(
        twin.target.runner, prompts, method="draft", drafts=[twin.drafts[0].runner], warps=warps, max_tokens=60
    )
    assert decoded.states
    assert set(decoded.states) == {"accepted"}


def test_a_hotter_draft_is_refused_but_harmless_to_the_seedless_law(models, prompts):
    """A draft temperature of its own changes how much is accepted; that the law stays is the rule's own test."""
    target, drafts = models.target.runner, [models.drafts[0].runner]
    accepted = {}
    for temperature in (0.7, 5.0):
        decoded = decode(
            target, prompts, method="draft", drafts=drafts, warps=Warps(0.7), max_tokens=60,
            draft_temperature=temperature,
        )  # fmt: skip
        accepted[temperature] = decoded.states.count("accepted") / len(decoded.states)
    assert accepted[5.0] < accepted[0.7]
