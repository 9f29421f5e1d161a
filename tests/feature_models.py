"""EAGLE models for tests of the drafter: a plain one that computes everything from scratch, and one that is right now
and then."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from specterm.decoding.ports import FINAL_NORM, Block, Runner


@dataclass(frozen=True)
class Pair:
    """What one slot was written with."""

    token: int
    feature: Tensor
    position: int


class PlainEagle:
    """A small EAGLE model with random weights. It keeps no keys and values but the pairs themselves, and computes every
    output anew from those that the block says are seen."""

    dtype = torch.float64
    device = torch.device("cpu")

    def __init__(self, vocab: int, target_size: int, *, token_ids: Tensor | None = None, max_positions=200, seed=0):
        random = torch.Generator().manual_seed(seed)
        size = 12

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=random, dtype=self.dtype) / shape[-1] ** 0.5

        self.taps, self.hidden_size, self.max_positions, self.token_ids = (0, 2), size, max_positions, token_ids
        self._reads, self._embedding, self._mix = (
            normal(size, 2 * target_size),
            normal(vocab, size) * 4,
            normal(size, 36),
        )
        self._query, self._key, self._out = normal(size, size), normal(size, size), normal(size, size)
        self._head = normal(vocab if token_ids is None else len(token_ids), size) * 9
        self._places = normal(max_positions, size) * 2
        self._kept: tuple[Hashable, ...] = ()
        self.pairs: dict[tuple[int, int], Pair] = {}  # by row and slot

    def allocate(self, rows: int, capacity: int) -> None:
        self.capacity = capacity

    def kept(self) -> Sequence[Hashable]:
        return self._kept

    def keep(self, contents: Sequence[Hashable]) -> None:
        self._kept = tuple(contents)

    def fuse(self, taps: Tensor) -> Tensor:
        return taps @ self._reads.T

    def forward(self, block: Block, features: Tensor, last: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        assert block.end <= self.capacity
        logits, following = [], []
        shape = block.topology
        for place, (row, start) in enumerate(zip(block.rows, block.starts)):
            own = place if shape.depth.shape[0] > 1 else 0
            for i in range(block.width):
                node = block.first + i
                position = min(start + int(shape.depth[own, node]), self.max_positions - 1)
                self._kept = self._kept[: start + node] if row == 0 else self._kept
                self.pairs[row, start + node] = Pair(int(block.ids[place, i]), features[place, i].clone(), position)
                nodes = (
                    range(node + 1) if shape.visible is None else shape.visible[own, node].nonzero().flatten().tolist()
                )
                seen = [*range(start), *(start + n for n in nodes)]
                said, feature = self.after([self.pairs[row, slot] for slot in seen])
                logits.append(said)
                following.append(feature)
        shaped = (len(block.rows), block.width, -1)
        all_logits = torch.stack(logits).view(shaped)
        if last is not None:
            all_logits = all_logits[torch.arange(len(last)), list(last)].unsqueeze(1)
        return all_logits, torch.stack(following).view(shaped)

    def after(self, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
        """Logits [W] and feature [H] after the last of `pairs`."""
        embedded = self._embedding[torch.tensor([pair.token for pair in pairs])]
        places = self._places[torch.tensor([pair.position for pair in pairs])]
        features = torch.stack([pair.feature for pair in pairs])
        x = torch.tanh(torch.cat([embedded, features, places], dim=1) @ self._mix.T)
        weights = torch.softmax((x @ self._key.T) @ (self._query @ x[-1]), dim=0)
        feature = x[-1] + torch.tanh(self._out @ (weights @ x))
        return self._head @ feature, feature


class InformedEagle:
    """A draft model in the shape of an EAGLE model: its logits lean on the feature a little, its features are its own
    last hidden states."""

    def __init__(self, runner: Runner, *, token_ids: Tensor | None = None, max_positions: int | None = None):
        self.taps, self.hidden_size, self.token_ids = (FINAL_NORM,), runner.hidden_size, token_ids
        self.dtype, self.device = runner.dtype, runner.device
        self.max_positions = max_positions or runner.max_positions
        self.runner = runner
        random = torch.Generator().manual_seed(1)
        self._leaning = torch.randn((runner.hidden_size, runner.vocab_size), generator=random, dtype=self.dtype) * 0.01

    def allocate(self, rows: int, capacity: int) -> None:
        self.runner.allocate(rows, capacity)

    def kept(self) -> Sequence[Hashable]:
        return self.runner.kept()

    def keep(self, contents: Sequence[Hashable]) -> None:
        self.runner.keep(contents)

    def fuse(self, taps: Tensor) -> Tensor:
        return taps

    def forward(self, block: Block, features: Tensor, last: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        logits, following = self.runner.forward_tapped(block, (FINAL_NORM,))
        logits = logits + features @ self._leaning
        if self.token_ids is not None:
            logits = logits[..., self.token_ids]
        if last is not None:
            logits = logits[torch.arange(len(last)), list(last)].unsqueeze(1)
        return logits, following
