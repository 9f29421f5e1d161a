"""The recipe of a draft model: the target's distribution, and a little of the text itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from specterm.decoding.ports import Runner
from specterm.training.learner import model_optimizers
from specterm.training.shape import save_model
from specterm.training.teaching import Teacher


class DraftLearner:
    """See `Learner`."""

    def __init__(self, model: Any, tokenizer: Path, target: Runner, text_weight: float, blocks_kept: int = 0) -> None:
        """model: a `LlamaForCausalLM` in float32 with the target's vocabulary; tokenizer: the folder whose tokenizer
        is written with it; text_weight: the weight of the text's own next token, from 0 to 1; blocks_kept: see
        `Teacher`."""
        self.module: nn.Module = model.to(target.device).train()
        self._model, self._tokenizer, self._text_weight = model, tokenizer, text_weight
        self._device, self._teacher = target.device, Teacher(target, blocks_kept=blocks_kept)

    def loss(self, ids: Tensor) -> Tensor:
        """Divergence of the draft from the target and cross-entropy of the text, a weighted mean."""
        said = self._teacher.say(ids)
        ids = ids.to(self._device)
        logits = self._model(ids, use_cache=False).logits
        entropy = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        return said.divergence(logits).lerp(entropy, self._text_weight)

    def optimizers(self, learning_rate: float) -> list[Optimizer]:
        """Muon at `learning_rate`, AdamW at a share of it."""
        return model_optimizers(self.module, learning_rate)

    def save(self, folder: Path) -> None:
        """Write a plain Hugging Face folder, in bfloat16."""
        save_model(self._model, self._tokenizer, folder)
