"""Teachers: what they say, and choose by a draft; what is learned of it; a target that yields to a draft."""

import pytest
import torch

from specterm.config import ModelSpec
from specterm.models.folders import BUILTIN_FOLDER
from specterm.models.loading import load_models
from specterm.training.__main__ import main
from specterm.training.features import target_features
from specterm.training.shape import Shape, saved_model
from specterm.training.teaching import Taught, Teacher

IDS = torch.tensor([[5, 9, 33, 70, 12, 400, 31, 8], [7, 7, 9, 2, 1500, 3, 3, 8]])
TOKENIZER = BUILTIN_FOLDER / "target"
YIELDS = ["--draft", "builtin/draft", "--draft-text", str(BUILTIN_FOLDER / "data.md")]
ODD_TEXT = """The baker sold seven blue boats before noon. for key in sorted(table): print(key, 3) Her uncle, a quiet
judge of the old court, had 12 apples and gave half of them to the dog that lived behind the mill last winter.
"""
TEXT = "Once upon a time, there was a little girl named Lily. She loved to play in the park.\n"


@pytest.fixture(scope="module")
def models():
    loaded = load_models(ModelSpec(drafts=("builtin/draft",), dtype="float32"))
    return loaded.target.runner, loaded.drafts[0].runner


def law(runner, ids=IDS):
    return target_features(runner, ids, ()).logits.log_softmax(dim=-1)


def test_a_teacher_says_what_it_says(models):
    target, _ = models
    said = Teacher(target).say(IDS)
    likeliest, tokens = law(target).exp().topk(64)
    assert torch.equal(said.tokens.sort(dim=-1).values, tokens.int().sort(dim=-1).values)
    assert said.log_probs.exp() == pytest.approx(likeliest, rel=1e-3)
    assert said.others == pytest.approx(1.0 - likeliest.sum(dim=-1), abs=1e-4)
    assert said.choice is None
    assert said.divergence(law(target) + 3.0).item() == pytest.approx(0.0, abs=1e-5)  # logits, not their law
    assert said.shortfall(law(target)).item() == 0.0


@pytest.mark.parametrize("ratio", [0.01, 0.1, 0.5, 1.0])
def test_what_a_draft_chooses_is_chosen_where_it_is_nearly_as_likely(models, ratio):
    target, draft = models
    said = Teacher(draft, target, ratio).say(IDS)
    own, choices = law(draft).exp(), law(target).argmax(dim=-1)
    near = [
        [int(choice) if probs[choice] >= ratio * probs.max() else -1 for probs, choice in zip(*row, strict=True)]
        for row in zip(own, choices, strict=True)
    ]
    assert said.choice.tolist() == near
    agreed = int((own.argmax(dim=-1) == choices).sum())
    assert (sum(choice >= 0 for row in near for choice in row) > agreed) == (ratio < 1.0)
    assert said.divergence(law(draft)).item() == pytest.approx(0.0, abs=1e-5)
    assert said.every(2).choice is None


def test_what_choices_lack_by_hand():
    logits = torch.tensor([[[1.0, 3.0, 2.5], [5.0, 0.0, 4.8], [0.0, 0.0, 9.0], [1.0, 1.0, 1.0]]])
    some = torch.zeros(1, 4, 1)
    said = Taught(some.int(), some, some[..., 0], torch.tensor([[0, 0, -1, 2]]))
    # 0 stands 2 below 1; 0 stands 0.2 above 2, which is 0.3 too little; nothing is chosen; all stand alike.
    assert said.shortfall(logits).item() == pytest.approx((2.5 + 0.3 + 0.0 + 0.5) / 4)


def test_some_of_the_tokens_are_learned_by_themselves(models):
    target, _ = models
    said, logits = Teacher(target).say(IDS), torch.zeros(2, 8, 4096)
    alone = [Teacher(target).say(IDS[:, : end + 1]) for end in (0, 3, 6)]
    wanted = sum(own.every(1).divergence(logits[:, : own.tokens.shape[1]]).item() for own in alone[:1])
    assert said.every(8).divergence(logits[:, ::8]).item() == pytest.approx(wanted, rel=1e-3)
    assert said.every(3).tokens.shape[1] == 3


def test_a_block_that_comes_again_is_read_once(models):
    target, _ = models
    kept, other = Teacher(target, blocks_kept=1), Teacher(target)
    assert kept.say(IDS) is kept.say(IDS)
    assert kept.say(IDS) is not kept.say(IDS + 1)
    assert other.say(IDS) is not other.say(IDS)


def test_a_target_yields_to_a_draft(tmp_path):
    text, out = tmp_path / "text.txt", tmp_path / "out"
    text.write_text(ODD_TEXT * 20)
    start, draft = BUILTIN_FOLDER / "draft-b", BUILTIN_FOLDER / "draft"
    command = ["target", "--text", str(text), "--start", str(start), "--draft", str(draft), "--draft-ratio", "0.02"]
    command += ["--draft-text", str(text)]
    command += ["--lengths", "32", "--batch-tokens", "128", "--clock", "processor", "--minutes", "0.1"]
    assert main([*command, "--device", "cpu", "--out", str(out)]) == 0
    ids = torch.tensor([load_models(ModelSpec()).codec.encode(ODD_TEXT)])
    with torch.no_grad():
        choices = [saved_model(folder)(ids).logits.argmax(dim=-1) for folder in (start, draft, out)]
    before, now = (int((choices[1] != own).sum()) for own in (choices[0], choices[2]))
    assert before > 4
    assert now <= before // 2


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--tokenizer", str(TOKENIZER), *YIELDS], 2, "--draft goes with --start"),
        (["--start", "builtin", *YIELDS, "--draft-ratio", "1.5"], 2, "--draft-ratio is 1.5; it must"),
        (["--start", "builtin", *YIELDS, "--draft-weight", "0"], 2, "--draft-weight is 0.0"),
        (["--start", "builtin", "--draft-ratio", "0.5"], 2, "--draft-ratio 0.5 goes with --draft"),
        (["--start", "builtin", "--draft-weight", "2"], 2, "--draft-weight 2.0 goes with --draft"),
        (["--start", "builtin", "--draft-text", "a", "b"], 2, "--draft-text a b goes with --draft; name"),
        (["--start", "builtin", *YIELDS[:2]], 2, "--draft builtin/draft goes with --draft-text; name"),
        (["--start", "builtin", *YIELDS[:3], "no/such"], 2, "--draft-text no/such"),
        (["--start", "builtin", "--draft", "builtin/nothing", *YIELDS[2:]], 3, "no built-in model 'builtin/nothing'"),
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
    options = [
        "--start",
        "builtin",
        "--draft",
        str(draft),
        *YIELDS[2:],
        "--text",
        str(text),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(["target", *options, "--device", "cpu"]) == 3
    assert "different vocabularies (4096 and 512 tokens)" in capsys.readouterr().err
