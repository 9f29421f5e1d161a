"""The recipe of Medusa heads: the target stays as it is, the heads learn its own distribution some tokens ahead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from specterm.decoding.ports import FINAL_NORM
from specterm.models.heads.medusa import FILES, MedusaHeads
from specterm.training.features import Features
from specterm.training.saving import save_heads
from specterm.training.setup import RecipeSetup

_DISCOUNT = 0.8  # of each further head's loss, as in the paper


class MedusaRecipe:
    """See `Recipe`."""

    taps: tuple[int, ...] = (FINAL_NORM,)

    def __init__(self, setup: RecipeSetup) -> None:
        """Heads that begin as copies of the target's own."""
        made = MedusaHeads.untrained(setup.target.head_weight().detach().float().clone(), setup.heads)
        made = made if setup.vocabulary is None else made.truncated(setup.vocabulary)
        self.module: nn.Module = made.requires_grad_()
        self._heads, self._name = made, setup.published_name

    def loss(self, features: Features) -> Tensor:
        """Cross-entropy against the target's distribution: head i at token t against what the target, having read one
        token more for every head, says about token t + 2 + i. In nats, a weighted mean over the heads."""
        heads, length = self._heads.heads, features.ids.shape[1]
        judged = length - heads  # positions whose every head has a target to learn from
        predicted = self._heads(features.states[:, :judged].flatten(0, 1).float()).log_softmax(dim=-1)
        wanted, ids = features.logits.float().softmax(dim=-1), self._heads.token_ids
        wanted = wanted if ids is None else wanted[..., ids]
        losses = [
            -(wanted[:, 1 + i : 1 + i + judged].flatten(0, 1) * predicted[i]).sum(dim=-1).mean() for i in range(heads)
        ]
        weights = [_DISCOUNT**i for i in range(heads)]
        total = torch.stack([weight * loss for weight, loss in zip(weights, losses, strict=True)]).sum()
        return total / sum(weights)

    def save(self, folder: Path) -> None:
        """Write the heads in the published layout, those of a truncated vocabulary in the converted one."""
        save_medusa(folder, self._heads, self._name)


def save_medusa(folder: Path, heads: MedusaHeads, target: str) -> None:
    """Write `heads` of the target called so: file and config.json of the layout that they have."""
    layers, size = heads.weight.shape[0], heads.lm_heads.shape[1]
    told: dict[str, Any] = {"base_model_name_or_path": target, "hidden_size": heads.hidden_size}
    if heads.token_ids is None:
        name, own = FILES[0], {"medusa_num_heads": heads.heads, "medusa_num_layers": layers, "vocab_size": size}
    else:
        name, own = "model.safetensors", {"num_heads": heads.heads, "num_hidden_layers": layers}
        told |= {"model_type": "medusa", "truncated_vocab_size": size, "medusa_fc_bias": True}
    save_heads(folder, heads.published(), told | own, name)
