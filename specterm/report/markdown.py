"""The document as Markdown for people: summary, domains, how it was measured, where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from specterm.bench.statistics import Interval, Statistics
from specterm.bench.summary import DomainSummary, Summary
from specterm.catalogue import RULES
from specterm.events import ModelInfo
from specterm.report.deploy import Deployment
from specterm.report.document import Document
from specterm.report.figures import COLUMNS, NOT_MEASURED, SUMMARY_KEYS, Column

_DOMAIN_KEYS = ("throughput_tok_s", "draft_acceptance_rate", "mean_acceptance_length")

_FORMULAS = """\
- throughput = output tokens / latency, prefill included; TPOT = (latency - TTFT) / (output tokens - 1)
- speedup = sum over prompts of the throughput / the same sum for naive, runs paired by prompt
- draft acceptance rate = accepted / drafted; token wastage = 1 - that
- mean acceptance length = (output tokens - 1) / rounds
- overhead = mean round time / mean naive step time; efficiency gain = 1 - target passes / output tokens
- energy per token = energy from the first token to the end / tokens in that window; windows under 2 s are n/a
- x ± s are mean and sample standard deviation over prompts, repeats of a prompt averaged first (over repeats where
  there is one prompt); intervals are 95 %: Student's t for means, bootstrap over prompts for the speedup"""


def as_markdown(document: Document) -> str:
    """The document as GitHub-flavoured Markdown."""
    sections = [
        "# specterm report" + ("" if document.complete else " (incomplete)"),
        *_warnings(document.warnings),
        *_summary(document.summary),
        *_deployment(document.deployment),
        *_domains(document.summary),
        *_figures(document.summary),
        "## Lossless\n\n" + "\n".join(_lossless(document.summary)),
        "## How it was measured\n\n" + _FORMULAS + "\n" + _workload(document.spec),
        *_models(document),
        "## Environment\n\n" + "\n".join(_environment(document.environment)),
    ]
    return "\n\n".join(sections) + "\n"


def _warnings(warnings: Sequence[str]) -> Iterator[str]:
    if warnings:
        yield "## Warnings\n\n" + "\n".join(f"- {_cell(text)}" for text in warnings)


def _summary(summary: Sequence[Summary]) -> Iterator[str]:
    """The figures that decide, one row a configuration."""
    columns = [column for column in measured(summary) if column.key in SUMMARY_KEYS]
    head = ["configuration", "runs", *(column.heading for column in columns), "matches naive"]
    rows = [
        [
            entry.configuration,
            str(entry.runs),
            *(figure_text(column, entry.figures.get(column.key), entry.speedup) for column in columns),
            matches_text(entry),
        ]
        for entry in summary
    ]
    yield "## Summary\n\n" + table(head, rows)


def _figures(summary: Sequence[Summary]) -> Iterator[str]:
    """Every figure that was measured, one column a configuration; those equal for all stand in a line below."""
    rows: list[list[str]] = []
    same: list[str] = []
    for column in measured(summary):
        values = [figure_text(column, entry.figures.get(column.key), entry.speedup) for entry in summary]
        if len(summary) > 1 and len(set(values)) == 1:
            same.append(f"{column.heading} {values[0]}")
        else:
            rows.append([column.heading, *values])
    if any(entry.per_position_acceptance for entry in summary):
        rates = [entry.per_position_acceptance or [] for entry in summary]
        rows.append(
            ["per-position acceptance (%)", *(" ".join(f"{r:.0%}"[:-1] for r in row) or NOT_MEASURED for row in rates)]
        )
    text = "## Figures\n\n" + table(["figure", *(entry.configuration for entry in summary)], rows)
    yield text + (f"\n\nThe same for all: {', '.join(same)}." if same else "")


def measured(summary: Sequence[Summary]) -> list[Column]:
    """The columns that some configuration has a figure for."""
    return [
        column
        for column in COLUMNS
        if any(figure_text(column, e.figures.get(column.key), e.speedup) != NOT_MEASURED for e in summary)
    ]


def _deployment(found: Deployment) -> Iterator[str]:
    """What to deploy: the verdict, then a line to copy for each program, and what differs."""
    parts = ["## What to deploy", f"{_cell(found.verdict[:1].upper() + found.verdict[1:])}."]
    for way in found.ways:
        if way.line is None:
            parts.append(f"{way.program}: no such method there.")
            continue
        parts.append(f"{way.program}:\n\n```\n{' '.join(way.line.replace('`', '').split())}\n```")
        if way.differences:
            parts.append("\n".join(f"- {_cell(text)}" for text in way.differences))
    yield "\n\n".join(parts)


def _domains(summary: Sequence[Summary]) -> Iterator[str]:
    domains = sorted({domain for entry in summary for domain in entry.domains})
    if len(domains) < 2:
        return
    columns = [column for column in COLUMNS if column.key in ("speedup", *_DOMAIN_KEYS)]
    rows = [
        [domain, entry.configuration, str(part.runs), *_domain_cells(columns, part)]
        for domain in domains
        for entry in summary
        if (part := entry.domains.get(domain)) is not None
    ]
    head = ["domain", "configuration", "runs", *(column.heading for column in columns)]
    yield "## By domain\n\n" + table(head, rows)


def _domain_cells(columns: Sequence[Column], part: DomainSummary) -> list[str]:
    return [figure_text(column, part.figures.get(column.key), part.speedup) for column in columns]


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


def _lossless(summary: Sequence[Summary]) -> Iterator[str]:
    for name, lossless in sorted({(e.acceptance, e.lossless) for e in summary if e.lossless is not None}):
        mark = "**lossless**" if lossless else "**not lossless**"
        yield f"- `{name}`: {mark}. {RULES[name].reason(lossless)}"
    yield (
        "- *matches naive* counts outputs that must be naive's: identical, near tie (each difference is a tie of the "
        "target's within rounding) or different; `-` where the output need not be the same."
    )


def _workload(spec: Mapping[str, Any]) -> str:
    sampling = ", ".join(f"{name} {value}" for name, value in spec["sampling"].items() if value not in (None, [], ()))
    return (
        f"- repeats {spec['repeats']}, warm-up runs of each method {spec['warmup']}, methods interleaved, "
        f"batch size {spec['batch_size']}, prompts from {_cell(', '.join(spec['prompts']))}\n- {_cell(sampling)}"
    )


def _models(document: Document) -> Iterator[str]:
    if document.models is None:
        return
    named = [("target", document.models.target), *(("draft", draft) for draft in document.models.drafts)]
    rows = [_model_row(role, model) for role, model in named]
    yield "## Models\n\n" + table(
        ["role", "name", "parameters", "dtype", "quantization", "device", "runner", "vocabulary"], rows
    )


def _model_row(role: str, model: ModelInfo) -> list[str]:
    device = f"{model.device} ({model.device_name})" if model.device_name else model.device
    return [
        role,
        model.name,
        f"{model.parameters:,}",
        model.dtype,
        model.quantization or "none",
        device,
        model.runner,
        f"{model.vocab_size:,}",
    ]


def _environment(environment: Mapping[str, Any]) -> Iterator[str]:
    if not environment:
        yield "Not known."
    for name, value in environment.items():
        yield f"- {name.replace('_', ' ')}: {_cell(_plain(value))}"


def _plain(value: Any) -> str:
    """Nested data on one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return "; ".join(_plain(item) for item in value) or "none"
    return NOT_MEASURED if value is None else str(value)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; numbers to the right, the first column to the left."""
    rule = ["---", *("---:" for _ in head[1:])]
    lines = [[_cell(cell) for cell in row] for row in (head, *rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], rule, *lines[1:]])


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
