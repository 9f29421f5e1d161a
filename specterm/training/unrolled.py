"""Heads unrolled on their own features, as they will draft: training-time test (EAGLE-3, Li et al. 2025, section 3.1).

Step 0 reads the target's features, step s those that step s - 1 gave, with the tokens and positions moved on by s. An
anchor is the pair at which such a chain begins: its step s attends to the true pairs up to the anchor and to its own
steps 1 to s, which is what a drafted chain of s tokens behind the anchor has in its cache.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from specterm.models.heads.feature_heads import FeatureHeads
from specterm.training.features import Features


def unrolled(heads: FeatureHeads, features: Features, steps: int) -> Iterator[tuple[Tensor, Tensor, slice]]:
    """Logits, [B, A, W], and next features, [B, A, H], of every step at all A = T - steps anchors, and where in the
    text the token is that each was reached by: what they should be is what the target says there."""
    anchors = features.ids.shape[1] - steps
    state = heads.fuse(features.states[:, :anchors])
    positions = torch.arange(anchors, device=heads.device).unsqueeze(0)
    attend = AnchorAttention()
    for step in range(steps):
        place = slice(1 + step, 1 + step + anchors)
        state = heads.advance(features.ids[:, place], state, heads.through_layers(positions + step, attend))
        yield heads.logits(state), state, place


class AnchorAttention:
    """See `Attend`. Keeps the keys and values of every step: one call a layer and step, in order."""

    def __init__(self) -> None:
        self._kept: dict[int, list[tuple[Tensor, Tensor]]] = {}

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q: [B, A, heads, D], k and v: [B, A, kv_heads, D]; returns [B, A, heads * D]."""
        kept = self._kept.setdefault(layer, [])
        group = q.shape[2] // k.shape[2]
        k, v = (x.repeat_interleave(group, dim=2).transpose(1, 2) for x in (k, v))  # [B, heads, A, D]
        kept.append((k, v))
        q = q.transpose(1, 2)  # [B, heads, A, D]
        (keys, values), *own = kept
        if not own:
            attended = F.scaled_dot_product_attention(q, keys, values, is_causal=True)
        else:
            scale, anchors = q.shape[-1] ** -0.5, q.shape[2]
            ahead = torch.ones((anchors, anchors), dtype=torch.bool, device=q.device).triu(1)
            scores = (q @ keys.transpose(2, 3) * scale).masked_fill(ahead, -torch.inf)
            diagonal = torch.stack([(q * key).sum(dim=-1) * scale for key, _ in own], dim=-1)
            shares = torch.cat([scores, diagonal], dim=-1).softmax(dim=-1)
            attended = shares[..., :anchors] @ values
            for step, (_, value) in enumerate(own):
                attended = attended + shares[..., anchors + step, None] * value
        return attended.transpose(1, 2).flatten(2)
