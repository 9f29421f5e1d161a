"""Models of random weights in real sizes, made on the device, and drafts of them that are as good as one wants.

A target's first layers are its draft: what the layers above add is scaled by `upper`, so that 0 makes the draft always
right, and acceptance falls as it grows.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from specterm.models.runners.llama import LlamaRunner

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 64, "layers": 4, "heads": 4, "kv_heads": 2, "intermediate_size": 128, "vocab_size": 512},
    "1B": {
        "hidden_size": 2048, "layers": 16, "heads": 32, "kv_heads": 8, "intermediate_size": 8192, "vocab_size": 128256,
    },
    "8B": {
        "hidden_size": 4096, "layers": 32, "heads": 32, "kv_heads": 8, "intermediate_size": 14336, "vocab_size": 128256,
    },
}  # fmt: skip
DRAFT_LAYERS = {"tiny": 1, "1B": 2, "8B": 3}
CONTEXT = 4096


def config_of(size: str, layers: int | None = None) -> dict[str, Any]:
    """A Hugging Face config of the Llama 3 family."""
    shape = dict(SIZES[size])
    heads = shape.pop("heads")
    return {
        "model_type": "llama", "num_hidden_layers": layers or shape.pop("layers"), "num_attention_heads": heads,
        "num_key_value_heads": shape.pop("kv_heads"), "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0, "tie_word_embeddings": False, "hidden_act": "silu",
        **{name: value for name, value in shape.items() if name != "layers"},
    }  # fmt: skip


def random_weights(device: torch.device, dtype: torch.dtype, lower: int, upper: float):
    """Reads the tensor of any name: the same name has the same numbers. What layers from `lower` on add is scaled."""

    def read(name: str, shape: tuple[int, ...]) -> Tensor:
        if len(shape) == 1:
            return torch.ones(shape, dtype=dtype, device=device)
        random = torch.Generator(device).manual_seed(zlib.crc32(name.encode()))
        scale = shape[1] ** -0.5
        layer = int(name.split(".")[2]) if ".layers." in name else -1
        if layer >= lower and name.endswith(("o_proj.weight", "down_proj.weight")):
            scale *= upper
        return torch.randn(shape, generator=random, dtype=dtype, device=device).mul_(scale)

    return read


def pair(size: str, device: torch.device, dtype: torch.dtype, upper: float) -> tuple[LlamaRunner, LlamaRunner]:
    """A target and its draft."""
    lower = DRAFT_LAYERS[size]
    read = random_weights(device, dtype, lower, upper)
    target, draft = (LlamaRunner(read, config_of(size, layers), device, dtype, CONTEXT) for layers in (None, lower))
    return target, draft


def hugging_face(size: str, device: torch.device, dtype: torch.dtype) -> Any:
    """transformers' model of the same size, with weights of its own."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config: Mapping[str, Any] = {k: v for k, v in config_of(size).items() if k != "model_type"}
    with torch.device(device):
        torch.set_default_dtype(dtype)
        try:
            return LlamaForCausalLM(LlamaConfig(**config)).eval()
        finally:
            torch.set_default_dtype(torch.float32)
