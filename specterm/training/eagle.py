"""The recipe of EAGLE heads: the target's next state and its distribution, also from the heads' own features."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specterm.decoding.ports import FINAL_NORM
from specterm.models.heads.checkpoint import Checkpoint
from specterm.models.heads.eagle import EagleHeads
from specterm.models.heads.head_config import HeadConfig
from specterm.training.beginning import Beginning
from specterm.training.features import Features
from specterm.training.saving import save_heads
from specterm.training.setup import RecipeSetup
from specterm.training.unrolled import unrolled

_STEPS = 3
_DISCOUNT = 0.8  # of each further step's loss
_REGRESSION = 0.1  # the weight of the features' loss; the paper has 10 times that of the distribution's


class EagleRecipe:
    """See `Recipe`. The paper trains on true features with noise; unrolling the heads on their own takes its place."""

    taps: tuple[int, ...] = (FINAL_NORM,)

    def __init__(self, setup: RecipeSetup) -> None:
        """Raises:
        ModelError, ConfigError: see `Beginning`.
        """
        begin = Beginning(setup)
        layer = begin.layer()
        # EAGLE's layer has no input norm: its weight goes into what reads the normed state.
        norm = layer.pop("input_layernorm.weight")
        for name in "qkv":
            layer[f"self_attn.{name}_proj.weight"] = layer[f"self_attn.{name}_proj.weight"] * norm
        hidden = setup.target.hidden_size
        tensors = {f"layers.0.{name}": tensor for name, tensor in layer.items()}
        tensors["fc.weight"] = torch.cat([begin.random(hidden, hidden), torch.eye(hidden)], dim=1)
        self._config = begin.config | {"architectures": ["LlamaForCausalLM"], "bias": False}
        config, file = HeadConfig.of(self._config, Path(setup.name)), Checkpoint(Path(setup.name), tensors)
        made = EagleHeads(config, file, setup.target).to(setup.target.device).float()
        self.module: nn.Module = made.requires_grad_()
        self._heads, self._name = made, setup.published_name

    def loss(self, features: Features) -> Tensor:
        """Soft cross-entropy against the target's distribution and smooth L1 against its state, a weighted mean over
        the steps; in nats, apart from the latter."""
        wanted, states = features.logits.float().softmax(dim=-1), features.states.float()
        losses = []
        for logits, following, place in unrolled(self._heads, features, _STEPS):
            entropy = -(wanted[:, place] * logits.log_softmax(dim=-1)).sum(dim=-1).mean()
            losses.append(entropy + _REGRESSION * F.smooth_l1_loss(following, states[:, place]))
        weights = [_DISCOUNT**step for step in range(_STEPS)]
        return torch.stack([w * loss for w, loss in zip(weights, losses, strict=True)]).sum() / sum(weights)

    def save(self, folder: Path) -> None:
        """Write the heads in the published layout."""
        save_heads(folder, self._heads.published(), self._config | {"base_model_name_or_path": self._name})
