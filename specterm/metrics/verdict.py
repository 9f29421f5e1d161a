"""Whether speculation is worth it in a run, from its own figures: what to say when it loses or does not happen.

Speedup is close to acceptance length / overhead, so the *break-even* acceptance length is the overhead: the mean time
of a round over that of a naive step. Where naive was not measured in the same run, its step is estimated: the run's own
seconds of verifying a round, by how much cheaper calibration found a forward of one token than one of a whole draft
(so a busy machine or a painting screen counts on both sides), and the bookkeeping of a round, which naive has too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from specterm.catalogue import METHODS
from specterm.catalogue.plugins import PLUGINS
from specterm.config import MethodSpec
from specterm.events import Calibration
from specterm.metrics.counting import Figure

LEAST_ROUNDS = 8
"""With fewer rounds nothing is said."""

_MARGIN = 0.97  # a speedup above this may be noise
_INACTIVE_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Verdict:
    """`short` is for one line of figures, `text` the whole of what is wrong, `advice` what to try."""

    short: str
    text: str
    advice: str


def verdict(
    figures: Mapping[str, Figure], drafted_rounds: int, method: MethodSpec, calibration: Calibration | None
) -> Verdict | None:
    """What is wrong with speculation in the rounds of one row; None where nothing is, or it cannot be known yet.

    `drafted_rounds` of its rounds had a draft. `figures` are those of `METRICS`; a measured
    `overhead` beats calibration.
    """
    entry = METHODS[method.name]
    rounds = _number(figures, "rounds")
    if not entry.speculative or rounds is None or rounds < LEAST_ROUNDS:
        return None
    without = 1 - drafted_rounds / rounds
    if without >= _INACTIVE_SHARE:
        return _inactive(without, int(rounds), method)
    length = _number(figures, "mean_acceptance_length")
    costs = _costs(figures, rounds, calibration)
    if length is None or costs is None:
        return None
    overhead = costs.round_s / costs.naive_s
    speedup = length / overhead
    if speedup >= _MARGIN:
        return None
    if (whole := _number(figures, "speedup")) is not None:
        speedup = whole  # also counts the prefill and the time between rounds, and stands beside this in every table
        if speedup >= _MARGIN:
            return None
    about = "" if costs.measured else "about "
    return Verdict(
        f"losing: {about}{speedup:.2f}x",
        f"speculation is losing: {about}{speedup:.2f}x naive; drafting takes {costs.draft_s / costs.round_s:.0%} of a "
        f"round, acceptance length {length:.2f} against break-even {overhead:.2f}",
        f"try {_advice(figures, method, calibration, costs, drafted_rounds / rounds)}",
    )


@dataclass(frozen=True, slots=True)
class _Costs:
    """Mean seconds of a round, of its drafting, of its judging and bookkeeping, and of a naive step (measured or
    calibrated)."""

    round_s: float
    draft_s: float
    other_s: float
    naive_s: float
    scale: float  # of this run's forwards, against the calibrated ones
    measured: bool


def _costs(figures: Mapping[str, Figure], rounds: float, calibration: Calibration | None) -> _Costs | None:
    parts = [_number(figures, f"{name}_time_s") for name in ("draft", "verify", "other")]
    if any(part is None for part in parts):
        return None
    sampling = _number(figures, "sampling_time_s")  # None where it is part of verifying
    draft_s, verify_s, other_s = (float(part or 0.0) / rounds for part in parts)
    other_s += (sampling or 0.0) / rounds
    round_s = draft_s + verify_s + other_s
    scale = 1.0
    if calibration is not None:
        scale = verify_s / calibration.forward_s(1 + round((_number(figures, "drafted") or 0.0) / rounds))
    overhead = _number(figures, "overhead")
    if overhead is not None and overhead > 0:
        return _Costs(round_s, draft_s, other_s, round_s / overhead, scale, measured=True)
    if calibration is None or round_s <= 0:
        return None
    naive_s = scale * calibration.forward_s(1) + other_s
    return _Costs(round_s, draft_s, other_s, naive_s, scale, measured=False)


def _inactive(share: float, rounds: int, method: MethodSpec) -> Verdict:
    if method.parameters.get("adaptive"):
        advice = "--adaptive leaves drafts out while they do not pay; try a closer or cheaper draft, or naive"
    elif method.name in PLUGINS:
        advice = "the plug-in proposed nothing in them; try another method, or naive"
    elif _has(method, "draft_memory"):
        advice = "nothing in the text repeats enough to be looked up; try a draft model, or naive"
    else:
        advice = "the draft found no room: give a larger --max-model-len or more --max-tokens"
    return Verdict(
        f"no draft in {share:.0%} of rounds",
        f"speculation is not active: {share:.0%} of {rounds} rounds had no draft and ran as naive does",
        advice,
    )


def _has(method: MethodSpec, parameter: str) -> bool:
    return any(own.name == parameter for own in METHODS[method.name].parameters)


def _advice(
    figures: Mapping[str, Figure], method: MethodSpec, calibration: Calibration | None, costs: _Costs, drafted: float
) -> str:
    """What may win: fewer draft tokens where the costs say so, what adapts by itself where there is such, naive."""
    tried = []
    gamma = _better_gamma(figures, calibration, costs, drafted) if _has(method, "num_draft_tokens") else None
    if gamma is not None:
        tried.append(f"gamma {gamma}")
    if _has(method, "adaptive") and not method.parameters.get("adaptive"):
        tried.append("--adaptive")
    if _has(method, "tree_nodes") and method.parameters.get("tree_width") != 1:  # a chain has no nodes to choose from
        tried.append("fewer --tree-nodes")
    return ", or ".join([*tried, "naive"])


def _better_gamma(
    figures: Mapping[str, Figure], calibration: Calibration | None, costs: _Costs, drafted: float
) -> int | None:
    """The smaller number of draft tokens that promises the highest speedup; None where none promises any.

    The acceptance at each position stays as it was, and drafting costs in proportion to its depth.
    """
    accepted = figures.get("per_position_acceptance")
    if calibration is None or not isinstance(accepted, list):
        return None
    best, best_speedup = None, 1.0
    for gamma in range(1, len(accepted)):
        judged_s = costs.scale * calibration.forward_s(gamma + 1)
        round_s = costs.draft_s * gamma / len(accepted) + judged_s + costs.other_s
        length = 1 + drafted * sum(rate or 0.0 for rate in accepted[:gamma])
        if (speedup := length * costs.naive_s / round_s) > best_speedup:
            best, best_speedup = gamma, speedup
    return best


def _number(figures: Mapping[str, Figure], name: str) -> float | None:
    value = figures.get(name)
    return value if isinstance(value, (int, float)) else None
