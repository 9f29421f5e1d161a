"""Rotary position embeddings (Su et al. 2021, arXiv 2104.09864) as tables of cosines and sines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def rope_tables(config: Mapping[str, Any], positions: int, device: torch.device) -> tuple[Tensor, Tensor] | None:
    """cos and sin for positions 0 to `positions` - 1, each float32 [positions, head_dim], in Hugging Face's layout (the
    second half repeats the first). None where the config asks for a kind that is not known here.

    Knows the default, "linear" (positions divided by a factor) and "llama3" (low frequencies divided, a band blended).
    """
    rope = config.get("rope_parameters") or {}
    scaling = config.get("rope_scaling") or rope
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    theta = float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0)
    if float(config.get("partial_rotary_factor") or rope.get("partial_rotary_factor") or 1.0) != 1.0:
        return None
    head_dim = int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
    frequencies = 1.0 / (theta**exponents)
    if kind == "linear":
        frequencies = frequencies / float(scaling["factor"])
    elif kind == "llama3":
        frequencies = _llama3(frequencies, scaling)
    elif kind != "default":
        return None
    angles = torch.outer(torch.arange(positions).float(), frequencies)
    angles = torch.cat((angles, angles), dim=-1).to(device)
    return angles.cos(), angles.sin()


def _llama3(frequencies: Tensor, scaling: Mapping[str, Any]) -> Tensor:
    """Llama 3.1's scaling: wavelengths beyond the trained context are stretched, those well inside are kept."""
    factor, context = float(scaling["factor"]), float(scaling["original_max_position_embeddings"])
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    wavelengths = 2 * math.pi / frequencies
    blend = ((context / wavelengths - low) / (high - low)).clamp(0.0, 1.0)
    return (1.0 - blend) * frequencies / factor + blend * frequencies
