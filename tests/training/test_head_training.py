"""Training heads: the batches of a text, a loss that falls, a checkpoint that goes on, heads that can be loaded."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from specterm.config import ModelSpec
from specterm.errors import ConfigError
from specterm.models.folders import BUILTIN_FOLDER
from specterm.models.heads import READERS
from specterm.models.loading import load_models
from specterm.training.__main__ import main
from specterm.training.corpus import TokenBatches, read_documents
from specterm.training.features import target_features
from specterm.training.head_learner import HeadLearner, StartingHeads
from specterm.training.heads import KINDS
from specterm.training.medusa import MedusaRecipe
from specterm.training.setup import RecipeSetup, frequent_tokens
from specterm.training.trainer import CHECKPOINT, train

STORY = "Once upon a time, there was a little girl named {}. She loved to play with her dog in the park.\n"
NAMES = ("Lily", "Anna", "Mia", "Sue", "Jane", "Amy")


@pytest.fixture(scope="module")
def target():
    return load_models(ModelSpec()).target


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("<|endoftext|>\n".join(STORY.format(name) for name in NAMES))
    return path


def batches(documents, target, **sizes):
    return TokenBatches([documents], target.codec, 0, **({"tokens": 48, "lengths": [24], "seed": 0} | sizes))


def test_batches_hold_every_document_once_a_round(target, text):
    documents = read_documents(text)
    assert len(documents) == len(NAMES)
    length = sum(len(target.codec.encode(document)) + 1 for document in documents)
    stream = iter(batches(documents, target, tokens=length, lengths=[length]))
    first, second = (target.codec.decode(next(stream)[0].tolist()) for _ in range(2))
    assert all(first.count(name) == second.count(name) == 1 for name in NAMES)
    assert first != second


def test_batches_go_on_where_they_were(target, text):
    documents = read_documents(text)

    def written(position, count):
        """The first `count` documents of a stream that begins at `position`."""
        stream = batches(documents, target, tokens=1, lengths=[1])
        stream.position = position
        tokens = (int(ids) for ids in stream)
        return [list(iter(lambda: next(tokens), 0)) for _ in range(count)]

    whole = written(0, 9)  # a round and a half
    assert whole[0] != whole[1]
    assert [written(position, 1)[0] for position in range(9)] == whole


def test_texts_take_turns(target, text):
    """One that stands there twice comes twice as often, each time round in an order of its own."""
    documents = read_documents(text)
    stream = iter(TokenBatches([["rare"], documents, documents], target.codec, 0, tokens=1, lengths=[1], seed=0))
    read: list[list[int]] = [[]]
    while len(read) <= 3 * len(NAMES):
        token = int(next(stream))
        read[-1].append(token) if token else read.append([])
    texts = [target.codec.decode(ids) for ids in read[:-1]]
    assert texts[::3] == ["rare"] * len(NAMES)
    assert sorted(texts[1::3]) == sorted(texts[2::3]) == sorted(documents)
    assert texts[1::3] != texts[2::3]


def test_loss_is_the_cross_entropy_against_the_target(target):
    """By hand: head i at t against the target's distribution at t + 1 + i."""
    recipe = MedusaRecipe(RecipeSetup(target.runner, "builtin", heads=2))
    features = target_features(target.runner, torch.tensor([[5, 9, 33, 70, 12]]), recipe.taps)
    wanted = features.logits[0].softmax(-1)
    own = (features.states[0] @ target.runner.head_weight().T).log_softmax(-1)  # untrained heads are the target's own
    losses = [-sum(float(wanted[t + 1 + i] @ own[t]) for t in range(3)) / 3 for i in range(2)]
    assert recipe.loss(features).item() == pytest.approx((losses[0] + 0.8 * losses[1]) / 1.8, rel=1e-4)


def test_the_tokens_that_a_text_has_most_often(target):
    documents = ["the the the cat", "the cat sat"]
    tokens = frequent_tokens(documents, target.codec, 0, 3)
    assert tokens.tolist() == sorted({0, target.codec.encode("the")[0], target.codec.encode(" the")[0]})
    assert tokens.dtype == torch.int64


@pytest.mark.parametrize(
    ("kind", "of_muon"),
    [
        ("medusa", None),
        ("eagle", {"fc", "_layers.0.qkv", "_layers.0.out", "_layers.0.gate_up", "_layers.0.down"}),
        ("eagle3", {"fc", "_layers.0.qkv", "_layers.0.out", "_layers.0.gate_up", "_layers.0.down"}),
    ],
)
def test_who_updates_what(target, kind, of_muon):
    learner = HeadLearner(KINDS[kind](RecipeSetup(target.runner, "builtin", heads=2)), target.runner)
    names = {id(p): name for name, p in learner.module.named_parameters()}
    *muon, adam = learner.optimizers(0.02)
    found = [{names[id(p)] for group in each.param_groups for p in group["params"]} for each in (*muon, adam)]
    assert [type(each).__name__ for each in muon] == ([] if of_muon is None else ["Muon"])
    assert found == ([] if of_muon is None else [of_muon]) + [set(names.values()) - (of_muon or set())]
    assert adam.param_groups[0]["lr"] == pytest.approx(0.02 if of_muon is None else 0.003)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("medusa", {"heads": 2}),
        ("medusa", {"heads": 2, "vocabulary": torch.arange(0, 4096, 3)}),
        ("eagle", {}),
        ("eagle", {"intermediate": 200}),
        ("eagle3", {}),
        ("eagle3", {"vocabulary": torch.arange(0, 4096, 3), "intermediate": 200}),
    ],
)
def test_training_lowers_the_loss_and_goes_on(target, text, tmp_path, kind, options):
    documents, out = read_documents(text), tmp_path / "heads"

    def recipe(**changes):
        return KINDS[kind](RecipeSetup(target.runner, "builtin", **(options | changes)))

    made = recipe()
    ids = next(iter(batches(documents, target)))

    def loss(of):
        with torch.no_grad():
            return float(of.loss(target_features(target.runner, ids, of.taps)))

    losses = [loss(made)]
    done = train(HeadLearner(made, target.runner), batches(documents, target), out, seconds=1.0, learning_rate=2e-4)
    losses.append(loss(made))
    again, stream = recipe(), batches(documents, target)
    more = train(HeadLearner(again, target.runner), stream, out, seconds=2.0, learning_rate=2e-4, resume=True)
    losses.append(loss(again))
    assert losses[0] > losses[1] > losses[2]
    assert more.step > done.step > 0
    assert more.elapsed_s >= 2.0 > done.elapsed_s >= 1.0
    loaded = READERS[kind](out, target.runner)
    vocabulary = options.get("vocabulary")
    assert vocabulary is None if loaded.token_ids is None else torch.equal(loaded.token_ids, vocabulary)
    for name, weight in again.module.named_parameters():
        torch.testing.assert_close(loaded.get_parameter(name), weight.detach(), rtol=1e-2, atol=1e-2)

    other = recipe(**({"heads": 3} if kind == "medusa" else {"intermediate": 300}))
    with pytest.raises(ConfigError, match=r"checkpoint.pt is broken or of another model"):
        train(HeadLearner(other, target.runner), stream, out, seconds=9.0, learning_rate=1e-3, resume=True)
    (out / CHECKPOINT).unlink()
    with pytest.raises(ConfigError, match="--resume: there is no"):
        train(HeadLearner(again, target.runner), stream, out, seconds=9.0, learning_rate=1e-3, resume=True)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_heads_to_start_from_give_weights_and_sizes(target, text, tmp_path, kind):
    start = StartingHeads(kind, BUILTIN_FOLDER / kind, target.runner)
    recipe = KINDS[kind](RecipeSetup(target.runner, "builtin", **start.sizes))
    features = target_features(target.runner, next(iter(batches(read_documents(text), target))), recipe.taps)
    with torch.no_grad():
        fresh = recipe.loss(features).item()
        start.give(recipe)
        assert recipe.loss(features).item() < fresh - 0.1
    recipe.save(tmp_path)
    old, new = (load_file(folder / "model.safetensors") for folder in (BUILTIN_FOLDER / kind, tmp_path))
    assert set(old) == set(new)
    assert all(torch.equal(old[name], new[name]) for name in old)


def test_heads_of_another_form_are_no_start(target, tmp_path):
    shutil.copytree(BUILTIN_FOLDER / "eagle3", tmp_path / "other")
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    (tmp_path / "other" / "config.json").write_text(json.dumps(config | {"norm_before_residual": True}))
    start = StartingHeads("eagle3", tmp_path / "other", target.runner)
    with pytest.raises(ConfigError, match=r"--start: the eagle3 heads in .* are of another form"):
        start.give(KINDS["eagle3"](RecipeSetup(target.runner, "builtin", **start.sizes)))


def test_the_command(text, tmp_path, capsys):
    out = tmp_path / "heads"
    command = ["heads", "--kind", "medusa", "--text", str(text), "--out", str(out), "--lengths", "24"]
    command += ["--batch-tokens", "96", "--heads", "3"]
    assert main([*command, "--minutes", "0.02"]) == 0
    assert (out / "medusa_lm_head.safetensors").is_file()
    assert "loss" in capsys.readouterr().err
    for flag, value, said in (
        ("--minutes", "0", "--minutes is 0.0; it must be above 0"),
        ("--lengths", "3", "--lengths has 3; it must be at least 4 and at most the model's context, 1024"),
        ("--draft-vocab", "0", "--draft-vocab is 0; it must be above 0"),
        ("--intermediate", "64", "--intermediate does not go with --kind medusa; leave it out"),
        ("--start", "builtin", "--heads does not go with --start, whose heads have their sizes"),
        ("--text", str(tmp_path / "none.txt"), "none.txt cannot be read: No such file or directory"),
    ):
        assert main([*command, flag, value]) == 2
        assert said in capsys.readouterr().err
