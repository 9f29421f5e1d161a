"""What a report says in tables and lists, before any format: cells are plain text, to be escaped by who writes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from specterm.bench.statistics import Interval, Statistics
from specterm.bench.summary import Summary
from specterm.catalogue import RULES
from specterm.events import Loaded, ModelInfo
from specterm.report.figures import COLUMNS, NOT_MEASURED, SUMMARY_KEYS, Column

FORMULAS = (
    "throughput = output tokens / latency, prefill included; TPOT = (latency - TTFT) / (output tokens - 1)",
    "speedup = sum over prompts of the throughput / the same sum for naive, runs paired by prompt",
    "draft acceptance rate = accepted / drafted; token wastage = 1 - that",
    "mean acceptance length = (output tokens - 1) / rounds",
    "overhead = mean round time / mean naive step time; efficiency gain = 1 - target passes / output tokens",
    "energy per token = energy from the first token to the end / tokens in that window; windows under 2 s are n/a",
    "x ± s are mean and sample standard deviation over prompts, repeats of a prompt averaged first (over repeats where "
    "there is one prompt); intervals are 95 %: Student's t for means, bootstrap over prompts for the speedup",
)
"""What the figures are, a line each."""

_DOMAIN_KEYS = ("speedup", "throughput_tok_s", "draft_acceptance_rate", "mean_acceptance_length")


@dataclass(frozen=True, slots=True)
class Table:
    """A heading and rows of as many cells; the first column names, the others hold values."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def measured(summary: Sequence[Summary]) -> list[Column]:
    """The columns that some configuration has a figure for."""
    return [
        column
        for column in COLUMNS
        if any(figure_text(column, e.figures.get(column.key), e.speedup) != NOT_MEASURED for e in summary)
    ]


def figure_text(column: Column, figure: Statistics | None, speedup: Interval | None) -> str:
    """A figure of a configuration as a cell: mean ± std, or the speedup with its interval."""
    if column.key == "speedup":
        if speedup is None:
            return NOT_MEASURED
        low, high = speedup.low, speedup.high
        interval = "" if low is None or high is None else f" [{column.number(low)}, {column.number(high)}]"
        return column.number(speedup.ratio) + interval
    return NOT_MEASURED if figure is None else column.spread(figure.mean, figure.std)


def matches_text(entry: Summary) -> str:
    """How often the outputs matched naive's; "-" where they need not."""
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(entry.matches_naive.items())) or "-"


def summary_table(summary: Sequence[Summary]) -> Table:
    """The figures that decide, one row a configuration."""
    columns = [column for column in measured(summary) if column.key in SUMMARY_KEYS]
    return Table(
        ("configuration", "runs", *(column.heading for column in columns), "matches naive"),
        tuple(
            (
                entry.configuration,
                str(entry.runs),
                *(figure_text(column, entry.figures.get(column.key), entry.speedup) for column in columns),
                matches_text(entry),
            )
            for entry in summary
        ),
    )


def figures_table(summary: Sequence[Summary]) -> tuple[Table, list[str]]:
    """Every figure that was measured, one column a configuration; and, a text each, those that are equal for all."""
    rows: list[tuple[str, ...]] = []
    same: list[str] = []
    for column in measured(summary):
        values = [figure_text(column, entry.figures.get(column.key), entry.speedup) for entry in summary]
        if len(summary) > 1 and len(set(values)) == 1:
            same.append(f"{column.heading} {values[0]}")
        else:
            rows.append((column.heading, *values))
    if any(entry.per_position_acceptance for entry in summary):
        rates = [entry.per_position_acceptance or [] for entry in summary]
        texts = (" ".join(f"{r:.0%}"[:-1] for r in row) or NOT_MEASURED for row in rates)
        rows.append(("per-position acceptance (%)", *texts))
    return Table(("figure", *(entry.configuration for entry in summary)), tuple(rows)), same


def domains_table(summary: Sequence[Summary]) -> Table | None:
    """The figures by domain; None where there are not two."""
    names = domains(summary)
    if len(names) < 2:
        return None
    columns = [column for column in COLUMNS if column.key in _DOMAIN_KEYS]
    rows = (
        (
            domain,
            entry.configuration,
            str(part.runs),
            *(figure_text(column, part.figures.get(column.key), part.speedup) for column in columns),
        )
        for domain in names
        for entry in summary
        if (part := entry.domains.get(domain)) is not None
    )
    return Table(("domain", "configuration", "runs", *(column.heading for column in columns)), tuple(rows))


def domains(summary: Sequence[Summary]) -> list[str]:
    """The domains of all prompts, sorted."""
    return sorted({domain for entry in summary for domain in entry.domains})


def rules(summary: Sequence[Summary]) -> Iterator[tuple[str, bool, str]]:
    """The acceptance rules that were used: name, whether lossless, and why."""
    for name, lossless in sorted({(e.acceptance, e.lossless) for e in summary if e.lossless is not None}):
        yield name, lossless, RULES[name].reason(lossless)


def workload(spec: Mapping[str, Any]) -> tuple[str, str]:
    """How a plan (as plain data) measures, and how it samples."""
    return (
        f"repeats {spec['repeats']}, warm-up runs of each method {spec['warmup']}, methods interleaved, "
        f"batch size {spec['batch_size']}, prompts from {', '.join(spec['prompts'])}{_conversation(spec)}",
        ", ".join(f"{name} {value}" for name, value in spec["sampling"].items() if value not in (None, [], ())),
    )


def _conversation(spec: Mapping[str, Any]) -> str:
    """How the prompts of a plan are turns of a conversation, where they are."""
    if not spec.get("chat"):
        return ""
    return " as turns" + (" after a system prompt" if spec["system"] else "")


def models_table(models: Loaded) -> Table:
    """Target and drafts as they were loaded."""
    named = [("target", models.target), *(("draft", draft) for draft in models.drafts)]
    head = ("role", "name", "parameters", "dtype", "quantization", "device", "runner", "vocabulary")
    return Table(head, tuple(_model_row(role, model) for role, model in named))


def _model_row(role: str, model: ModelInfo) -> tuple[str, ...]:
    device = f"{model.device} ({model.device_name})" if model.device_name else model.device
    return (
        role,
        model.name,
        f"{model.parameters:,}",
        _format(model),
        model.quantization or "none",
        device,
        model.runner,
        f"{model.vocab_size:,}",
    )


def _format(model: ModelInfo) -> str:
    """The number format, and what it was chosen by where there was a choice."""
    if model.format_s is None:
        return model.dtype
    took = ", ".join(f"{name} {1e3 * seconds:.2f}" for name, seconds in model.format_s.items())
    return f"{model.dtype} (ms of a few passes through a layer: {took})"


def environment(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is known of machine and versions: name and value."""
    for name, value in data.items():
        yield name.replace("_", " "), _plain(value)


def _plain(value: Any) -> str:
    """Nested data on one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return "; ".join(_plain(item) for item in value) or "none"
    return NOT_MEASURED if value is None else str(value)
