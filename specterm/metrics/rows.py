"""The result of each row of a run, with its energy."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from math import fsum
from typing import Any

import msgspec

from specterm.catalogue import lossless, lossless_reason
from specterm.config import MethodSpec
from specterm.events import (
    EmittedToken,
    Event,
    FinishReason,
    Prefilled,
    Round,
    RowFinished,
    RowStarted,
    RunFinished,
    RunStarted,
    Sample,
)
from specterm.metrics.counting import ROUND_TIMES, Figure, RowCounter, ratio
from specterm.telemetry.energy import energy_window


class RowResult(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt decoded once: what the JSON of a run holds. `metrics` has exactly the keys of `METRICS`.

    `configuration` tells two settings of one method apart. `lossless_reason` says why the rule is lossless, or why not.
    `matches_naive` is "identical", "near_tie", "different", or None where naive was not run or the output need not be
    the same.
    """

    method: str
    configuration: str
    acceptance: str
    lossless: bool | None
    lossless_reason: str | None
    matches_naive: str | None = None
    prompt_id: str
    domain: str | None = None
    repeat: int
    seed: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    metrics: dict[str, Figure]


class _Row:
    """What `row_results` gathers of one row."""

    def __init__(self, started: RowStarted) -> None:
        self.started = started
        self.counter = RowCounter()
        self.prefilled: Prefilled | None = None
        self.finished: RowFinished | None = None
        self.emitted: list[EmittedToken] = []

    def finish(self, event: RowFinished) -> None:
        self.finished = event
        self.counter.cut(len(self.emitted) - len(event.token_ids))

    def break_off(self, time: float, reason: FinishReason) -> None:
        """End a row that its stream left open, with what it had emitted."""
        text = "".join(token.text for token in self.emitted)
        self.finish(RowFinished(time, self.started.row, reason, text, tuple(token.id for token in self.emitted)))


def row_results(events: Iterable[Event]) -> list[RowResult]:
    """The result of each row of one run, in the order in which the rows started.

    A row that the stream leaves open has the finish reason "cancelled" or "error" and what it had emitted. `speedup`,
    `overhead` and `matches_naive` are None: they come from `against_naive` and from the comparison of outputs.
    """
    rows: dict[int, _Row] = {}
    spec: dict[str, Any] = {}
    samples: list[Sample] = []
    emissions = _Emissions()
    time, reason = 0.0, "failed"
    for event in events:
        match event:
            case RunStarted():
                spec = event.spec
                continue
            case RowStarted():
                rows[event.row] = _Row(event)
            case Prefilled():
                row = rows[event.row]
                row.prefilled = event
                row.counter.prefill(event)
                row.emitted += [event.token] if event.token is not None else []
            case Round():
                emissions.add(event.time, sum(len(part.emitted) for part in event.rows))
                for part in event.rows:
                    row = rows[part.row]
                    row.counter.time_round(event)
                    row.counter.round(part)
                    row.emitted += part.emitted
            case RowFinished():
                rows[event.row].finish(event)
            case Sample():
                samples.append(event)
            case RunFinished():
                reason = event.reason
        time = event.time
    for row in rows.values():
        if row.finished is None:
            row.break_off(time, "cancelled" if reason == "cancelled" else "error")
    return [_result(row, spec, samples, emissions) for row in rows.values()]


def against_naive(metrics: dict[str, Figure], naive: dict[str, Figure]) -> dict[str, Figure]:
    """`metrics` with `speedup` and `overhead` measured against `naive`, the figures of the same prompt and repeat."""
    speed, base = metrics["throughput_tok_s"], naive["throughput_tok_s"]
    step, base_step = _round_s(metrics), _round_s(naive)
    return {
        **metrics,
        "speedup": ratio(speed, base) if isinstance(speed, float) and isinstance(base, float) else None,
        "overhead": None if step is None or base_step is None else ratio(step, base_step),
    }


class _Emissions:
    """How many tokens all rows together had emitted at each time."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._totals: list[int] = [0]

    def add(self, time: float, tokens: int) -> None:
        self._times.append(time)
        self._totals.append(self._totals[-1] + tokens)

    def between(self, start: float, end: float) -> int:
        return self._totals[bisect_right(self._times, end)] - self._totals[bisect_right(self._times, start)]


def _result(row: _Row, spec: dict[str, Any], samples: Sequence[Sample], emissions: _Emissions) -> RowResult:
    started, finished = row.started, row.finished
    assert finished is not None
    ttft = None
    if row.prefilled is not None and row.prefilled.token is not None:
        ttft = row.prefilled.time - started.arrived_at
    metrics = row.counter.figures(ttft, finished.time - started.arrived_at)
    if finished.shares is not None:
        metrics.update({f"{part.removesuffix('_s')}_time_s": s for part, s in asdict(finished.shares).items()})
    metrics["repetition"] = repetition(finished.token_ids)
    if row.prefilled is not None and samples:
        metrics.update(_energy(row, row.prefilled, finished.time, samples, emissions))
    method = msgspec.convert(spec.get("method", {}), MethodSpec)
    return RowResult(
        method=method.name,
        configuration=method.label,
        acceptance=spec.get("sampling", {}).get("acceptance", ""),
        lossless=lossless(spec),
        lossless_reason=lossless_reason(spec),
        prompt_id=started.prompt_id,
        repeat=started.repeat,
        seed=started.seed,
        text=finished.text,
        token_ids=finished.token_ids,
        finish_reason=finished.reason,
        metrics=metrics,
    )


def _energy(
    row: _Row, prefilled: Prefilled, end: float, samples: Sequence[Sample], emissions: _Emissions
) -> dict[str, Figure]:
    generation = energy_window(samples, prefilled.time, end)
    prefill = energy_window(samples, prefilled.time - prefilled.seconds, prefilled.time)
    own = len(row.emitted) - row.counter.first_tokens
    share = ratio(own, emissions.between(prefilled.time, end))
    energy = None if generation.energy_j is None or share is None else generation.energy_j * share
    kept = row.counter.output_tokens - row.counter.first_tokens
    return {
        "energy_j": energy,
        "prefill_energy_j": prefill.energy_j,
        "joules_per_token": None if energy is None else ratio(energy, kept),
        "energy_source": generation.energy_source,
        "power_avg_w": generation.power_avg_w,
        "power_peak_w": generation.power_peak_w,
        "gpu_util_avg": generation.gpu_util_avg,
        "gpu_mem_avg": generation.gpu_mem_avg,
        "gpu_temp_peak_c": generation.gpu_temp_peak_c,
    }


def repetition(token_ids: Sequence[int]) -> float | None:
    """The share of 4-grams that occurred before; None when there is not one 4-gram."""
    grams = [tuple(token_ids[i : i + 4]) for i in range(len(token_ids) - 3)]
    return 1 - len(set(grams)) / len(grams) if grams else None


def _round_s(metrics: dict[str, Figure]) -> float | None:
    """Mean host seconds of a round."""
    parts = [metrics[name] for name in ROUND_TIMES]
    rounds = metrics["rounds"]
    assert isinstance(rounds, int)
    return ratio(fsum(part for part in parts if isinstance(part, float)), rounds)
