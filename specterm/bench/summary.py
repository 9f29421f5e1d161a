"""Results of a batch, one entry a configuration: every figure with mean, std, median and interval, and the speedup."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from specterm.bench.statistics import Interval, Statistics, describe, paired_ratio, units
from specterm.bench.trials import ended
from specterm.config import MethodSpec, PlanSpec
from specterm.metrics import METRICS, RowResult

# Lists and names have no mean; speedup has its own statistics, paired with naive.
_SUMMARISED = tuple(
    name
    for name in METRICS
    if name not in ("speedup", "energy_source", "per_position_acceptance", "per_drafter_acceptance")
)


class DomainSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One configuration on the prompts of one domain; see `Summary`. What has a default here, a document that was
    stored by an earlier version lacks."""

    runs: int
    figures: dict[str, Statistics | None]
    speedup: Interval | None
    per_position_acceptance: list[float] | None = None
    matches_naive: dict[str, int] = {}
    energy_source: list[str] = []


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """One configuration. `runs` counts the rows that came to their end; only those are in the figures.

    `speedup` is None where naive was not measured. `matches_naive` counts the outcomes of the comparison.
    `energy_source` lists the sources that the runs' energy came from.
    """

    configuration: str
    method: str
    parameters: dict[str, Any]
    acceptance: str
    lossless: bool | None
    lossless_reason: str | None
    runs: int
    figures: dict[str, Statistics | None]
    per_position_acceptance: list[float] | None
    speedup: Interval | None
    matches_naive: dict[str, int]
    energy_source: list[str]
    domains: dict[str, DomainSummary]


def summarise(plan: PlanSpec, results: Sequence[RowResult]) -> list[Summary]:
    """One entry a method of the plan, in its order."""
    finished = [result for result in results if ended(result)]
    naive = [result for result in finished if result.method == "naive"]
    return [
        _summary(method, [r for r in finished if r.configuration == method.label], naive) for method in plan.methods
    ]


def _summary(method: MethodSpec, results: Sequence[RowResult], naive: Sequence[RowResult]) -> Summary:
    domains = sorted({result.domain for result in results if result.domain is not None})
    return Summary(
        configuration=method.label,
        method=method.name,
        parameters=method.parameters,
        acceptance=results[0].acceptance if results else "",
        lossless=results[0].lossless if results else None,
        lossless_reason=results[0].lossless_reason if results else None,
        domains={d: DomainSummary(**_measured(_of(results, d), _of(naive, d))) for d in domains},
        **_measured(results, naive),
    )


def _measured(results: Sequence[RowResult], naive: Sequence[RowResult]) -> dict[str, Any]:
    """What is told of a configuration over all prompts and by domain alike."""
    return {
        "runs": len(results),
        "figures": _figures(results),
        "per_position_acceptance": _per_position(results),
        "speedup": speedup(results, naive),
        "matches_naive": dict(Counter(r.matches_naive for r in results if r.matches_naive is not None)),
        "energy_source": sorted({str(r.metrics["energy_source"]) for r in results if r.metrics["energy_source"]}),
    }


def _of(results: Iterable[RowResult], domain: str) -> list[RowResult]:
    return [result for result in results if result.domain == domain]


def _figures(results: Sequence[RowResult]) -> dict[str, Statistics | None]:
    return {name: describe(units(_by_prompt(results, name))) for name in _SUMMARISED}


def _by_prompt(results: Iterable[RowResult], name: str) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {}
    for result in results:
        value = result.metrics[name]
        if isinstance(value, (int, float)):
            values.setdefault(result.prompt_id, []).append(value)
    return values


def _per_position(results: Iterable[RowResult]) -> list[float] | None:
    """Mean over rows that drafted; a row that never drafted so deep counts as 0 there."""
    rows = [value for r in results if isinstance(value := r.metrics["per_position_acceptance"], list)]
    depth = max((len(row) for row in rows), default=0)
    return [math.fsum(row[i] or 0.0 for row in rows if i < len(row)) / len(rows) for i in range(depth)] or None


def speedup(results: Sequence[RowResult], naive: Sequence[RowResult]) -> Interval | None:
    """Throughput against naive's, paired by prompt (by repeat where there is one prompt); None without naive."""
    base = {(r.prompt_id, r.repeat): r.metrics["throughput_tok_s"] for r in naive}
    own: dict[str, list[float]] = {}
    other: dict[str, list[float]] = {}
    for result in results:
        speed, reference = result.metrics["throughput_tok_s"], base.get((result.prompt_id, result.repeat))
        if isinstance(speed, float) and isinstance(reference, float):
            own.setdefault(result.prompt_id, []).append(speed)
            other.setdefault(result.prompt_id, []).append(reference)
    return paired_ratio(list(zip(units(own), units(other), strict=True)))
