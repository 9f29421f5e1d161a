"""What the target makes of a text: its logits and hidden states, without gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from specterm.decoding.ports import Block, Runner
from specterm.decoding.tree import Topology


@dataclass(frozen=True, slots=True)
class Features:
    """Of a batch of token blocks `ids`, int64 [B, T]: the target's logits after every token, [B, T, V], and its hidden
    states at the taps that were asked for, [B, T, F]."""

    ids: Tensor
    logits: Tensor
    states: Tensor


def target_features(target: Runner, ids: Tensor, taps: Sequence[int]) -> Features:
    """One forward pass of the target over `ids`, int64 [B, T]."""
    rows, length = ids.shape
    target.allocate(rows, length)
    ids = ids.to(target.device)
    block = Block(tuple(range(rows)), (0,) * rows, ids, Topology.of_chain(length - 1, target.device))
    logits, states = target.forward_tapped(block, taps)
    return Features(ids, logits.clone(), states.clone())  # outside inference mode, so that gradients may begin here
