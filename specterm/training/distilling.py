"""The recipe of a draft model: the target's distribution, and a little of the text itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from specterm.decoding.ports import Runner
from specterm.training.features import target_features
from specterm.training.learner import model_optimizers
from specterm.training.shape import save_model


class DraftLearner:
    """See `Learner`. Knowledge distillation (Hinton et al. 2015) at temperature 1, token by token."""

    def __init__(self, model: Any, tokenizer: Path, target: Runner, text_weight: float) -> None:
        """model: a `LlamaForCausalLM` in float32 with the target's vocabulary; tokenizer: the folder whose tokenizer
        is written with it; text_weight: the weight of the text's own next token, from 0 to 1."""
        self.module: nn.Module = model.to(target.device).train()
        self._model, self._tokenizer, self._target, self._text_weight = model, tokenizer, target, text_weight

    def loss(self, ids: Tensor) -> Tensor:
        """Kullback-Leibler divergence of the draft from the target and cross-entropy of the text, a weighted mean."""
        wanted = target_features(self._target, ids, ()).logits.float().log_softmax(dim=-1)
        ids = ids.to(self._target.device)
        found = self._model(ids, use_cache=False).logits.log_softmax(dim=-1)
        divergence = F.kl_div(found, wanted, reduction="none", log_target=True).sum(dim=-1).mean()
        entropy = F.nll_loss(found[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        return divergence.lerp(entropy, self._text_weight)

    def optimizers(self, learning_rate: float) -> list[Optimizer]:
        """Muon at `learning_rate`, AdamW at a share of it."""
        return model_optimizers(self.module, learning_rate)

    def save(self, folder: Path) -> None:
        """Write a plain Hugging Face folder, in bfloat16."""
        save_model(self._model, self._tokenizer, folder)
