"""A method's output and speed against naive's on the same prompt and repeat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import zip_longest
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import msgspec

from specterm.catalogue import METHODS, lossless
from specterm.config import MethodSpec, RunSpec, SamplingSpec, to_data
from specterm.errors import SpectermError
from specterm.metrics import RowResult, against_naive

Match: TypeAlias = Literal["identical", "near_tie", "different"]

_NEAR_TIE_GAPS = {"float64": 1e-6, "float32": 1e-3}
_HALF_GAP = 0.25


def near_tie_gap(dtype: str | None) -> float:
    """How far below the target's highest a token's logit may be and still count as a tie, where the target computes in
    `dtype` (None: unknown).

    A forward of one token and one of several round differently: in half precision by a step or two of a logit (1/8
    between 16 and 32 in bfloat16), in single and double precision by their last digits, summed over the layers.
    """
    return _NEAR_TIE_GAPS.get(dtype or "", _HALF_GAP)


EXACT_DTYPES = ("float32", "float64")
"""Those in which forwards of different widths agree well enough for the same random numbers to draw the same."""


@runtime_checkable
class TeacherForces(Protocol):
    """An engine that can feed a finished text to the target and say how likely each token was there."""

    def shortfalls(self, ids: Sequence[int], start: int, sampling: SamplingSpec) -> list[float]:
        """How far the logit of each of ids[start:] is below the target's highest there; 0 where it is the highest.
        Bias and penalties of `sampling` are applied; ids[:start] is the prompt.

        Raises:
            SpectermError: it could not be computed.
        """


def compare_outputs(
    reference: Sequence[int],
    candidate: Sequence[int],
    shortfalls: Callable[[], Sequence[float]] | None = None,
    dtype: str | None = None,
) -> Match:
    """How `candidate` compares with naive's `reference`.

    `shortfalls()` teacher-forces the candidate and gives one value for each of its tokens (see `TeacherForces`); it is
    asked only where the two differ. They are a near tie if no token from the first difference on falls short by more
    than `near_tie_gap(dtype)`. Without it a difference is "different", and so is an output that is only shorter or
    longer.
    """
    pairs = zip_longest(reference, candidate)
    first = next((position for position, (a, b) in enumerate(pairs) if a != b), None)
    if first is None:
        return "identical"
    if shortfalls is None or first >= min(len(reference), len(candidate)):
        return "different"
    return "near_tie" if max(shortfalls()[first:]) <= near_tie_gap(dtype) else "different"


def output_must_match(spec: RunSpec, dtype: str | None) -> bool:
    """Whether a method's output must be naive's, token for token, when the target computes in `dtype` (None: unknown).

    It must under a lossless rule with greedy decoding. When tokens are sampled it must where the prefix fixes the draft
    tokens (every drafter but one that draws them, as a draft model does at a temperature above 0) and the target
    computes in single or double precision: in half precision rounding moves a draw now and then, and no gap tells that
    from a fault.
    """
    if not METHODS[spec.method.name].speculative or not lossless(to_data(spec)):
        return False
    return spec.sampling.greedy or (drafts_are_fixed(spec.method) and dtype in EXACT_DTYPES)


def drafts_are_fixed(method: MethodSpec) -> bool:
    """Whether the text so far fixes what a method drafts, whatever the temperature; `method` is a checked one."""
    told = method.parameters  # who has no such options samples no drafts
    beams = told.get("tree_width", 1) > 1  # of the likeliest tokens, whatever a chain would do, unless told otherwise
    greedy_drafts = beams or told.get("draft_temperature", 0) == 0
    return METHODS[method.name].fixed and greedy_drafts and told.get("tree_children") != "sampled"


def compare(
    spec: RunSpec,
    result: RowResult,
    naive: RowResult,
    prompt_ids: tuple[int, ...],
    engine: object,
    dtype: str | None,
) -> RowResult:
    """`result` with `speedup`, `overhead` and `matches_naive` against naive's result of the same prompt and repeat.

    Where greedy outputs differ, an `engine` that can is asked to teacher-force the result's.
    """
    match: Match | None = None
    if output_must_match(spec, dtype):
        can_tell = spec.sampling.greedy and isinstance(engine, TeacherForces)
        shortfalls = partial(_shortfalls, engine, prompt_ids, result.token_ids, spec.sampling) if can_tell else None
        match = compare_outputs(naive.token_ids, result.token_ids, shortfalls, dtype)
    metrics = against_naive(result.metrics, naive.metrics)
    return msgspec.structs.replace(result, matches_naive=match, metrics=metrics)


def _shortfalls(
    engine: object, prompt_ids: tuple[int, ...], token_ids: tuple[int, ...], sampling: SamplingSpec
) -> list[float]:
    assert isinstance(engine, TeacherForces)
    try:
        return engine.shortfalls((*prompt_ids, *token_ids), len(prompt_ids), sampling)
    except SpectermError:
        return [float("inf")] * len(token_ids)  # a tie that cannot be shown is a difference
