"""The recipe of a target: the next token, the next token from an early layer too, and not to repeat itself.

Instead of the text a target can learn what a teacher says of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from specterm.models.devices import choose_dtype
from specterm.training.learner import model_optimizers
from specterm.training.own_answers import OwnAnswers
from specterm.training.shape import save_model
from specterm.training.teaching import Taught, Teacher
from specterm.training.unlikelihood import repeats, unlikelihood

_EARLY_EVERY = 4  # of the positions, one in so many also learns from the early layer, which saves most of its cost


class LanguageModelLearner:
    """See `Learner`. Its early layer goes through the final norm and the head, as early-exit decoding reads it."""

    def __init__(
        self,
        model: Any,
        tokenizer: Path,
        *,
        early_layer: int,
        early_weight: float,
        device: torch.device,
        own: OwnAnswers | None = None,
        own_weight: float = 0.0,
        teacher: Teacher | None = None,
        yielding: Iterator[Tensor] | None = None,
        choice_weight: float = 0.0,
    ) -> None:
        """model: a `LlamaForCausalLM` in float32; tokenizer: the folder whose tokenizer is written with it;
        early_layer: after how many layers; early_weight: the weight of that loss, from 0 to 1; own: answers of the
        model, whose repeats it unlearns; own_weight: the weight of that loss beside the other two; teacher: what it
        says is learned, not the text; yielding: blocks, int64 [B, T], of each of which what it chooses is learned too;
        choice_weight: the weight of that."""
        self.module: nn.Module = model.to(device).train()
        self._model, self._tokenizer, self._device = model, tokenizer, device
        self._early_layer, self._early_weight = early_layer, early_weight
        self._own, self._own_weight, self._teacher = own, own_weight, teacher
        self._yielding, self._choice_weight = yielding, choice_weight
        # Mixed precision where the device multiplies bfloat16 itself; a CPU that emulates it takes 15 times as long.
        self._mixed = choose_dtype("auto", device, torch.bfloat16) == torch.bfloat16

    def loss(self, ids: Tensor) -> Tensor:
        """What is learned of the next token, a weighted mean of the last layer's and the early layer's; and
        unlikelihood of the model's own repeats."""
        said = None if self._teacher is None else self._teacher.say(ids[:, :-1])
        further = self._further()
        ids = ids.to(self._device)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._mixed):
            found = self._model(ids[:, :-1], output_hidden_states=True, use_cache=False)
            states = found.hidden_states[self._early_layer][:, ::_EARLY_EVERY]
            early = self._model.lm_head(self._model.model.norm(states))
            if said is None:
                learned = _entropy(found.logits, ids[:, 1:]), _entropy(early, ids[:, 1::_EARLY_EVERY])
            else:
                learned = said.divergence(found.logits.float()), said.every(_EARLY_EVERY).divergence(early.float())
            loss = learned[0].lerp(learned[1], self._early_weight)
            if further is not None:
                loss = loss + self._yielded(*further)
            return loss if self._own is None else loss + self._own_weight * self._repeating(self._own)

    def _further(self) -> tuple[Tensor, Taught] | None:
        """A block whose choices are learned, and what is said of it."""
        if self._yielding is None or self._teacher is None:
            return None
        ids = next(self._yielding)
        return ids, self._teacher.say(ids)

    def _yielded(self, ids: Tensor, said: Taught) -> Tensor:
        logits = self._model(ids.to(self._device), use_cache=False).logits.float()
        return said.divergence(logits) + self._choice_weight * said.shortfall(logits)

    def _repeating(self, own: OwnAnswers) -> Tensor:
        ids, given = own.some()
        answers = ids[:, given:]
        logits = self._model(ids[:, :-1], use_cache=False).logits[:, given - 1 :]
        return unlikelihood(logits, answers, repeats(answers, own.end))

    def optimizers(self, learning_rate: float) -> list[Optimizer]:
        """Muon at `learning_rate`, AdamW at a share of it."""
        return model_optimizers(self.module, learning_rate)

    def save(self, folder: Path) -> None:
        """Write a plain Hugging Face folder, in bfloat16."""
        save_model(self._model, self._tokenizer, folder)


def _entropy(logits: Tensor, ids: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1).float(), ids.flatten())
