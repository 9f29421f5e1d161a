"""Teachers: what several say together by hand, what is learned of it, and a target that comes closer to a draft."""

import pytest
import torch

from specterm.config import ModelSpec
from specterm.models.folders import BUILTIN_FOLDER
from specterm.models.loading import load_models
from specterm.training.__main__ import main
from specterm.training.features import target_features
from specterm.training.shape import Shape, saved_model
from specterm.training.teaching import Teachers

IDS = torch.tensor([[5, 9, 33, 70, 12, 400, 31, 8], [7, 7, 9, 2, 1500, 3, 3, 8]])
TOKENIZER = BUILTIN_FOLDER / "target"
TEXT = "Once upon a time, there was a little girl named Lily. She loved to play in the park.\n"


@pytest.fixture(scope="module")
def models():
    loaded = load_models(ModelSpec(drafts=("builtin/draft",), dtype="float32"))
    return loaded.target.runner, loaded.drafts[0].runner


def law(runner, ids=IDS):
    return target_features(runner, ids, ()).logits.log_softmax(dim=-1)


def test_two_teachers_say_their_geometric_mean(models):
    target, draft = models
    said = Teachers({target: 0.75, draft: 0.25}).say(IDS)
    wanted = (law(target).exp() ** 0.75 * law(draft).exp() ** 0.25).double()
    wanted /= wanted.sum(dim=-1, keepdim=True)
    likeliest, tokens = wanted.topk(64)
    assert torch.equal(said.tokens.sort(dim=-1).values, tokens.int().sort(dim=-1).values)
    assert said.log_probs.exp() == pytest.approx(likeliest.float(), rel=1e-3)
    assert said.others == pytest.approx(1.0 - likeliest.sum(dim=-1).float(), abs=1e-4)


def test_who_says_the_same_has_nothing_to_learn(models):
    target, draft = models
    said = Teachers({target: 0.6, draft: 0.4}).say(IDS)
    mean = 0.6 * law(target) + 0.4 * law(draft)
    assert said.divergence(mean).item() == pytest.approx(0.0, abs=1e-5)
    assert said.divergence(law(target)).item() > 0.01
    assert said.divergence(mean + 3.0).item() == pytest.approx(0.0, abs=1e-5)  # logits, not their law


def test_some_of_the_tokens_are_learned_by_themselves(models):
    target, _ = models
    said, logits = Teachers({target: 1.0}).say(IDS), torch.zeros(2, 8, 4096)
    alone = [Teachers({target: 1.0}).say(IDS[:, : end + 1]) for end in (0, 3, 6)]
    wanted = sum(own.every(1).divergence(logits[:, : own.tokens.shape[1]]).item() for own in alone[:1])
    assert said.every(8).divergence(logits[:, ::8]).item() == pytest.approx(wanted, rel=1e-3)
    assert said.every(3).tokens.shape[1] == 3


def test_a_block_that_comes_again_is_read_once(models):
    target, _ = models
    kept, other = Teachers({target: 1.0}, blocks_kept=1), Teachers({target: 1.0})
    assert kept.say(IDS) is kept.say(IDS)
    assert kept.say(IDS) is not kept.say(IDS + 1)
    assert other.say(IDS) is not other.say(IDS)


def test_a_target_comes_closer_to_a_draft(tmp_path):
    text, out = tmp_path / "text.txt", tmp_path / "out"
    text.write_text(TEXT * 20)
    start, draft = BUILTIN_FOLDER / "draft-b", BUILTIN_FOLDER / "draft"
    command = ["target", "--text", str(text), "--start", str(start), "--draft", str(draft), "--draft-weight", "0.8"]
    command += ["--lengths", "32", "--batch-tokens", "128", "--clock", "processor", "--minutes", "0.06"]
    assert main([*command, "--device", "cpu", "--out", str(out)]) == 0
    ids = torch.tensor([load_models(ModelSpec()).codec.encode(TEXT)])
    with torch.no_grad():
        laws = [saved_model(folder)(ids).logits.float().log_softmax(dim=-1) for folder in (start, draft, out)]
    apart, left = ((laws[1].exp() * (laws[1] - own)).sum(dim=-1).mean().item() for own in (laws[0], laws[2]))
    assert left < 0.7 * apart


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--tokenizer", str(TOKENIZER), "--draft", "builtin/draft"], 2, "--draft goes with --start"),
        (
            ["--start", "builtin", "--draft", "builtin/draft", "--draft-weight", "1"],
            2,
            "--draft-weight is 1.0; it must",
        ),
        (["--start", "builtin", "--draft-weight", "0.5"], 2, "--draft-weight 0.5 goes with --draft"),
        (["--start", "builtin", "--draft", "builtin/nothing"], 3, "there is no built-in model 'builtin/nothing'"),
    ],
)
def test_bad_input_is_told(options, code, said, tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    assert main(["target", *options, "--text", str(text), "--out", str(tmp_path / "out"), "--device", "cpu"]) == code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_draft_of_another_vocabulary_is_refused(tmp_path, capsys):
    text, draft = tmp_path / "text.txt", tmp_path / "draft"
    text.write_text(TEXT)
    Shape(hidden=64, layers=1, kv_heads=1, intermediate=64).model(512, 0, 0).save_pretrained(draft)
    options = ["--start", "builtin", "--draft", str(draft), "--text", str(text), "--out", str(tmp_path / "out")]
    assert main(["target", *options, "--device", "cpu"]) == 3
    assert "different vocabularies (4096 and 512 tokens)" in capsys.readouterr().err
