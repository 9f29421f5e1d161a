"""The whole recipe with tiny settings: text in, family out, with its figures and its card."""

import json

import pytest

from specterm.training.__main__ import main
from specterm.training.acceptance import measure, prompts_by_domain

STORY = "Once upon a time, there was a {} named {}. {} loved to play with a {} in the {}. One day, it began to rain.\n"
THINGS = ("girl", "boy", "dog", "cat", "bear")
MEMBERS = {"tokenizer", "target", "answers.txt", "draft", "draft-b", "medusa", "eagle", "eagle3", "mlp"}


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    stories = [STORY.format(a, b.title(), b.title(), c, a) for a in THINGS for b in THINGS for c in THINGS]
    path.write_text("<|endoftext|>".join(stories))
    return path


@pytest.mark.parametrize("minutes", ["0.15", pytest.param("2", marks=pytest.mark.full)])
def test_text_in_family_out(text, tmp_path, capsys, minutes):
    out = tmp_path / "family"
    command = ["family", "--size", "tiny", "--text", str(text), "--out", str(out), "--minutes", minutes]
    assert main(command) == 0
    assert {folder.name for folder in out.iterdir()} == MEMBERS
    weights = (out / "target" / "model.safetensors").read_bytes()
    (out / "mlp").rename(tmp_path / "mlp")
    capsys.readouterr()
    assert main(command) == 0
    said = capsys.readouterr().err
    assert "target is finished" in said
    assert "training heads --kind mlp" in said
    assert "training target" not in said
    assert (out / "target" / "model.safetensors").read_bytes() == weights

    rows = list(measure(out, prompts_by_domain(1), 24, "cpu"))
    titles = {(row.method.name, row.drafts) for row in rows}
    both = ("draft", "draft-b")
    assert {("draft", ("draft",)), ("draft", ("draft-b",)), ("tree", both), ("sequential", both)} <= titles
    assert {("medusa", ()), ("eagle", ()), ("eagle3", ()), ("mlp", ()), ("early-exit", ())} <= titles
    assert "naive" not in {name for name, _ in titles}
    assert all([own.domain for own in row.domains] == ["stories", "code", "arithmetic"] for row in rows)
    drafted = [own for row in rows for own in row.domains if own.rate is not None]
    assert any(0 < own.rate < 1 and own.length > 1 for own in drafted)

    documents = tmp_path / "documents.json"
    documents.write_text(json.dumps({"stories": [STORY.format("girl", "Lily", "Lily", "dog", "park")] * 3}))
    (out / "data.md").write_text("Five words, in the public domain.\n")
    assert main(["card", str(out), "--documents", str(documents), "--num-prompts", "1", "--max-tokens", "12"]) == 0
    card = (out / "README.md").read_text()
    assert "Five words, in the public domain." in card
    assert "| target | layers 2, hidden 64" in card
    assert "| eagle3 | layers 1," in card
    assert "| tree (draft, draft-b) | " in card
    assert str(tmp_path) not in card + (out / "medusa" / "config.json").read_text()

    again = tmp_path / "again"
    command = ["family", "--text", str(text), "--size", "tiny", "--out", str(again), "--minutes", "0.01"]
    assert main([*command, "--start", str(tmp_path)]) == 2
    assert "it must be a folder with a model in its folder target" in capsys.readouterr().err
    assert main([*command, "--own-text", str(text)]) == 2
    assert "--own-text goes with --start" in capsys.readouterr().err
    assert main([*command, "--start", str(out), "--own-text", str(text)]) == 0
    said = capsys.readouterr().err
    assert "--draft-vocab" not in said  # the sizes are those of the heads to start from
    assert said.count(f"--own-text {text}") == 1
    assert f"training target --start {out}/target --own-text {text}" in said
    assert (again / "tokenizer" / "tokenizer.json").read_bytes() == (out / "tokenizer" / "tokenizer.json").read_bytes()
    vocabularies = [
        json.loads((family / "medusa" / "config.json").read_text())["truncated_vocab_size"] for family in (out, again)
    ]
    assert vocabularies[0] == vocabularies[1] < 512
