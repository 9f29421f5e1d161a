"""Early exit: the target's first layers draft on its own cache; output and cache are what they are without a draft."""

import pytest
import torch
from feeding import from_scratch, random_ids, slots
from harness import decode
from tiny_models import save_pair
from transformers import AutoModelForCausalLM

from specterm.bench.prompts import gather
from specterm.config import ModelSpec
from specterm.decoding.drafters.early_exit import build_early_exit, exit_layer
from specterm.decoding.drafters.memory import DraftMemory
from specterm.decoding.drafters.setup import DraftSetup
from specterm.decoding.ports import Recording
from specterm.decoding.sampling import Warps
from specterm.errors import ConfigError, ModelError
from specterm.events import Calibration
from specterm.models.loading import load_models

TOKENS = 24
CHAIN, TREE = {"exit_layer": 4}, {"exit_layer": 4, "tree_width": 3, "tree_nodes": 9}


@pytest.fixture(scope="module")
def target():
    return load_models(ModelSpec(dtype="float64")).target


@pytest.fixture(scope="module")
def prompts(target):
    return [target.codec.encode(request.prompt) for request in gather(("builtin",), 3)]


@pytest.mark.parametrize(
    ("warps", "parameters"),
    [
        (Warps(0.0), CHAIN),
        (Warps(0.0), TREE),
        (Warps(0.7, top_p=0.9), CHAIN | {"draft_temperature": 0.0}),
        (Warps(0.7, top_p=0.9), TREE),
    ],
    ids=["greedy chain", "greedy tree", "sampled, greedy chain", "sampled, tree"],
)
def test_output_is_naives(target, prompts, warps, parameters):
    naive = decode(target.runner, prompts, warps=warps, max_tokens=TOKENS)
    for batch_size in (1, 3):
        decoded = decode(
            target.runner, prompts, method="early-exit", warps=warps, max_tokens=TOKENS, batch_size=batch_size,
            record=Recording(probs=True), **parameters,
        )  # fmt: skip
        assert decoded.ids == naive.ids
        assert {"accepted", "rejected"} <= set(decoded.states)
        assert all(0.0 < c <= 1.0 for part in decoded.rounds for c in part.confidence or ())


def test_float32_greedy_output_is_naives(prompts):
    runner = load_models(ModelSpec(dtype="float32")).target.runner
    for parameters in (CHAIN, TREE):
        decoded = decode(runner, prompts, method="early-exit", max_tokens=TOKENS, **parameters)
        assert decoded.ids == decode(runner, prompts, max_tokens=TOKENS).ids
        assert {"accepted", "rejected"} <= set(decoded.states)


def test_sampled_chains_are_judged_by_their_own_law(target, prompts):
    decoded = decode(
        target.runner, prompts, method="early-exit", warps=Warps(0.7, top_p=0.9), max_tokens=TOKENS, batch_size=2,
        record=Recording(probs=True), **CHAIN,
    )  # fmt: skip
    assert {"accepted", "rejected"} <= set(decoded.states)
    assert all(0.0 < q <= 1.0 for part in decoded.rounds for q in part.q or ())


@pytest.mark.parametrize("parameters", [CHAIN, TREE], ids=["chain", "tree"])
def test_the_cache_is_that_of_the_text_alone(target, prompts, parameters):
    decoded = decode(target.runner, prompts[1:2], method="early-exit", max_tokens=TOKENS, **parameters)
    assert {"accepted", "rejected"} <= set(decoded.states)
    text = [*prompts[1], *decoded.ids[0][:-1]]
    kept = slots(target.runner, 0, len(text))
    torch.testing.assert_close(kept, from_scratch(target.runner, text), atol=1e-9, rtol=1e-9)


def with_a_weak_last_layer(kind, folder):
    """A random model is of no use at its second layer, unless its third has little to say."""
    target, _ = save_pair(kind, folder)
    model = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float64)
    last = (model.transformer.h if kind == "gpt2" else model.model.layers)[2]
    with torch.no_grad():
        if kind == "gemma3":  # its norms come last, and scale by 1 + weight
            for norm in (last.post_attention_layernorm, last.post_feedforward_layernorm):
                norm.weight.fill_(-0.7)
        else:
            ends = (last.attn, last.mlp) if kind == "gpt2" else (last.self_attn.o_proj, last.mlp.down_proj)
            for end in ends:
                getattr(end, "c_proj", end).weight.mul_(0.3)
    model.save_pretrained(target)
    return load_models(ModelSpec(target=str(target), dtype="float64")).target.runner


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3"])
def test_other_architectures(kind, tmp_path):
    runner = with_a_weak_last_layer(kind, tmp_path)
    prompts = [random_ids(length, length) for length in (1, 17, 33)]
    naive = decode(runner, prompts, max_tokens=TOKENS)
    for parameters in ({}, {"tree_width": 3, "tree_nodes": 8}):
        decoded = decode(
            runner, prompts, method="early-exit", max_tokens=TOKENS, batch_size=3, exit_layer=2, **parameters
        )
        assert decoded.ids == naive.ids
        assert {"accepted", "rejected"} <= set(decoded.states)


def test_to_the_end_of_the_context(tmp_path):
    runner = with_a_weak_last_layer("llama", tmp_path)
    prompts = [random_ids(240, 1), random_ids(251, 2)]
    naive = decode(runner, prompts, max_tokens=TOKENS)
    assert [row.reason for row in naive.finished.values()] == ["context"] * 2
    for parameters in ({}, {"tree_width": 3, "tree_nodes": 8}):
        decoded = decode(
            runner, prompts, method="early-exit", max_tokens=TOKENS, batch_size=2, exit_layer=2, **parameters
        )
        assert decoded.ids == naive.ids
        assert "accepted" in decoded.states


def test_the_layers_that_draft():
    assert [exit_layer(given, 6) for given in (None, 1, 5)] == [3, 1, 5]
    assert exit_layer(None, 3) == 1
    with pytest.raises(ConfigError, match="--exit-layer is 6; the target has 6 layers, so it must be at most 5"):
        exit_layer(6, 6)
    with pytest.raises(ModelError, match="at least 2 layers; this one has 1"):
        exit_layer(None, 1)


def setup(target, costs=None, **parameters):
    usual = {"exit_layer": None, "num_draft_tokens": 4, "draft_temperature": None, "tree_width": 1, "tree_nodes": None}
    usual["adaptive"] = False
    return DraftSetup(target.runner, (), Warps(0.7), Recording(), usual | parameters, DraftMemory(), costs)


def test_what_does_not_go_together_is_named(target):
    with pytest.raises(ConfigError, match="--tree-nodes is 9; with early-exit it needs a --tree-width above 1"):
        build_early_exit(setup(target, tree_nodes=9))
    with pytest.raises(ConfigError, match=r"--draft-temperature is 0\.0; with early-exit it needs --tree-width 1"):
        build_early_exit(setup(target, tree_width=2, draft_temperature=0.0))


def test_room_for_the_tree(target):
    """As many nodes as are ever verified, by what costs say or by what is asked for."""
    costs = Calibration({1: 1.0, 5: 1.1, 17: 1.2}, (), 64)
    assert build_early_exit(setup(target)).max_nodes == 4
    assert build_early_exit(setup(target, tree_width=3)).max_nodes == 12
    assert build_early_exit(setup(target, tree_width=3, tree_nodes=99)).max_nodes == 3 + 3 * 9
    assert build_early_exit(setup(target, costs, tree_width=8)).max_nodes == 64
