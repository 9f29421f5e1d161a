"""A stored comparison: its trials with their events, and its report."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from specterm.bench.trials import Trial, Trials
from specterm.config import PlanSpec
from specterm.events import Event, RunStarted
from specterm.metrics import row_results
from specterm.report.document import Document, build_document


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was measured. The document of one that was interrupted is made of the trials that were written, so that
    outputs are not compared there."""

    plan: PlanSpec
    trials: tuple[Trial, ...]
    document: Document


def trials_of(events: Sequence[Event]) -> tuple[Trial, ...]:
    """The trials, one after the other in `events`, of which something was decoded."""
    starts = [number for number, event in enumerate(events) if isinstance(event, RunStarted)]
    runs = [tuple(events[start:end]) for start, end in zip(starts, [*starts[1:], len(events)], strict=True)]
    told = [(run, row_results(run)) for run in runs]
    return tuple(Trial(rows[0].configuration, rows[0].repeat, run) for run, rows in told if rows)


def read_comparison(plan: str, report: bytes | None, trials: tuple[Trial, ...]) -> Comparison:
    """A comparison as it was stored.

    Raises:
        msgspec.MsgspecError, zlib.error: another version of the program made it, or it is damaged.
        ConfigError: a method in it is not known here.
    """
    spec = msgspec.json.decode(plan, type=PlanSpec).checked()
    if report is not None:
        return Comparison(spec, trials, msgspec.json.decode(zlib.decompress(report), type=Document))
    results = [result for trial in trials for result in row_results(trial.events)]
    started = next((event for trial in trials for event in trial.events if isinstance(event, RunStarted)), None)
    found = Trials(spec, results, environment=started.environment if started else {})
    return Comparison(spec, trials, build_document(found))
