"""What a model that is trained learns of others: what they say after each token, kept as far as it matters.

Several teachers say it together, as a geometric mean of their distributions (a product of experts, Hinton 2002).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from specterm.decoding.ports import Runner
from specterm.training.features import target_features

_LIKELIEST = 64
_NEARLY_ALL = 1.0 - 1e-6  # of a probability: the rest has a logarithm


@dataclass(frozen=True, slots=True)
class Taught:
    """What is said after each token of a block: the likeliest tokens, int32 [B, T, K], their log-probabilities,
    float32 [B, T, K], and the probability of all others together, float32 [B, T]."""

    tokens: Tensor
    log_probs: Tensor
    others: Tensor

    def every(self, step: int) -> Taught:
        """Of one token in so many."""
        return Taught(self.tokens[:, ::step], self.log_probs[:, ::step], self.others[:, ::step])

    def divergence(self, logits: Tensor) -> Tensor:
        """The Kullback-Leibler divergence from this of what a learner says by its logits, [B, T, V]: a scalar, the mean
        of all tokens, in nats.

        Knowledge distillation (Hinton et al. 2015) at temperature 1, token by token; the likeliest tokens count one by
        one, all others together.
        """
        likeliest = logits.log_softmax(dim=-1).gather(-1, self.tokens.long())
        others = torch.log1p(-likeliest.exp().sum(dim=-1).clamp(max=_NEARLY_ALL))
        found = F.kl_div(likeliest, self.log_probs, reduction="none", log_target=True).sum(dim=-1)
        return (found + torch.xlogy(self.others, self.others) - self.others * others).mean()


class Teachers:
    """Models of one vocabulary, with the share that each has in the mean."""

    def __init__(self, shares: Mapping[Runner, float], blocks_kept: int = 0) -> None:
        """shares: together 1; blocks_kept: of how many blocks, those read last, what was said is kept: where a block
        comes again, teachers that cost more than the learner need not read it again."""
        self._shares = shares
        self._kept = lru_cache(blocks_kept)(self._ask)

    def say(self, ids: Tensor) -> Taught:
        """After each token of a block, int64 [B, T]."""
        return self._kept(ids.cpu().numpy().tobytes(), len(ids))

    def _ask(self, block: bytes, rows: int) -> Taught:
        ids = torch.frombuffer(bytearray(block), dtype=torch.int64).view(rows, -1)
        said = [
            share * target_features(model, ids, ()).logits.float().log_softmax(dim=-1)
            for model, share in self._shares.items()
        ]
        found = said[0] if len(said) == 1 else sum(said[1:], said[0]).log_softmax(dim=-1)
        log_probs, tokens = found.topk(min(_LIKELIEST, found.shape[-1]))
        return Taught(tokens.int(), log_probs, (1.0 - log_probs.exp().sum(dim=-1)).clamp(min=0.0))
