"""The law that a draft model draws from, over the target's vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor

from specterm.decoding.sampling import Warps, probabilities

_TAIL = 2.0**-20


def over_vocabulary(logits: Tensor, size: int) -> Tensor:
    """Logits [..., V] over the target's vocabulary, where embeddings are padded to different sizes."""
    missing = size - logits.shape[-1]
    if missing == 0:
        return logits
    if missing > 0:
        return torch.nn.functional.pad(logits, (0, missing), value=float("-inf"))
    return logits[..., :size]


def inexhaustible_law(logits: Tensor, warps: Warps) -> Tensor:
    """The warped law [..., V] with a millionth of the untruncated one added, not normalised.

    Draws without replacement soon take all that top-k, top-p or min-p leave, often a single token; what they cut off
    is drawn from then on, and hardly ever before. It is the law that really draws, so it is the law to judge by.
    """
    law = probabilities(logits, warps)
    return law + _TAIL * probabilities(logits, Warps(warps.temperature))
