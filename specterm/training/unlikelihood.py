"""Unlikelihood of repeats (Welleck et al. 2019, "Neural Text Generation with Unlikelihood Training"): a model that is
trained on likelihood alone repeats itself when it decodes greedily; of its own answers, it unlearns the repeats.

This is the paper's loss on sequences, but for one thing: of an n-gram that comes again, the last token alone is
unlearned, not all of them. The words that such an n-gram begins with may well come twice.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SIZE = 4  # of the n-grams, as repetition is measured


def repeats(ids: Tensor, end: int | None) -> Tensor:
    """Which tokens of answers, int64 [B, T], complete an n-gram that stands earlier in the same answer: bool [B, T].

    An answer is over with its first token `end`, which completes nothing.
    """
    found = torch.zeros_like(ids, dtype=torch.bool)
    for number, row in enumerate(ids.tolist()):
        length = row.index(end) if end in row else len(row)
        seen = set[tuple[int, ...]]()
        for at in range(_SIZE - 1, length):
            gram = tuple(row[at + 1 - _SIZE : at + 1])
            found[number, at] = gram in seen
            seen.add(gram)
    return found


def unlikelihood(logits: Tensor, ids: Tensor, unwanted: Tensor) -> Tensor:
    """-log(1 - p(token)) of every unwanted token, summed, over the number of all tokens: a scalar, in nats a token.

    logits: [B, T, V], by which each token was chosen; ids: the tokens, int64 [B, T]; unwanted: bool [B, T].
    """
    said, tokens = logits[unwanted].float(), ids[unwanted].unsqueeze(1)
    others = said.scatter(1, tokens, -torch.inf)  # 1 - p is their share: exact where p has been rounded to 1
    return (said.logsumexp(dim=1) - others.logsumexp(dim=1)).sum() / ids.numel()
