"""The recipe of Medusa heads: the target stays as it is, the heads learn its own distribution some tokens ahead."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from specterm.decoding.ports import FINAL_NORM, Runner
from specterm.models.heads.medusa import FILES, MedusaHeads
from specterm.training.features import Features

_DISCOUNT = 0.8  # of each further head's loss, as in the paper


class MedusaRecipe:
    """See `Recipe`."""

    taps: tuple[int, ...] = (FINAL_NORM,)

    def __init__(self, target: Runner, name: str, heads: int) -> None:
        """Heads that begin as copies of the target's own; `name` is what the target is called in config.json."""
        made = MedusaHeads.untrained(target.head_weight().detach().float().clone(), heads)
        self.module: nn.Module = made.requires_grad_()
        self._heads, self._name = made, name

    def loss(self, features: Features) -> Tensor:
        """Cross-entropy against the target's distribution: head i at token t against what the target, having read one
        token more for every head, says about token t + 2 + i. In nats, a weighted mean over the heads."""
        heads, length = self._heads.heads, features.ids.shape[1]
        judged = length - heads  # positions whose every head has a target to learn from
        predicted = self._heads(features.states[:, :judged].flatten(0, 1).float()).log_softmax(dim=-1)
        wanted = features.logits.float().softmax(dim=-1)
        losses = [
            -(wanted[:, 1 + i : 1 + i + judged].flatten(0, 1) * predicted[i]).sum(dim=-1).mean() for i in range(heads)
        ]
        weights = [_DISCOUNT**i for i in range(heads)]
        total = torch.stack([weight * loss for weight, loss in zip(weights, losses, strict=True)]).sum()
        return total / sum(weights)

    def save(self, folder: Path) -> None:
        """Write the heads in the published layout."""
        from safetensors.torch import save_file

        save_file(self._heads.published(), folder / FILES[0])
        config = {
            "base_model_name_or_path": self._name,
            "hidden_size": self._heads.hidden_size,
            "medusa_num_heads": self._heads.heads,
            "medusa_num_layers": self._heads.weight.shape[0],
            "vocab_size": self._heads.lm_heads.shape[1],
        }
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
