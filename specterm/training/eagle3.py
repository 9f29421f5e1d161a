"""The recipe of EAGLE-3 heads: the target's distribution over the draft vocabulary, unrolled on their own features."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from specterm.models.heads.checkpoint import Checkpoint
from specterm.models.heads.eagle3 import Eagle3Heads, default_taps
from specterm.models.heads.head_config import HeadConfig
from specterm.training.beginning import Beginning
from specterm.training.features import Features
from specterm.training.saving import save_heads
from specterm.training.setup import RecipeSetup
from specterm.training.unrolled import unrolled

_STEPS = 3
_DISCOUNT = 0.8  # of each further step's loss, as in the paper


class Eagle3Recipe:
    """See `Recipe`."""

    def __init__(self, setup: RecipeSetup) -> None:
        """Raises:
        ModelError, ConfigError: see `Beginning`.
        """
        target, vocabulary = setup.target, setup.vocabulary
        hidden, head = target.hidden_size, target.head_weight().detach().float().cpu()
        self.taps: tuple[int, ...] = default_taps(target.layers)
        begin = Beginning(setup)
        layer = begin.layer()
        norm = layer["input_layernorm.weight"]
        for name in "qkv":  # the second half of what attention reads is the state, the first the token
            state = layer[f"self_attn.{name}_proj.weight"]
            layer[f"self_attn.{name}_proj.weight"] = torch.cat([begin.random(*state.shape), state], dim=1)
        layer |= {"hidden_norm.weight": norm, "input_layernorm.weight": torch.ones(hidden)}
        others = begin.random(hidden, (len(self.taps) - 1) * hidden)
        tensors = {f"layers.0.{name}": tensor for name, tensor in layer.items()} | {
            "fc.weight": torch.cat([others, torch.eye(hidden)], dim=1),
            "norm.weight": begin.final_norm(),
            "input_norm.weight": torch.ones(len(self.taps) * hidden),
            "lm_head.weight": head if vocabulary is None else head[vocabulary],
        }
        size = target.vocab_size if vocabulary is None else len(vocabulary)
        if vocabulary is not None:
            tensors["d2t"] = vocabulary - torch.arange(size)
        self._config = begin.config | {
            "architectures": ["LlamaForCausalLMEagle3"],
            "draft_vocab_size": size,
            "norm_before_residual": False,
            "norm_before_fc": True,  # a target's states may be of any size
            "eagle_config": {"eagle_aux_hidden_state_layer_ids": list(self.taps), "use_aux_hidden_state": True},
        }
        config, file = HeadConfig.of(self._config, Path(setup.name)), Checkpoint(Path(setup.name), tensors)
        made = Eagle3Heads(config, file, target).to(target.device).float()
        self.module: nn.Module = made.requires_grad_()
        self._heads, self._name = made, setup.published_name

    def loss(self, features: Features) -> Tensor:
        """Soft cross-entropy in nats, a weighted mean over the steps. What the target gives to tokens outside of the
        draft vocabulary counts for nothing, so a position weighs what the target gives to those inside."""
        wanted, ids = features.logits.float().softmax(dim=-1), self._heads.token_ids
        wanted = wanted if ids is None else wanted[..., ids]
        losses = [
            -(wanted[:, place] * logits.log_softmax(dim=-1)).sum(dim=-1).mean()
            for logits, _, place in unrolled(self._heads, features, _STEPS)
        ]
        weights = [_DISCOUNT**step for step in range(_STEPS)]
        return torch.stack([w * loss for w, loss in zip(weights, losses, strict=True)]).sum() / sum(weights)

    def save(self, folder: Path) -> None:
        """Write the heads in the published layout."""
        save_heads(folder, self._heads.published(), self._config | {"base_model_name_or_path": self._name})
