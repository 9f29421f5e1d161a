"""Chains and beams of a model whose passes are compiled."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from specterm.decoding.ports import Beam, Gate, LanguageModel
from specterm.decoding.sampling import Warps
from specterm.models.cache import SlotCache
from specterm.models.runners.compiled_passes import CompiledPasses
from specterm.models.runners.early_exit import EarlyExit, Forward

Compiled: TypeAlias = Callable[[int, int, int], tuple[CompiledPasses, SlotCache, int] | None]
"""See `InOneCall.compiled`."""


class InOneCall:
    """What a model offers as `Chains` and `Beams`."""

    vocab_size: int

    @abstractmethod
    def compiled(self, row: int, begin: int, end: int) -> tuple[CompiledPasses, SlotCache, int] | None:
        """What computes, the cache, which learns that slots `begin` to `end` of `row` are about to be written, and how
        many layers take part; None where that is not possible now."""

    @torch.inference_mode()
    def greedy_chain(
        self, row: int, start: int, tokens: Sequence[int], most: int, least: float, vocab_size: int
    ) -> tuple[list[int], list[float], Tensor] | None:
        """See `Chains`."""
        if (found := self.compiled(row, start, start + len(tokens) + most - 1)) is None:
            return None
        passes, cache, layers = found
        choice = min(vocab_size, self.vocab_size)
        return passes.greedy_chain(cache, layers, row, start, tokens, most, least, choice)

    @torch.inference_mode()
    def sampled_chain(
        self, row: int, start: int, tokens: Sequence[int], most: int, vocab_size: int, warps: Warps, key: int,
        index: int,
    ) -> tuple[list[int], Tensor] | None:  # fmt: skip
        """See `Chains`."""
        if warps.filter_value is not None:
            return None
        if (found := self.compiled(row, start, start + len(tokens) + most - 1)) is None:
            return None
        passes, cache, layers = found
        choice = min(vocab_size, self.vocab_size)
        return passes.sampled_chain(cache, layers, row, start, tokens, most, choice, warps, key, index, vocab_size)

    @torch.inference_mode()
    def beam(
        self, row: int, start: int, tokens: Sequence[int], ranks: int, depth: int, found: int, vocab_size: int,
        gate: Gate | None,
    ) -> Beam | None:  # fmt: skip
        """See `Beams`."""
        compiled = self.compiled(row, start, start + len(tokens) + ranks * (depth - 1))
        if compiled is None:
            return None
        passes, cache, layers = compiled
        choice = min(vocab_size, self.vocab_size)
        return passes.beam(cache, layers, row, start, tokens, ranks, depth, found, choice, gate)


class LlamaExit(EarlyExit, InOneCall):
    """The first layers of a Llama model."""

    def __init__(self, whole: LanguageModel, forward: Forward, layers: int, compiled: Compiled) -> None:
        """`forward` leaves `whole` behind so many layers; compiled: the whole model's."""
        super().__init__(whole, forward)
        self._layers, self._compiled = layers, compiled

    def compiled(self, row: int, begin: int, end: int) -> tuple[CompiledPasses, SlotCache, int] | None:
        """See `InOneCall`."""
        found = self._compiled(row, begin, end)
        return None if found is None else (*found[:2], self._layers)
