"""The first layers of a model as a model of their own, on the whole model's cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from torch import Tensor

from specterm.decoding.ports import Block, LanguageModel

Forward: TypeAlias = Callable[[Block, Sequence[int] | None], Tensor]
"""See `LanguageModel.forward`."""


class EarlyExit:
    """See `Runner.early_exit`."""

    def __init__(self, whole: LanguageModel, forward: Forward) -> None:
        """`forward` leaves `whole` early."""
        self.vocab_size = whole.vocab_size
        self.max_positions = whole.max_positions
        self.device = whole.device
        self._forward = forward

    def forward(self, block: Block, last: Sequence[int] | None = None) -> Tensor:
        """See `LanguageModel`."""
        return self._forward(block, last)
