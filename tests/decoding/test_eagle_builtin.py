"""EAGLE and EAGLE-3 with the built-in heads: the output is naive's, and their caches derive from true features only."""

import pytest
import torch
from feeding import slots
from harness import decode

from specterm.bench.prompts import gather
from specterm.config import ModelSpec
from specterm.decoding.ports import Block, Recording
from specterm.decoding.sampling import Warps
from specterm.decoding.tree import Topology
from specterm.models.loading import load_models

TOKENS = 16
METHODS = ["eagle", "eagle3"]
WARPS = [Warps(0.0), Warps(0.7, top_p=0.9)]


@pytest.fixture(scope="module")
def models():
    return load_models(ModelSpec(eagle="builtin", eagle3="builtin", dtype="float64"))


@pytest.fixture(scope="module")
def prompts(models):
    return [models.codec.encode(request.prompt) for request in gather(("builtin",), 3)]


@pytest.fixture(scope="module")
def naive(models, prompts):
    return {warps: decode(models.target.runner, prompts, warps=warps, max_tokens=TOKENS).ids for warps in WARPS}


@pytest.mark.parametrize("warps", WARPS, ids=["greedy", "sampled"])
@pytest.mark.parametrize("head_tree", ["dynamic", "static"])
@pytest.mark.parametrize("method", METHODS)
def test_output_is_naives(models, prompts, naive, method, head_tree, warps):
    target = models.target.runner
    for batch_size in (1, 3):
        decoded = decode(
            target, prompts, method=method, heads=models.heads, warps=warps, max_tokens=TOKENS, batch_size=batch_size,
            record=Recording(probs=True), head_tree=head_tree, tree_nodes=10,
        )  # fmt: skip
        assert decoded.ids == naive[warps]
        assert {"accepted", "rejected"} <= set(decoded.states)


@pytest.mark.parametrize("method", METHODS)
def test_float32_greedy_output_is_naives(prompts, method):
    models = load_models(ModelSpec(eagle="builtin", eagle3="builtin", dtype="float32"))
    target = models.target.runner
    decoded = decode(target, prompts, method=method, heads=models.heads, max_tokens=TOKENS)
    assert decoded.ids == decode(target, prompts, max_tokens=TOKENS).ids
    assert "accepted" in decoded.states


@torch.inference_mode()
def pairs_from_scratch(target, heads, text: list[int]) -> torch.Tensor:
    """The heads' keys and values of all pairs of `text`, from one pass of the target and one of the heads."""
    chain = Topology.of_chain(len(text) - 2, target.device)
    target.allocate(1, len(text))
    _, taps = target.forward_tapped(Block((0,), (0,), torch.tensor([text[:-1]]), chain), heads.taps)
    kept, heads.cache = heads.cache, None
    heads.allocate(1, len(text))
    heads.forward(Block((0,), (0,), torch.tensor([text[1:]]), chain), heads.fuse(taps))
    found = slots(heads, 0, len(text) - 1)
    heads.cache = kept
    return found


@pytest.mark.parametrize("method", METHODS)
def test_the_cache_derives_from_the_targets_features(models, prompts, method):
    target, heads = models.target.runner, models.heads[method]
    decoded = decode(
        target, prompts, method=method, heads=models.heads, max_tokens=40, batch_size=3, tree_width=2, tree_depth=3
    )
    assert {"accepted", "rejected"} <= set(decoded.states)
    for row, prompt in enumerate(prompts):
        length = pairs = len(prompt)  # of the pairs before each round; those of the last draft are up to date
        for part in [part for part in decoded.rounds if part.row == row]:
            pairs = length if part.tokens else pairs
            length += len(part.emitted)
        assert pairs > len(prompt) + 10
        text = [*prompt, *decoded.ids[row]][: pairs + 1]
        expected = pairs_from_scratch(target, heads, text)
        torch.testing.assert_close(slots(heads, row, pairs), expected, rtol=0, atol=1e-9)
