"""What a model that is being trained says by itself, while it changes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from specterm.models.tokenizer import TextCodec

_WRITTEN = 64  # answers at a time: a step of decoding takes hardly longer for many than for few
_LEARNT = 8  # of those at a time; the model has changed little when it comes to the last
_BEGINNINGS = (4, 48)


class OwnAnswers:
    """Greedy answers of a model to beginnings of documents, each by the model as it was at most a few steps before."""

    def __init__(
        self, model: Any, documents: Sequence[str], codec: TextCodec, end: int | None, *, max_tokens: int, seed: int
    ) -> None:
        """model: a `LlamaForCausalLM`; end: the token that ends an answer, if the model has one; max_tokens: of each
        answer; seed: of the documents, and of how much of them is given."""
        self.end = end
        self._model, self._documents, self._codec, self._max_tokens = model, documents, codec, max_tokens
        self._draw = random.Random(seed)
        self._left = torch.empty(0, 0, dtype=torch.int64)
        self._given = 0

    def some(self) -> tuple[Tensor, int]:
        """Beginnings and their answers, int64 [B, T] on the model's device, and of how many tokens the beginnings are.

        Behind an answer that is shorter than others stands `end`, again and again.
        """
        if not len(self._left):
            self._left = self._written()
        found, self._left = self._left[:_LEARNT], self._left[_LEARNT:]
        return found, self._given

    @torch.no_grad()
    def _written(self) -> Tensor:
        drawn = self._draw.choices(self._documents, k=_WRITTEN)
        encoded = [self._codec.encode(document[:1000]) for document in drawn]
        self._given = min(self._draw.randint(*_BEGINNINGS), *map(len, encoded))
        ids = torch.tensor([own[: self._given] for own in encoded], device=self._model.device)
        written: Tensor = self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=self._max_tokens,
            eos_token_id=self.end,
            pad_token_id=self.end,
        )
        return written
