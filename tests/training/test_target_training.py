"""Training a language model: its loss by hand, a step in parts, an interruption, and a folder that can be loaded."""

import itertools

import pytest
import torch

from specterm.config import ModelSpec
from specterm.models.folders import BUILTIN_FOLDER
from specterm.models.loading import load_models
from specterm.training import trainer
from specterm.training.__main__ import main
from specterm.training.corpus import TokenBatches
from specterm.training.evaluation import domain_losses
from specterm.training.language_model import LanguageModelLearner
from specterm.training.shape import Shape
from specterm.training.trainer import train

STORY = "Once upon a time, there was a little girl named {}. She loved to play with her dog in the park.\n"
DOCUMENTS = [STORY.format(name) for name in ("Lily", "Anna", "Mia", "Sue", "Jane", "Amy")]
TOKENIZER = BUILTIN_FOLDER / "target"


@pytest.fixture(scope="module")
def codec():
    return load_models(ModelSpec()).codec


def learner(early_weight=0.25, seed=0):
    model = Shape(hidden=64, layers=2, kv_heads=1, intermediate=96).model(4096, 0, seed)
    return LanguageModelLearner(model, TOKENIZER, early_layer=1, early_weight=early_weight, device=torch.device("cpu"))


def batches(codec, tokens=96, lengths=(16, 32)):
    return TokenBatches([DOCUMENTS], codec, 0, tokens=tokens, lengths=lengths, seed=0)


def test_loss_is_that_of_the_last_layer_and_of_the_early_one():
    made = learner()
    ids = torch.tensor([[5, 9, 33, 70, 12, 400, 31]])
    with torch.no_grad():
        states = made.module(ids, output_hidden_states=True).hidden_states[1]
        early = made.module.lm_head(made.module.model.norm(states))[0].log_softmax(-1)
        last = made.module(ids).logits[0].log_softmax(-1)
        by_hand = -sum(float(last[t, ids[0, t + 1]]) for t in range(6)) / 6
        early_by_hand = -sum(float(early[t, ids[0, t + 1]]) for t in (0, 4)) / 2  # every fourth position
        assert made.loss(ids).item() == pytest.approx(0.75 * by_hand + 0.25 * early_by_hand, rel=1e-4)


def test_batches_have_every_length_that_was_asked_for(codec):
    stream = iter(batches(codec))
    shapes = {tuple(next(stream).shape) for _ in range(12)}
    assert shapes == {(6, 16), (3, 32)}


def test_a_step_in_parts_is_the_step_as_a_whole(codec, tmp_path):
    """By plain gradient descent, which moves as far as the gradients are long."""
    made = [learner(), learner()]
    for own, at_once in zip(made, (None, 32)):
        own.optimizers = lambda rate, own=own: [torch.optim.SGD(own.module.parameters(), rate)]
        two = _Finite(itertools.islice(batches(codec), 2))
        train(own, two, tmp_path, seconds=1e6, learning_rate=20.0, tokens_at_once=at_once)
    fresh = learner().module.parameters()
    for begin, whole, parts in zip(fresh, made[0].module.parameters(), made[1].module.parameters()):
        moved = (whole - begin).norm().item()
        assert moved > 0
        assert (whole - parts).norm().item() < 0.01 * moved


class _Finite:
    """A stream of batches that ends."""

    position = 0

    def __init__(self, batches):
        self._batches = batches

    def __iter__(self):
        return self._batches


def test_time_is_counted_by_the_clock_that_is_given(codec, tmp_path):
    """A second a reading, whatever the machine takes: the first begins the training, the eleventh ends it."""
    made, rates = learner(), []
    optimizers, loss = made.optimizers(0.02), made.loss
    made.optimizers = lambda rate: optimizers
    made.loss = lambda ids: rates.append(optimizers[0].param_groups[0]["lr"]) or loss(ids)
    done = train(made, batches(codec), tmp_path, seconds=10.0, learning_rate=0.02, clock=itertools.count().__next__)
    assert (done.step, done.elapsed_s) == (9, 10.0)
    assert rates == pytest.approx([0.02 * (10 - second) / 9.7 for second in range(1, 10)])


def test_training_goes_on_after_an_interruption(codec, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "_SAVE_EVERY_S", 0.0)
    made, loss, calls = learner(), learner().loss, 0
    settings = {"seconds": 40.0, "learning_rate": 0.02}  # a second a step, by the clock that they are given

    def interrupted(ids):
        nonlocal calls
        calls += 1
        if calls > 5:
            raise KeyboardInterrupt
        return loss_of(ids)

    loss_of, made.loss = made.loss, interrupted
    with pytest.raises(KeyboardInterrupt):
        train(made, batches(codec), tmp_path, clock=itertools.count().__next__, **settings)
    again, stream = learner(seed=1), batches(codec)
    before = loss(next(iter(batches(codec)))).item()
    done = train(again, stream, tmp_path, clock=itertools.count().__next__, resume=True, **settings)
    assert done.step == 39  # five before the interruption, at the seconds 1 to 5
    assert stream.position > 10
    after = again.loss(next(iter(batches(codec)))).item()
    assert after < 0.9 * before

    saved = load_models(ModelSpec(target=str(tmp_path), dtype="float32")).target
    losses = domain_losses(saved, {"stories": DOCUMENTS, "none": [], "short": ["a"]}, 64)
    assert losses["stories"] < 0.9 * before
    assert losses["none"] is None


def test_the_command(tmp_path, capsys):
    text, out = tmp_path / "text.txt", tmp_path / "target"
    text.write_text("<|endoftext|>".join(DOCUMENTS))
    command = ["target", "--text", str(text), "--out", str(out), "--minutes", "0.01", "--lengths", "16"]
    command += ["--batch-tokens", "64"]
    fresh = ["--tokenizer", str(TOKENIZER), "--hidden", "64", "--layers", "2", "--kv-heads", "1"]
    assert main([*command, *fresh]) == 0
    assert main([*command, "--start", str(out)]) == 0
    assert load_models(ModelSpec(target=str(out))).target.info.vocab_size == 4096
    capsys.readouterr()
    for options, said in (
        ([], "give either --start, a model to go on from, or --tokenizer"),
        ([*fresh, "--hidden", "100"], "--hidden is 100 with 1 KV heads; it must be a multiple of 64 times"),
        ([*fresh, "--early-layer", "3"], "--early-layer is 3; the model has layers 1 to 2"),
        ([*fresh, "--early-weight", "1"], "--early-weight is 1.0; it must be at least 0 and below 1"),
        ([*fresh, "--batch-tokens", "8"], "--batch-tokens is 8; it must be at least the longest of --lengths, 16"),
        (["--start", str(tmp_path / "none")], "there is no model folder"),
    ):
        assert main([*command, *options]) in (2, 3)
        assert said in capsys.readouterr().err
