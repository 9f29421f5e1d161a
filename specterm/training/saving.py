"""Writing heads as they are published."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def save_heads(
    folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any], name: str = "model.safetensors"
) -> None:
    """Write `tensors` to `name`, those of weights in bfloat16, and `config` to config.json."""
    from safetensors.torch import save_file

    found = {key: tensor.detach().cpu() for key, tensor in tensors.items()}
    weights = {key: t.to(torch.bfloat16) if t.is_floating_point() else t for key, t in found.items()}
    save_file({key: tensor.contiguous() for key, tensor in weights.items()}, folder / name)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
