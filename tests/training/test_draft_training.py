"""Distilling a draft: the loss by hand, a loss that falls, a draft that can be loaded."""

import itertools
import math

import pytest
import torch

from specterm.config import ModelSpec
from specterm.models.folders import BUILTIN_FOLDER
from specterm.models.loading import load_models
from specterm.training import teaching
from specterm.training.__main__ import main
from specterm.training.corpus import Repeated, TokenBatches
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
    divergence = 0.0
    for p_now, q_now in zip(p.exp(), q.exp(), strict=True):
        likeliest = p_now.argsort(descending=True)[:64]
        both = [(float(p_now[i]), float(q_now[i])) for i in likeliest]
        both.append((1 - sum(p for p, _ in both), 1 - sum(q for _, q in both)))  # all others as one
        divergence += sum(p * math.log(p / q) for p, q in both) / 8
    text = -sum(float(q[t, IDS[0, t + 1]]) for t in range(7)) / 7
    assert loss == pytest.approx(0.9 * divergence + 0.1 * text, rel=1e-4)


def test_the_target_reads_a_block_that_comes_again_once(target, monkeypatch):
    asked = []

    def counted(own, ids, taps):
        asked.append(ids)
        return target_features(own, ids, taps)

    monkeypatch.setattr(teaching, "target_features", counted)
    model = Shape(hidden=64, layers=1, kv_heads=1, intermediate=64).model(4096, 0, 0)
    kept, other = DraftLearner(model, TOKENIZER, target, 0.1, 2), DraftLearner(model, TOKENIZER, target, 0.1)
    with torch.no_grad():
        first = [kept.loss(ids).item() for ids in (IDS, IDS + 1, IDS, IDS + 1)]
        again = [other.loss(ids).item() for ids in (IDS, IDS + 1)]
    assert first == again * 2
    assert len(asked) == 2 + 2


def test_batches_come_again_in_another_order_before_the_next_ones(target):
    def batches():
        documents = [f"{number} and {number}" for number in range(9)]
        return TokenBatches([documents], load_models(ModelSpec()).codec, 0, tokens=4, lengths=[4], seed=0)

    plain = [batch.tolist() for batch in itertools.islice(batches(), 12)]
    repeated = Repeated(batches(), 3, 6, seed=1)
    found = [batch.tolist() for batch in itertools.islice(repeated, 36)]
    for begin, own in ((0, plain[:6]), (18, plain[6:])):
        rounds = [found[begin + 6 * i : begin + 6 * i + 6] for i in range(3)]
        assert all(sorted(these) == sorted(own) for these in rounds)
        assert len({str(these) for these in rounds}) > 1
    resumed = Repeated(batches(), 3, 6, seed=1)
    resumed.position = repeated.position
    assert repeated.position > 0
    assert next(iter(resumed)).tolist() not in found[18:]


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
