"""Small models made on the spot: random weights, saved as plain Hugging Face folders with a tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from specterm.models.folders import BUILTIN_FOLDER

_SIZES = {"vocab_size": 4096, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
_BODY = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}


def config(kind: str) -> PreTrainedConfig:
    """The configuration of a tiny model of one architecture."""
    match kind:
        case "llama":
            return LlamaConfig(**_SIZES, **_BODY, num_key_value_heads=2, max_position_embeddings=256)
        case "llama3-rope":
            rope = {
                "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
            }  # fmt: skip
            return LlamaConfig(
                **_SIZES, **_BODY, num_key_value_heads=1, max_position_embeddings=512, rope_parameters=rope
            )
        case "mistral":
            return MistralConfig(
                **_SIZES, **_BODY, num_key_value_heads=2, max_position_embeddings=256, sliding_window=None
            )
        case "mistral-sliding":
            return MistralConfig(
                **_SIZES, **_BODY, num_key_value_heads=2, max_position_embeddings=256, sliding_window=12
            )
        case "qwen2":
            return Qwen2Config(**_SIZES, **_BODY, num_key_value_heads=2, max_position_embeddings=256)
        case "qwen3":
            return Qwen3Config(**_SIZES, **_BODY, num_key_value_heads=2, head_dim=24, max_position_embeddings=256)
        case "gpt2":
            return GPT2Config(**_SIZES, n_embd=64, n_layer=3, n_head=4, n_positions=256)
        case "gemma3":
            return Gemma3TextConfig(
                **_SIZES, **_BODY, num_key_value_heads=2, head_dim=16, max_position_embeddings=256, sliding_window=12,
                layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            )  # fmt: skip
    raise ValueError(kind)


def save_pair(kind: str, folder: Path, noise: float = 0.05, seed: int = 0) -> tuple[Path, Path]:
    """A random target and a draft that is the target with noise on its weights, so that it is right now and then.

    Weights are larger than usual and embeddings untied, so that the text varies instead of repeating one token.
    """
    torch.manual_seed(seed)
    made = config(kind)
    made.tie_word_embeddings = False
    model = AutoModelForCausalLM.from_config(made).double()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                weight.normal_(0.0, 1.0 if "embed" in name or "wte" in name else weight.shape[-1] ** -0.5)
    target = _save(model, folder / "target")
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * weight.std() * noise if weight.ndim > 1 else 0.0)
    return target, _save(model, folder / "draft")


def _save(model: torch.nn.Module, folder: Path) -> Path:
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUILTIN_FOLDER / "target" / name, folder / name)
    written = json.loads((folder / "config.json").read_text())
    assert written["vocab_size"] == 4096
    return folder
