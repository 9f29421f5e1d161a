"""Unlearning repeats: which tokens they are, their loss by hand, and a model that stops repeating itself."""

import itertools
import math

import pytest
import torch

from specterm.metrics.rows import repetition
from specterm.models.folders import BUILTIN_FOLDER
from specterm.models.tokenizer import load_codec
from specterm.training.__main__ import main
from specterm.training.language_model import LanguageModelLearner
from specterm.training.own_answers import OwnAnswers
from specterm.training.shape import Shape
from specterm.training.trainer import train
from specterm.training.unlikelihood import repeats, unlikelihood

TOKENIZER = BUILTIN_FOLDER / "target"
END = 0
LOOP = " and the dog ran to the big red ball"


@pytest.mark.parametrize(
    ("answer", "repeated"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8], []),
        ([1, 2, 3, 4, 9, 1, 2, 3, 4, 5], [8]),  # not the 1, 2 and 3 before it
        ([1, 2, 3, 4, 1, 2, 3, 4, 1, 2], [7, 8, 9]),
        ([5, 5, 5, 5, 5, 5], [4, 5]),
        ([1, 2, 3, 9, 1, 2, 3], []),
        ([1, 2, 3, 4, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0], [7]),  # what stands behind the end is no answer
        ([1, 2], []),
    ],
)
def test_tokens_that_complete_a_4_gram_which_stood_before_are_repeats(answer, repeated):
    assert repeats(torch.tensor([answer]), END)[0].nonzero().flatten().tolist() == repeated


def test_every_answer_is_looked_at_by_itself():
    assert not repeats(torch.tensor([[1, 2, 3, 4], [1, 2, 3, 4]]), None).any()


def test_as_many_tokens_are_repeats_as_repetition_is_measured():
    torch.manual_seed(0)
    answer = torch.randint(1, 3, (1, 60))
    assert repeats(answer, None).sum().item() / 57 == pytest.approx(repetition(answer[0].tolist()))


def test_unlikelihood_by_hand():
    probabilities = torch.tensor([[[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5], [0.2, 0.2, 0.6]]])
    unwanted = torch.tensor([[False, True, False, True]])
    found = unlikelihood(probabilities.log(), torch.tensor([[0, 1, 1, 2]]), unwanted)
    assert found.item() == pytest.approx(-(math.log(0.2) + math.log(0.4)) / 4)


def test_a_token_that_is_all_but_certain_is_still_unlearned():
    logits = torch.tensor([[[60.0, 0.0, 0.0]]], requires_grad=True)  # its p is 1 in float32
    unlikelihood(logits, torch.tensor([[0]]), torch.tensor([[True]])).backward()
    assert logits.grad[0, 0].tolist() == pytest.approx([1.0, -0.5, -0.5])


def test_without_a_repeat_nothing_is_lost():
    logits = torch.zeros(1, 2, 3, requires_grad=True)
    found = unlikelihood(logits, torch.tensor([[0, 1]]), torch.zeros(1, 2, dtype=torch.bool))
    found.backward()
    assert found.item() == 0.0
    assert not logits.grad.any()


@pytest.fixture(scope="module")
def codec():
    return load_codec(TOKENIZER)


@pytest.fixture
def model():
    return Shape(hidden=64, layers=2, kv_heads=1, intermediate=96).model(4096, END, 0)


def test_answers_are_what_the_model_says_greedily_as_it_is_now(model, codec):
    own, beginnings, written = OwnAnswers(model, [LOOP * 6], codec, END, max_tokens=7, seed=0), set(), set()
    for round_of_writing in range(2):
        for _ in range(8):
            ids, given = own.some()
            assert codec.encode(LOOP * 6)[:given] == ids[0, :given].tolist()
            assert (model(ids[:, :-1]).logits[:, given - 1 :].argmax(-1) == ids[:, given:]).all()
        beginnings.add(given)
        written.add(tuple(ids[0, given:].tolist()))
        torch.manual_seed(round_of_writing)
        torch.nn.init.normal_(model.model.embed_tokens.weight)
    assert len(beginnings) == len(written) == 2


@pytest.mark.parametrize("own_weight", [0.0, 10.0])
def test_a_model_unlearns_the_repeats_that_it_wrote(model, codec, tmp_path, own_weight):
    """Its text is a loop, which it learns, and goes on learning; but no longer beside its own answers."""
    text = torch.tensor([codec.encode(LOOP * 20)[:96]])

    def trained(steps, own=None):
        settings = {"early_layer": 1, "early_weight": 0.0, "device": torch.device("cpu"), "own_weight": own_weight}
        learner = LanguageModelLearner(model, TOKENIZER, own=own, **settings)
        clock = itertools.count().__next__
        train(learner, _Again(text), tmp_path, seconds=steps, learning_rate=0.02, clock=clock)

    def answers(seed):
        return OwnAnswers(model, [LOOP], codec, END, max_tokens=48, seed=seed)

    trained(80)
    ids, given = answers(1).some()
    unwanted = repeats(ids[:, given:], END)

    def likely():
        """The mean probability of what was repeated."""
        law = model(ids[:, :-1]).logits[:, given - 1 :].softmax(-1)
        return law.gather(-1, ids[:, given:].unsqueeze(-1)).squeeze(-1)[unwanted].mean().item()

    before = likely()
    assert unwanted.float().mean() > 0.5
    assert before > 0.5
    trained(40, answers(0) if own_weight else None)
    assert likely() > before if not own_weight else likely() < 0.6 * before


class _Again:
    """The same batch again and again."""

    position = 0

    def __init__(self, batch):
        self._batch = batch

    def __iter__(self):
        return itertools.repeat(self._batch)


def test_the_command(tmp_path, capsys):
    text, out = tmp_path / "text.txt", tmp_path / "target"
    text.write_text(LOOP * 20)
    command = ["target", "--text", str(text), "--out", str(out), "--minutes", "0.01", "--lengths", "16"]
    command += ["--batch-tokens", "64", "--tokenizer", str(TOKENIZER), "--hidden", "64", "--layers", "2"]
    command += ["--kv-heads", "1"]
    assert main([*command, "--own-text", str(text)]) == 0
    assert (out / "model.safetensors").is_file()
    capsys.readouterr()
    for options, said in (
        (["--own-text", str(tmp_path / "none")], f"--own-text {tmp_path / 'none'} cannot be read"),
        (["--own-text", str(text), "--own-weight", "0"], "--own-weight is 0.0; it must be above 0"),
    ):
        assert main([*command, *options]) == 2
        assert said in capsys.readouterr().err
