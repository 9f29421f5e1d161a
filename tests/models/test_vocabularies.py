"""A draft needs the target's tokens; the sizes of the embeddings may differ."""

import json

import pytest
import torch
from feeding import random_ids
from harness import decode
from safetensors.torch import load_file, save_file

from specterm.config import ModelSpec
from specterm.decoding.sampling import Warps
from specterm.errors import ModelError
from specterm.models.loading import load_models


def load(target, draft):
    return load_models(ModelSpec(target=str(target), drafts=(str(draft),), dtype="float64"))


def resize_embeddings(folder, size: int):
    tensors = load_file(folder / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        old = tensors[name]
        new = torch.zeros((size, old.shape[1]), dtype=old.dtype)
        kept = min(size, len(old))
        new[:kept] = old[:kept]
        tensors[name] = new
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": size}))
    return folder


@pytest.mark.parametrize("padded", ["target", "draft"])
@pytest.mark.parametrize("warps", [Warps(0.0), Warps(0.6)], ids=["greedy", "sampled"])
def test_padded_embeddings(padded, warps, saved_pair, spoiled):
    target, draft = saved_pair("llama")
    larger = resize_embeddings(spoiled("llama"), 4160)
    models = load(larger, draft) if padded == "target" else load(target, larger)
    assert {models.target.info.vocab_size, models.drafts[0].info.vocab_size} == {4096, 4160}
    prompts = [random_ids(6, 1)]
    options = {"warps": warps, "max_tokens": 30}
    decoded = decode(models.target.runner, prompts, method="draft", drafts=[models.drafts[0].runner], **options)
    assert "accepted" in decoded.states
    assert len(decoded.ids[0]) == 30
    if warps.greedy:
        assert decoded.ids == decode(models.target.runner, prompts, **options).ids


def test_another_vocabulary(saved_pair, spoiled):
    folder = spoiled("llama")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append(
        {"id": 4096, "content": "<new>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
    )  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelError, match="4096 and 4097 tokens") as caught:
        load(saved_pair("llama")[0], folder)
    assert "choose a draft" in str(caught.value)


def test_a_draft_without_a_tokenizer(saved_pair, spoiled):
    target = saved_pair("llama")[0]
    folder = spoiled("llama")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    models = load(target, folder)
    assert models.drafts[0].codec is None
    assert models.codec.encode("a")
    with pytest.raises(ModelError, match="no tokenizer"):
        load(folder, target)
    resize_embeddings(folder, 4000)
    with pytest.raises(ModelError, match="4096 and 4000 tokens"):
        load(target, folder)


def test_a_draft_whose_tokenizer_is_broken(saved_pair, spoiled):
    folder = spoiled("llama")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        load(saved_pair("llama")[0], folder)
