"""Greedy output: neither drafting nor our cache changes a token: naive, draft and `generate` agree."""

import pytest
import torch
from harness import Decoded, decode
from tiny_models import save_pair
from transformers import AutoModelForCausalLM

from specterm.bench.prompts import gather
from specterm.config import ModelSpec
from specterm.models.folders import BUILTIN_FOLDER
from specterm.models.loading import LoadedModels, load_models

KINDS = ["llama", "llama3-rope", "mistral", "mistral-sliding", "qwen2", "qwen3", "gpt2", "gemma3"]
FUSED = {"llama", "llama3-rope", "mistral", "qwen2", "qwen3"}


def prompts_of(lengths: tuple[int, ...]) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(1, 4096, (n,), generator=generator).tolist() for n in lengths]


def generated(folder, prompts, tokens: int, dtype: torch.dtype) -> list[tuple[int, ...]]:
    """What transformers' own greedy `generate` says."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    out = []
    for ids in prompts:
        whole = model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), do_sample=False,
            max_new_tokens=tokens, eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
        out.append(tuple(whole[0, len(ids) :].tolist()))
    return out


def assert_mixed(decoded: Decoded) -> None:
    """The run was worth something: text varies, drafts were kept and drafts were refused."""
    states = set(decoded.states)
    assert {"accepted", "rejected"} <= states
    assert sum(len(set(ids)) for ids in decoded.ids) > sum(len(ids) for ids in decoded.ids) / 4


@pytest.mark.parametrize("kind", KINDS)
def test_draft_equals_naive_equals_generate(kind, tmp_path):
    target, draft = save_pair(kind, tmp_path)
    models = load_models(ModelSpec(target=str(target), drafts=(str(draft),), dtype="float64"))
    assert models.target.info.runner == ("fused llama" if kind in FUSED else "transformers")
    prompts = prompts_of((1, 7, 20, 33, 5))
    expected = generated(target, prompts, 40, torch.float64)
    assert decode(models.target.runner, prompts, max_tokens=40).ids == expected
    drafts = [models.drafts[0].runner]
    for batch_size, gamma in ((1, 4), (3, 1), (5, 9)):
        decoded = decode(
            models.target.runner, prompts, method="draft", drafts=drafts, max_tokens=40, batch_size=batch_size,
            num_draft_tokens=gamma,
        )  # fmt: skip
        assert decoded.ids == expected, (batch_size, gamma)
        assert_mixed(decoded)


def builtin(dtype: str) -> LoadedModels:
    return load_models(ModelSpec(dtype=dtype).checked())


def encoded(models: LoadedModels, count: int) -> list[list[int]]:
    return [models.codec.encode(request.prompt) for request in gather(("builtin",), count)]


def test_builtin_pair_short():
    models = builtin("float32")
    prompts = encoded(models, 3)
    expected = generated(BUILTIN_FOLDER / "target", prompts, 48, torch.float32)
    assert decode(models.target.runner, prompts, max_tokens=48).ids == expected
    decoded = decode(
        models.target.runner, prompts, method="draft", drafts=[models.drafts[0].runner], max_tokens=48, batch_size=3
    )
    assert decoded.ids == expected
    assert_mixed(decoded)


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_builtin_pair_full():
    models = builtin("float32")
    prompts = encoded(models, 20)
    assert len(prompts) == 20
    expected = generated(BUILTIN_FOLDER / "target", prompts, 200, torch.float32)
    for batch_size in (1, 5):
        assert decode(models.target.runner, prompts, max_tokens=200, batch_size=batch_size).ids == expected
        for gamma in (1, 4, 9):
            decoded = decode(
                models.target.runner, prompts, method="draft", drafts=[models.drafts[0].runner], max_tokens=200,
                batch_size=batch_size, num_draft_tokens=gamma,
            )  # fmt: skip
            assert decoded.ids == expected, (batch_size, gamma)
            assert {"accepted", "rejected"} <= set(decoded.states)


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["gpt2", "qwen3", "gemma3"])
def test_random_models_full(kind, tmp_path):
    target, draft = save_pair(kind, tmp_path)
    models = load_models(ModelSpec(target=str(target), drafts=(str(draft),), dtype="float32"))
    prompts = prompts_of(tuple(range(1, 41, 2)))
    expected = generated(target, prompts, 200, torch.float32)
    for batch_size in (1, 5):
        assert decode(models.target.runner, prompts, max_tokens=200, batch_size=batch_size).ids == expected
        for gamma in (1, 4, 9):
            decoded = decode(
                models.target.runner, prompts, method="draft", drafts=[models.drafts[0].runner], max_tokens=200,
                batch_size=batch_size, num_draft_tokens=gamma,
            )  # fmt: skip
            assert decoded.ids == expected, (batch_size, gamma)
            assert_mixed(decoded)
