"""What a model that is trained learns of another: what that says after each token, kept as far as it matters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from specterm.decoding.ports import Runner
from specterm.training.features import target_features

_LIKELIEST = 64
_MARGIN = 0.5  # nats
_NEARLY_ALL = 1.0 - 1e-6  # of a probability: the rest has a logarithm


@dataclass(frozen=True, slots=True)
class Taught:
    """What is said after each token of a block: the likeliest tokens, int32 [B, T, K], their log-probabilities,
    float32 [B, T, K], and the probability of all others together, float32 [B, T]. choice: int64 [B, T], what is to be
    the likeliest token, -1 where that is left open; None: everywhere."""

    tokens: Tensor
    log_probs: Tensor
    others: Tensor
    choice: Tensor | None = None

    def every(self, step: int) -> Taught:
        """Of one token in so many, without choices."""
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

    def shortfall(self, logits: Tensor) -> Tensor:
        """How much a learner's choices lack to stand above every other token by a margin, in its logits, [B, T, V]: a
        scalar, the mean of all tokens (the multiclass hinge loss, Crammer and Singer 2001)."""
        if self.choice is None:
            return logits.new_zeros(())
        wanted = self.choice.clamp(min=0).unsqueeze(-1)
        highest = logits.scatter(-1, wanted, -torch.inf).amax(dim=-1)
        lacking = (_MARGIN + highest - logits.gather(-1, wanted).squeeze(-1)).clamp(min=0.0)
        return lacking.where(self.choice >= 0, 0.0).mean()


class Teacher:
    """A model that is learned from, perhaps for one who yields to a draft.

    Then the draft's choice, its likeliest token, is chosen wherever it is nearly as likely as the model's own, at least
    `ratio` times: the two agree there afterwards, and the text is hardly less likely.
    """

    def __init__(self, model: Runner, draft: Runner | None = None, ratio: float = 1.0, blocks_kept: int = 0) -> None:
        """blocks_kept: of how many blocks, those read last, what was said is kept: where a block comes again, a teacher
        that costs more than the learner need not read it again."""
        self._model, self._draft, self._ratio = model, draft, ratio
        self._kept = lru_cache(blocks_kept)(self._ask)

    def say(self, ids: Tensor) -> Taught:
        """After each token of a block, int64 [B, T]."""
        return self._kept(ids.cpu().numpy().tobytes(), len(ids))

    def _ask(self, block: bytes, rows: int) -> Taught:
        ids = torch.frombuffer(bytearray(block), dtype=torch.int64).view(rows, -1)
        said = target_features(self._model, ids, ()).logits.float().log_softmax(dim=-1)
        choice = None
        if self._draft is not None:
            chosen = target_features(self._draft, ids, ()).logits.argmax(dim=-1)
            near = said.gather(-1, chosen.unsqueeze(-1)).squeeze(-1) - said.amax(dim=-1) >= math.log(self._ratio)
            choice = chosen.where(near, -1)
        log_probs, tokens = said.topk(min(_LIKELIEST, said.shape[-1]))
        return Taught(tokens.int(), log_probs, (1.0 - log_probs.exp().sum(dim=-1)).clamp(min=0.0), choice)
