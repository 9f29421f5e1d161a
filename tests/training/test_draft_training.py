"""Distilling a draft: the loss by hand, a loss that falls, a draft that can be loaded."""

import pytest
import torch

from specterm.config import ModelSpec
from specterm.models.folders import BUILTIN_FOLDER
from specterm.models.loading import load_models
from specterm.training.__main__ import main
from specterm.training.distilling import DraftLearner
from specterm.training.features import target_features
from specterm.training.shape import Shape, saved_model

IDS = torch.tensor([[5, 9, 33, 70, 12, 400, 31, 8]])
TOKENIZER = BUILTIN_FOLDER / "target"


@pytest.fixture(scope="module")
def target():
    return load_models(ModelSpec(dtype="float32")).target.runner


def test_loss_is_the_divergence_from_the_target_and_the_text(target):
    model = Shape(hidden=64, layers=1, kv_heads=1, intermediate=64).model(4096, 0, 0)
    with torch.no_grad():
        loss = DraftLearner(model, TOKENIZER, target, 0.1).loss(IDS).item()
        q, p = model(IDS).logits[0].log_softmax(-1), target_features(target, IDS, ()).logits[0].log_softmax(-1)
    divergence = sum(float((p[t].exp() * (p[t] - q[t])).sum()) for t in range(8)) / 8
    text = -sum(float(q[t, IDS[0, t + 1]]) for t in range(7)) / 7
    assert loss == pytest.approx(0.9 * divergence + 0.1 * text, rel=1e-4)


def test_a_draft_that_is_the_target_has_nothing_to_learn(target):
    with torch.no_grad():
        same = DraftLearner(saved_model(TOKENIZER), TOKENIZER, target, 0.0).loss(IDS).item()
    assert abs(same) < 1e-4


def test_the_command(tmp_path, capsys, target):
    text, out = tmp_path / "text.txt", tmp_path / "draft"
    text.write_text("Once upon a time, there was a little girl named Lily. She loved to play in the park.\n" * 9)
    command = ["draft", "--text", str(text), "--out", str(out), "--minutes", "0.05", "--lengths", "16"]
    command += ["--batch-tokens", "64", "--clock", "processor"]
    assert main([*command, "--hidden", "64", "--intermediate", "64"]) == 0
    assert "loss" in capsys.readouterr().err

    def divergence(model):
        with torch.no_grad():
            return DraftLearner(model, TOKENIZER, target, 0.0).loss(torch.tensor([ids])).item()

    ids = load_models(ModelSpec(drafts=(str(out),))).codec.encode(
        "Once upon a time, there was a little girl named Lily."
    )
    fresh = Shape(hidden=64, layers=1, kv_heads=1, intermediate=64).model(4096, 0, 0)
    assert divergence(saved_model(out)) < 0.95 * divergence(fresh)
    assert main([*command, "--start", "builtin"]) == 0
    assert main([*command, "--text-weight", "2"]) == 2
    assert "--text-weight is 2.0; it must be at least 0 and at most 1" in capsys.readouterr().err
