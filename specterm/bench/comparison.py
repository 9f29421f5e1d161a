"""A method's output and speed against naive's on the same prompt and repeat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import msgspec

from specterm.catalogue import METHODS, RULES
from specterm.config import RunSpec
from specterm.errors import SpectermError
from specterm.metrics import RowResult, against_naive

Match: TypeAlias = Literal["identical", "near_tie", "different"]

NEAR_TIE_GAP = 0.25
"""Two logits of the target that are closer than this count as a tie: in half precision a forward of one token and one
of several round differently, by a step or two of a logit (1/8 between 16 and 32 in bfloat16)."""

_EXACT_DTYPES = ("float32", "float64")


@runtime_checkable
class KnowsGaps(Protocol):
    """An engine that can feed a text to the target and say how near a tie was."""

    def top_gap(self, ids: Sequence[int], position: int) -> float:
        """The difference of the target's two highest logits after `ids[:position]`."""


def compare_outputs(
    reference: Sequence[int], candidate: Sequence[int], gap: Callable[[int], float] | None = None
) -> Match:
    """How `candidate` compares with naive's `reference`.

    A difference is a near tie where `gap(position)`, the distance of the target's two likeliest tokens at the first
    difference, is at most `NEAR_TIE_GAP`. Behind that the two continue different texts and cannot be compared. Without
    `gap` a difference is "different", and so is an output that is only shorter or longer.
    """
    pairs = zip_longest(reference, candidate)
    first = next((position for position, (a, b) in enumerate(pairs) if a != b), None)
    if first is None:
        return "identical"
    if gap is None or first >= min(len(reference), len(candidate)):
        return "different"
    return "near_tie" if gap(first) <= NEAR_TIE_GAP else "different"


def output_must_match(spec: RunSpec, dtype: str | None) -> bool:
    """Whether a method's output must be naive's, token for token, when the target computes in `dtype` (None: unknown).

    It must under a lossless rule with greedy decoding. When tokens are sampled it must where the prefix fixes the draft
    tokens (a drafter at temperature 0) and the target computes in single or double precision: in half precision
    rounding moves a draw now and then, and no gap tells that from a fault.
    """
    if not METHODS[spec.method.name].speculative or not RULES[spec.sampling.acceptance].lossless:
        return False
    fixed = spec.method.parameters.get("draft_temperature") == 0
    return spec.sampling.greedy or (fixed and dtype in _EXACT_DTYPES)


def compare(
    spec: RunSpec,
    result: RowResult,
    naive: RowResult,
    prompt_ids: tuple[int, ...],
    engine: object,
    dtype: str | None,
) -> RowResult:
    """`result` with `speedup`, `overhead` and `matches_naive` against naive's result of the same prompt and repeat.

    An `engine` that knows gaps is asked at the first difference of greedy outputs.
    """
    match: Match | None = None
    if output_must_match(spec, dtype):
        gap = None
        if spec.sampling.greedy and isinstance(engine, KnowsGaps):
            gap = _gap(engine, prompt_ids, naive.token_ids)
        match = compare_outputs(naive.token_ids, result.token_ids, gap)
    metrics = against_naive(result.metrics, naive.metrics)
    return msgspec.structs.replace(result, matches_naive=match, metrics=metrics)


def _gap(engine: KnowsGaps, prompt_ids: tuple[int, ...], reference: tuple[int, ...]) -> Callable[[int], float]:
    def gap(position: int) -> float:
        try:
            return engine.top_gap((*prompt_ids, *reference), len(prompt_ids) + position)
        except SpectermError:
            return float("inf")  # a tie that cannot be shown is a difference

    return gap
