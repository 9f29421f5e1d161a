"""Where two texts, or two lists of tokens, part."""

from __future__ import annotations

from collections.abc import Sequence

DIFFERENCE = "▶"
"""The mark in front of the first thing that differs."""


def first_difference(left: Sequence[object], right: Sequence[object]) -> int | None:
    """The first place at which the two differ; None where they are the same."""
    for index, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return index
    return None if len(left) == len(right) else min(len(left), len(right))
