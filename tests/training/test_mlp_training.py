"""Training an MLP speculator: the loss by hand, a loss that falls, and a speculator that can be loaded."""

import pytest
import torch

from specterm.config import ModelSpec
from specterm.models.loading import load_models
from specterm.training.__main__ import main
from specterm.training.corpus import TokenBatches
from specterm.training.features import target_features
from specterm.training.head_learner import HeadLearner
from specterm.training.mlp import MLPRecipe
from specterm.training.setup import RecipeSetup
from specterm.training.trainer import train

STORY = "Once upon a time, there was a little girl named {}. She loved to play with her dog in the park.\n"


@pytest.fixture(scope="module")
def target():
    return load_models(ModelSpec()).target


def test_loss_is_the_cross_entropy_against_the_target(target):
    """By hand: level i at t has read the tokens up to t + 1 + i, and is judged by what the target says after them."""
    recipe = MLPRecipe(RecipeSetup(target.runner, "builtin", heads=2, inner_dim=16))
    ids = [5, 9, 33, 70, 12]
    features = target_features(target.runner, torch.tensor([ids]), recipe.taps)
    losses = [[], []]
    for t in range(3):
        state = recipe.module.begin(features.states[0, t].float())
        for level in range(2):
            logits, state = recipe.module(state, torch.tensor(ids[t + 1 + level]), level)
            wanted = features.logits[0, t + 1 + level].softmax(-1)
            losses[level].append(-float(wanted @ logits.detach().log_softmax(-1)))
    first, second = (sum(own) / 3 for own in losses)
    assert recipe.loss(features).item() == pytest.approx((first + 0.8 * second) / 1.8, rel=1e-4)


def test_training_lowers_the_loss(target, tmp_path):
    recipe = MLPRecipe(RecipeSetup(target.runner, "builtin", heads=2, inner_dim=16))
    documents = [STORY.format(name) for name in ("Lily", "Anna", "Mia", "Sue")]
    batches = TokenBatches([documents], target.codec, 0, tokens=48, lengths=[24], seed=0)
    features = target_features(target.runner, next(iter(batches)), recipe.taps)
    before = recipe.loss(features).item()
    done = train(HeadLearner(recipe, target.runner), batches, tmp_path, seconds=3.0, learning_rate=1e-2)
    assert done.step > 0
    assert recipe.loss(features).item() < 0.9 * before
    loaded = load_models(ModelSpec(mlp=str(tmp_path))).heads["mlp"]
    assert (loaded.levels, loaded.inner_size, loaded.scale_input) == (2, 16, True)
    torch.testing.assert_close(loaded.head[0].float(), recipe.module.head[0].detach(), rtol=1e-2, atol=1e-2)


def test_the_command(tmp_path, capsys):
    text, out = tmp_path / "text.txt", tmp_path / "heads"
    text.write_text(STORY.format("Lily"))
    command = ["heads", "--kind", "mlp", "--text", str(text), "--out", str(out), "--minutes", "0.02"]
    command += ["--lengths", "24", "--batch-tokens", "48"]
    assert main([*command, "--inner-dim", "16"]) == 0
    assert (out / "model.safetensors").is_file()
    capsys.readouterr()
    assert main([*command, "--inner-dim", "385"]) == 2
    assert "--inner-dim is 385; it must be at most the width of the target's states, 384" in capsys.readouterr().err
