"""What specterm cannot run is refused with one line that says why; wrappers around a text model run that."""

import shutil

import pytest
import tiny_models
import torch
import transformers
from feeding import chain, random_ids

from specterm.config import ModelSpec
from specterm.errors import ModelError
from specterm.models.folders import BUILTIN_FOLDER
from specterm.models.loading import load_models

IDS = {"vocab_size": 4096, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
BODY = {**IDS, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
VISION = {
    "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip


def save(config, auto, folder):
    auto.from_config(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUILTIN_FOLDER / "target" / name, folder / name)
    return ModelSpec(target=str(folder), dtype="float32")


REFUSED = {
    "mamba": (
        lambda: transformers.MambaConfig(**IDS, hidden_size=32, state_size=4, num_hidden_layers=1),
        transformers.AutoModelForCausalLM, "recurrent state",
    ),
    "recurrent gemma": (
        lambda: transformers.RecurrentGemmaConfig(**BODY, lru_width=32),
        transformers.AutoModelForCausalLM, "recurrent state",
    ),
    "lfm2": (
        lambda: transformers.Lfm2Config(**BODY | {"num_hidden_layers": 2}, layer_types=["conv", "full_attention"]),
        transformers.AutoModelForCausalLM, "conv layers",
    ),
    "bloom": (
        lambda: transformers.BloomConfig(**IDS, hidden_size=32, n_layer=1, n_head=2),
        transformers.AutoModelForCausalLM, "no position ids",
    ),
    "t5": (
        lambda: transformers.T5Config(vocab_size=4096, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2),
        transformers.AutoModelForSeq2SeqLM, "encoder-decoder",
    ),
    "bert": (
        lambda: transformers.BertConfig(**BODY), transformers.AutoModelForMaskedLM, "an encoder model",
    ),
    "llava": (
        lambda: transformers.LlavaConfig(
            vision_config=transformers.CLIPVisionConfig(**VISION), text_config=tiny_models.config("llama")
        ),
        transformers.AutoModelForImageTextToText, "no causal language model",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind, tmp_path):
    make, auto, why = REFUSED[kind]
    spec = save(make(), auto, tmp_path)
    with pytest.raises(ModelError, match=why) as caught:
        load_models(spec)
    assert len(str(caught.value).splitlines()) == 1


def test_a_multimodal_wrapper_runs_its_text_model(tmp_path):
    text = tiny_models.config("gemma3")
    config = transformers.Gemma3Config(text_config=text.to_dict(), vision_config=VISION)
    torch.manual_seed(0)
    loaded = load_models(save(config, transformers.AutoModelForImageTextToText, tmp_path)).target
    assert loaded.info.max_positions == 256
    assert loaded.info.vocab_size == 4096
    ids = random_ids(30, 1)
    loaded.runner.allocate(1, 64)
    got = torch.cat([chain(loaded.runner, (0,), (at,), [ids[at : at + 10]])[0] for at in (0, 10, 20)])
    model = transformers.AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32).eval()
    with torch.inference_mode():
        want = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    torch.testing.assert_close(got, want, atol=1e-4, rtol=0)


MORE = {
    "neox": lambda: transformers.GPTNeoXConfig(**BODY),
    "opt": lambda: transformers.OPTConfig(
        **IDS, hidden_size=32, ffn_dim=32, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=64,
        word_embed_proj_dim=32,
    ),
    "phi3": lambda: transformers.Phi3Config(**BODY, num_key_value_heads=1, sliding_window=12),
    "gemma2": lambda: transformers.Gemma2Config(**BODY, num_key_value_heads=1, head_dim=16, sliding_window=12),
    "qwen3 moe": lambda: transformers.Qwen3MoeConfig(
        **BODY, num_key_value_heads=1, head_dim=16, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16
    ),
    "gpt-oss": lambda: transformers.GptOssConfig(
        **BODY | {"num_hidden_layers": 2}, num_key_value_heads=1, head_dim=16, num_local_experts=4,
        num_experts_per_tok=2, sliding_window=12,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", MORE)
def test_more_architectures(kind, tmp_path):
    torch.manual_seed(0)
    spec = save(MORE[kind](), transformers.AutoModelForCausalLM, tmp_path)
    runner = load_models(spec).target.runner
    ids = random_ids(30, 1)
    runner.allocate(1, 64)
    got = torch.cat([chain(runner, (0,), (at,), [ids[at : at + 10]])[0] for at in (0, 10, 20)])
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    with torch.inference_mode():
        want = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    torch.testing.assert_close(got, want, atol=1e-4, rtol=0)
