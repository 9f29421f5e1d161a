"""The one document that every report format is made from; its keys are for scripts to rely on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from specterm.bench.summary import Summary, summarise
from specterm.bench.trials import Failure, Trials
from specterm.config import to_data
from specterm.events import Loaded
from specterm.metrics import RowResult
from specterm.report.deploy import Deployment, deployment

SCHEMA_VERSION = 1


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A batch: what ran, where, and what came of it. `complete` is False after an interrupt.

    `models` are the loaded ones as they really are, with the calibration; None where nothing was loaded. `deployment`
    is what it comes to; `warnings` are lines for a person; `failures` the runs that failed.
    """

    schema_version: int
    complete: bool
    environment: dict[str, Any]
    models: Loaded | None
    spec: dict[str, Any]
    runs: list[RowResult]
    summary: list[Summary]
    deployment: Deployment
    warnings: list[str]
    failures: list[Failure]


def build_document(trials: Trials) -> Document:
    """The document of a batch, whole or partial."""
    summary = summarise(trials.plan, trials.results)
    return Document(
        schema_version=SCHEMA_VERSION,
        complete=trials.complete,
        environment=trials.environment,
        models=trials.models,
        spec=to_data(trials.plan),
        runs=trials.results,
        summary=summary,
        deployment=deployment(trials.plan, summary),
        warnings=list(_warnings(trials, summary)),
        failures=trials.failures,
    )


def as_json(document: Document) -> str:
    """The document as indented JSON; what was not measured is null."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def _warnings(trials: Trials, summary: list[Summary]) -> Iterator[str]:
    if not trials.complete:
        yield "The batch was interrupted: the figures are those of the runs that came to their end."
    for failure in trials.failures:
        yield f"{failure.configuration}, {', '.join(failure.prompt_ids)}, repeat {failure.repeat + 1}: {failure.error}"
    for notice in trials.notices:
        if notice.level != "info":
            yield notice.text + (f"; {notice.advice}" if notice.advice else "")
    for entry in summary:
        different = entry.matches_naive.get("different", 0)
        if different:
            yield f"{entry.configuration}: {different} of {entry.runs} outputs differ from naive's, and must not."
        repeated = entry.figures["repetition"]
        if repeated is not None and repeated.mean > 0.5:
            yield f"{entry.configuration}: {repeated.mean:.0%} of 4-grams are repeated; loops flatter speculation."
    if not any(method.name == "naive" for method in trials.plan.methods):
        yield "Naive decoding was not measured, so there is no speedup; add naive to --method."
    figures = [entry.figures for entry in summary]
    if trials.plan.monitor and any(f["power_avg_w"] for f in figures) and not any(f["energy_j"] for f in figures):
        yield "Energy needs a generation window of 2 s or more; raise --max-tokens or --batch-size to measure it."
