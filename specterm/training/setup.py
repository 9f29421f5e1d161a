"""What a recipe is made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from specterm.decoding.ports import Runner
from specterm.models.tokenizer import TextCodec


@dataclass(frozen=True, slots=True)
class RecipeSetup:
    """For which target heads are made, what it is called, and what was asked for.

    heads: how many, where the kind has several; vocabulary: int64 [W], the target's tokens that they predict, ascending
    (None: all); intermediate: the width of their feed-forward part, where they have one; inner_dim: the width of a
    speculator's states (None: the target's); published: what the heads' config calls the target (None: its name).
    """

    target: Runner
    name: str
    heads: int = 1
    vocabulary: Tensor | None = None
    intermediate: int | None = None
    inner_dim: int | None = None
    published: str | None = None

    @property
    def published_name(self) -> str:
        """What the heads' config calls the target."""
        return self.published or self.name


def frequent_tokens(documents: Iterable[str], codec: TextCodec, eos: int | None, size: int) -> Tensor:
    """The `size` tokens that `documents` have most often, and `eos` in any case: int64 [W], ascending.

    W is less than `size` where the text has fewer tokens.
    """
    counts: Counter[int] = Counter()
    for document in documents:
        counts.update(codec.encode(document))
    kept = [token for token, _ in counts.most_common() if token != eos]
    always = [] if eos is None else [eos]
    return torch.tensor(sorted([*always, *kept[: size - len(always)]]))
