"""The recipe of a draft model: the target's distribution, and a little of the text itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from specterm.decoding.ports import Runner
from specterm.training.features import target_features
from specterm.training.learner import model_optimizers
from specterm.training.shape import save_model

_LIKELIEST = 64
_NEARLY_ALL = 1.0 - 1e-6  # of a probability: the rest has a logarithm


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the target says after each token of a block: its likeliest tokens, int32 [B, T, K], their log-probabilities,
    float32 [B, T, K], and the probability of all others together, float32 [B, T]."""

    tokens: Tensor
    log_probs: Tensor
    others: Tensor


class DraftLearner:
    """See `Learner`. Knowledge distillation (Hinton et al. 2015) at temperature 1, token by token.

    The target's likeliest tokens count one by one, all others together. That much of its distribution can be kept for
    a block that comes again: the target, which costs more than the draft, need not read it again.
    """

    def __init__(self, model: Any, tokenizer: Path, target: Runner, text_weight: float, blocks_kept: int = 0) -> None:
        """model: a `LlamaForCausalLM` in float32 with the target's vocabulary; tokenizer: the folder whose tokenizer
        is written with it; text_weight: the weight of the text's own next token, from 0 to 1; blocks_kept: of how many
        blocks, those read last, what the target says is kept."""
        self.module: nn.Module = model.to(target.device).train()
        self._model, self._tokenizer, self._target, self._text_weight = model, tokenizer, target, text_weight
        self._wanted = lru_cache(blocks_kept)(self._ask)

    def loss(self, ids: Tensor) -> Tensor:
        """Kullback-Leibler divergence of the draft from the target and cross-entropy of the text, a weighted mean."""
        wanted = self._wanted(ids.cpu().numpy().tobytes(), len(ids))
        ids = ids.to(self._target.device)
        found = self._model(ids, use_cache=False).logits.log_softmax(dim=-1)
        likeliest = found.gather(-1, wanted.tokens.long())
        others = torch.log1p(-likeliest.exp().sum(dim=-1).clamp(max=_NEARLY_ALL))
        divergence = F.kl_div(likeliest, wanted.log_probs, reduction="none", log_target=True).sum(dim=-1)
        divergence = divergence + torch.xlogy(wanted.others, wanted.others) - wanted.others * others
        entropy = F.nll_loss(found[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        return divergence.mean().lerp(entropy, self._text_weight)

    def _ask(self, block: bytes, rows: int) -> Wanted:
        """Of a block of `rows` rows of int64 tokens."""
        ids = torch.frombuffer(bytearray(block), dtype=torch.int64).view(rows, -1)
        found = target_features(self._target, ids, ()).logits.float().log_softmax(dim=-1)
        log_probs, tokens = found.topk(min(_LIKELIEST, found.shape[-1]))
        return Wanted(tokens.int(), log_probs, (1.0 - log_probs.exp().sum(dim=-1)).clamp(min=0.0))

    def optimizers(self, learning_rate: float) -> list[Optimizer]:
        """Muon at `learning_rate`, AdamW at a share of it."""
        return model_optimizers(self.module, learning_rate)

    def save(self, folder: Path) -> None:
        """Write a plain Hugging Face folder, in bfloat16."""
        save_model(self._model, self._tokenizer, folder)
