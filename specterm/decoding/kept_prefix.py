"""The beginning of a prompt that was seen before: a turn of a conversation repeats all turns before it.

What is kept are the keys and values that the last row left in row 0 of a cache, the target's or a drafter's own. They
were computed in other widths than a prefill's, so in low precision a reused prefix may differ from a computed one as
any two forwards of different width do. Each cache knows what its slots hold and takes off what is written to: a
calibration, another method or batch, or teacher forcing in between cannot go unnoticed. Nothing is held beyond the
caches themselves, which are no larger than the longest row of a run needed.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def shared(kept: Sequence[Hashable], wanted: Sequence[Hashable]) -> int:
    """How many entries the beginnings of the two have in common."""
    both = zip(kept, wanted, strict=False)
    return next((i for i, (a, b) in enumerate(both) if a != b), min(len(kept), len(wanted)))
