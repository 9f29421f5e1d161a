"""Unrolled heads compute in training what they will compute while drafting; their losses are the papers' formulas; and
any target will do to begin from."""

import pytest
import torch
from tiny_models import save_pair
from torch.nn.functional import smooth_l1_loss

from specterm.config import ModelSpec
from specterm.decoding.ports import Block
from specterm.decoding.tree import Topology
from specterm.errors import ConfigError
from specterm.models.heads import READERS
from specterm.models.loading import load_models
from specterm.training.features import target_features
from specterm.training.heads import KINDS
from specterm.training.setup import RecipeSetup
from specterm.training.unrolled import unrolled

IDS = torch.tensor([[5, 9, 33, 70, 12, 400, 31, 8]])
STEPS = 3


@pytest.fixture(scope="module")
def target():
    return load_models(ModelSpec(dtype="float32")).target.runner


def recipe_and_features(target, kind, vocabulary=None):
    torch.manual_seed(0)
    recipe = KINDS[kind](RecipeSetup(target, "builtin", vocabulary=vocabulary))
    with torch.no_grad():  # away from the beginning, where some weights are 0
        for weight in recipe.module.parameters():
            weight.add_(torch.randn_like(weight) * 0.02)
    return recipe, target_features(target, IDS, recipe.taps)


@pytest.mark.parametrize("kind", ["eagle", "eagle3"])
def test_unrolling_is_drafting(target, kind):
    """Every anchor, drafted by hand with the cache: the true pairs up to it, then the heads' own features."""
    recipe, features = recipe_and_features(target, kind)
    heads = recipe.module
    with torch.no_grad():
        steps = [(logits[0], states[0]) for logits, states, _ in unrolled(heads, features, STEPS)]
    anchors = IDS.shape[1] - STEPS
    assert steps[0][0].shape[0] == anchors
    true = heads.fuse(features.states)
    heads.allocate(1, 16)
    for anchor in range(anchors):
        chain = Topology.of_chain(anchor, heads.device)
        found = heads(Block((0,), (0,), IDS[:, 1 : anchor + 2], chain), true[:, : anchor + 1], last=[anchor])
        for step, (logits, states) in enumerate(steps):
            if step:
                token = IDS[:, anchor + 1 + step : anchor + 2 + step]
                block = Block((0,), (anchor + step,), token, Topology.of_chain(0, heads.device))
                found = heads(block, found[1][:, -1:])
            torch.testing.assert_close(found[0][0, 0], logits[anchor], rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(found[1][0, -1], states[anchor], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "vocabulary"), [("eagle", None), ("eagle3", None), ("eagle3", torch.arange(0, 4096, 3))]
)
def test_losses_are_soft_cross_entropies_of_what_comes_next(target, kind, vocabulary):
    recipe, features = recipe_and_features(target, kind, vocabulary)
    wanted = features.logits[0].softmax(-1)
    wanted = wanted if vocabulary is None else wanted[:, vocabulary]
    total = 0.0
    with torch.no_grad():
        for step, (logits, states, _) in enumerate(unrolled(recipe.module, features, STEPS)):
            anchors = range(logits.shape[1])
            losses = [-float(wanted[t + 1 + step] @ logits[0, t].log_softmax(-1)) for t in anchors]
            if kind == "eagle":
                true = features.states[0, 1 + step : 1 + step + len(anchors)]
                losses.append(0.1 * len(anchors) * float(smooth_l1_loss(states[0], true)))
            total += 0.8**step * sum(losses) / len(anchors)
        assert recipe.loss(features).item() == pytest.approx(total / (1 + 0.8 + 0.64), rel=1e-4)


@pytest.mark.parametrize("kind", ["eagle", "eagle3"])
def test_a_target_that_is_no_llama(tmp_path, kind):
    """GPT-2 has no layer to copy and no rotary embeddings; what is made can be read again and agrees with itself."""
    folder, _ = save_pair("gpt2", tmp_path)
    target = load_models(ModelSpec(target=str(folder), dtype="float32")).target.runner
    recipe = KINDS[kind](RecipeSetup(target, str(folder)))
    features = target_features(target, IDS, recipe.taps)
    loss = recipe.loss(features)
    loss.backward()
    assert all(float(weight.grad.abs().sum()) > 0 for weight in recipe.module.parameters())
    assert target.head_weight().grad is None
    recipe.save(tmp_path)
    again = READERS[kind](tmp_path, target)
    with torch.no_grad():
        for made, read in zip(unrolled(recipe.module, features, 1), unrolled(again, features, 1), strict=True):
            torch.testing.assert_close(made[0], read[0], rtol=0.05, atol=0.05)


def test_a_wider_feed_forward_part_than_the_targets_is_refused(target):
    with pytest.raises(ConfigError, match="--intermediate is 1025; it must be at most the target's, 1024"):
        KINDS["eagle"](RecipeSetup(target, "builtin", intermediate=1025))
