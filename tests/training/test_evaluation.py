"""Losses by domain: by hand, in windows, and what cannot be measured."""

import json

import pytest
import torch

from specterm.config import ModelSpec
from specterm.models.loading import load_models
from specterm.training.__main__ import main
from specterm.training.evaluation import domain_losses
from specterm.training.features import target_features

TEXT = "Once upon a time, there was a little girl named Lily. She loved to play with her dog in the park."


@pytest.fixture(scope="module")
def model():
    return load_models(ModelSpec(dtype="float32")).target


def test_loss_of_a_domain_is_the_mean_over_its_tokens(model):
    ids = model.codec.encode(TEXT)
    parts = [ids[:10], ids[10:20], ids[20:]]
    assert len(parts[2]) > 1
    entropies = []
    for part in parts:
        logits = target_features(model.runner, torch.tensor([part]), ()).logits[0].log_softmax(-1)
        entropies += [-float(logits[t, part[t + 1]]) for t in range(len(part) - 1)]
    found = domain_losses(model, {"stories": [TEXT], "letters": ["a"]}, 10)
    assert found["stories"] == pytest.approx(sum(entropies) / len(entropies), rel=1e-4)
    assert found["letters"] is None
    whole = domain_losses(model, {"stories": [TEXT]}, 1024)["stories"]
    assert whole < found["stories"]  # a longer context tells more
    assert domain_losses(model, {"stories": [TEXT, "#" * 400]}, 1024, max_tokens=9)["stories"] == whole


def test_the_command(tmp_path, capsys):
    path = tmp_path / "documents.json"
    path.write_text(json.dumps({"stories": [TEXT.replace("'", "â€™")], "code": ["def f(x):\n    return x\n"]}))
    command = ["evaluate", "builtin", "builtin/draft", "--documents", str(path)]
    assert main([*command, "--windows", "16", "64"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["model", "window", "stories", "code"]
    assert [line.split()[:2] for line in lines] == [
        ["builtin", "16"], ["builtin", "64"], ["builtin/draft", "16"], ["builtin/draft", "64"],
    ]  # fmt: skip
    target, draft = (float(lines[i].split()[2]) for i in (1, 3))
    assert 0.5 < target < draft < 8.0
    assert main([*command, "--windows", "2000"]) == 2
    assert "--windows has 2000; it must be above 1 and at most the context" in capsys.readouterr().err
    path.write_text("[1]")
    assert main(command) == 2
    assert "must be a JSON object of lists of texts" in capsys.readouterr().err
