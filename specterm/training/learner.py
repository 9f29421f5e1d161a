"""What the training loop trains."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from specterm.training.muon import Muon

_ADAM_SHARE = 0.15  # AdamW's learning rate as a share of Muon's


class Learner(Protocol):
    """A module that learns from text, with its loss and its way to be written."""

    module: nn.Module

    def loss(self, ids: Tensor) -> Tensor:
        """What is minimised, of token blocks int64 [B, T]: a mean over tokens, in nats."""

    def optimizers(self, learning_rate: float) -> list[Optimizer]:
        """Who updates which parameter, at their highest learning rates."""

    def save(self, folder: Path) -> None:
        """Write the module as it is now."""


def adam(parameters: list[nn.Parameter], learning_rate: float) -> Optimizer:
    """AdamW as every learner has it: without weight decay."""
    return torch.optim.AdamW(parameters, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0)


def model_optimizers(model: nn.Module, learning_rate: float) -> list[Optimizer]:
    """Muon for the matrices of a model's layers, and for the `fc` in front of those of heads; AdamW for embeddings,
    head and norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and ("layers." in name or name == "fc")]
    kept = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in kept]
    return [Muon(matrices, learning_rate), adam(others, _ADAM_SHARE * learning_rate)]
