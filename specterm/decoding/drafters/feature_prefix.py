"""What the KV cache of an EAGLE model holds of each row: pairs of a token and the target's feature before it.

Pair i is token i + 1 with the target's feature of token i; it has slot i and position i. The feature knows its own
token, the pair adds the one that was drawn after it, so a text of n tokens and the root behind it make n pairs. All of
them have true features; pairs with the model's own features are scratch (Li et al. 2024, arXiv 2401.15077).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from specterm.decoding.drafters.prefix import CachePrefix, PrefixRow
from specterm.decoding.ports import Beam, Block, Gate
from specterm.decoding.prefill import chunks


class FeatureModel(Protocol):
    """An EAGLE model: it continues the target's features, which with the next token give the next feature.

    taps: the target's hidden states that it reads (see `Runner.forward_tapped`), F numbers together; hidden_size: H, of
    its own features; token_ids: int64 [W], the target's ids of a truncated vocabulary of W tokens, None where the
    vocabulary is the target's.
    """

    taps: tuple[int, ...]
    hidden_size: int
    token_ids: Tensor | None
    max_positions: int

    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def device(self) -> torch.device: ...

    def allocate(self, rows: int, capacity: int) -> None:
        """Make room for `rows` sequences of `capacity` pairs each; keeps the cache when it is already large enough, and
        what is in it as far as it fits."""

    def kept(self) -> Sequence[Hashable]:
        """See `Runner`; so for `keep`."""

    def keep(self, contents: Sequence[Hashable]) -> None: ...

    def fuse(self, taps: Tensor) -> Tensor:
        """Features [..., H] of the target's hidden states [..., F]."""

    def forward(self, block: Block, features: Tensor, last: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        """From tokens `block.ids` [B, T], the target's ids, and the features before them [B, T, H]: the logits of the
        tokens that follow, [B, T, W], or [B, 1, W] of token last[b] of each row; and the next features, [B, T, H]."""


@runtime_checkable
class FeatureBeams(Protocol):
    """What an EAGLE model may offer besides: see `Beams`."""

    def beam(
        self, row: int, start: int, tokens: Sequence[int], features: Tensor, ranks: int, depth: int, found: int,
        gate: Gate | None,
    ) -> Beam | None:  # fmt: skip
        """features: those before `tokens`, [T, H]. The tokens that are found are the target's ids."""


class FeaturePrefix(CachePrefix):
    """The prefix of an EAGLE model. Rows whose prompt is longer than its context are not drafted for."""

    def __init__(self, model: FeatureModel, widest: int) -> None:
        super().__init__(model, widest)
        self._pairs = model
        self._taps: dict[int, list[Tensor]] = {}  # row -> parts of [pending, F], the target's states

    def admit(self, row: int, prompt_ids: Tensor, first: int, taps: Tensor) -> None:
        """Prefill the pairs of the prompt, int64 [L], with the target's states `taps`, [n, F], of its last n tokens: of
        all whose pairs were not recalled. The last pair, of the first root, is pending."""
        length, there = len(prompt_ids), self._recalled.pop(row, 0)
        self._taps.pop(row, None)
        if length > self._pairs.max_positions:
            self._rows[row] = PrefixRow(length, [], [])
            return
        self._rows[row] = PrefixRow(there, [], prompt_ids[: there + 1].tolist())
        self.learn(row, [*prompt_ids[there + 1 :].tolist(), first], taps[len(taps) - (length - there) :])
        self._prefill(row, length - 1 - there)

    def contents(self, text: Sequence[int]) -> Sequence[Hashable]:
        """Both tokens of each pair: its feature belongs to the first."""
        return tuple(pairwise(text))

    def advance(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Forward what is pending; returns the logits after the root, [B, W], and the feature of the root, [B, H]."""
        for row in rows:
            self._prefill(row, len(self._rows[row].pending) - self._widest)  # after a pause: more than a round's worth
        pending = [self._pending_taps(row) for row in rows]
        taps = pending[0].unsqueeze(0) if len(rows) == 1 else pad_sequence(pending, batch_first=True)
        features = self._pairs.fuse(taps.to(self._pairs.device, self._pairs.dtype))
        block, last = self._pending_block(rows, self._pairs.device)
        logits, following = self._pairs.forward(block, features, last)
        if len(rows) == 1:
            return logits[:, 0], following[:, last[0]]
        return logits[:, 0], following[torch.arange(len(rows)), last]

    def beam(self, row: int, ranks: int, depth: int, found: int, gate: Gate | None) -> Beam | None:
        """See `Beams`, from what is pending on; None also where the model has none."""
        pairs, state = self._pairs, self._rows[row]
        if not isinstance(pairs, FeatureBeams) or pairs.device.type != "cpu":
            return None
        self._prefill(row, len(state.pending) - self._widest)
        taps = self._pending_taps(row)
        features = pairs.fuse(taps.to(pairs.dtype))
        beam = pairs.beam(row, state.length, state.pending, features, ranks, depth, found, gate)
        if beam is None:
            self._taps[row] = [taps]
            return None
        state.length += len(state.pending)
        state.pending.clear()
        return beam

    def learn(self, row: int, tokens: Sequence[int], taps: Tensor) -> None:
        """The text went on by `tokens`; the target's states before them are `taps`, [len(tokens), F]."""
        if not self.room(row):  # and never again
            return
        self._taps.setdefault(row, []).append(taps.clone())  # of a graph's output there is one only
        self._rows[row].pending.extend(tokens)
        self._rows[row].text.extend(tokens)

    def release(self, row: int) -> None:
        """Forget the row."""
        super().release(row)
        self._taps.pop(row, None)

    def _prefill(self, row: int, count: int) -> None:
        """Forward the first `count` pending pairs of `row`, if it is any."""
        if count <= 0:
            return
        state, taps = self._rows[row], self._pending_taps(row)
        features = self._pairs.fuse(taps[:count].to(self._pairs.device, self._pairs.dtype))
        for block in chunks(row, torch.tensor(state.pending[:count]), state.length, self._pairs.device):
            begin = block.starts[0] - state.length
            self._pairs.forward(block, features[begin : begin + block.width].unsqueeze(0), [block.width - 1])
        state.length += count
        del state.pending[:count]
        if count < len(taps):
            self._taps[row] = [taps[count:]]

    def _pending_taps(self, row: int) -> Tensor:
        """The target's states before the pending tokens, [pending, F]; they are kept no longer."""
        parts = self._taps.pop(row)
        return parts[0] if len(parts) == 1 else torch.cat(parts)
