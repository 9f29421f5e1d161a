"""The document as Markdown for people: summary, domains, how it was measured, where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from specterm.report.deploy import Deployment
from specterm.report.document import Document
from specterm.report.tables import (
    FORMULAS,
    Table,
    domains_table,
    environment,
    figures_table,
    models_table,
    rules,
    summary_table,
    workload,
)


def as_markdown(document: Document) -> str:
    """The document as GitHub-flavoured Markdown."""
    figures, same = figures_table(document.summary)
    sections = [
        "# specterm report" + ("" if document.complete else " (incomplete)"),
        *_warnings(document.warnings),
        *_section("Summary", summary_table(document.summary)),
        *_deployment(document.deployment),
        *_section("By domain", domains_table(document.summary)),
        *_section("Figures", figures),
        *([f"The same for all: {', '.join(same)}."] if same else []),
        "## Lossless\n\n" + "\n".join(_lossless(document)),
        "## How it was measured\n\n" + "\n".join(f"- {line}" for line in (*FORMULAS, *_workload(document))),
        *_section("Models", None if document.models is None else models_table(document.models)),
        "## Environment\n\n" + "\n".join(_environment(document)),
    ]
    return "\n\n".join(sections) + "\n"


def _warnings(warnings: Sequence[str]) -> Iterator[str]:
    if warnings:
        yield "## Warnings\n\n" + "\n".join(f"- {_cell(text)}" for text in warnings)


def _section(title: str, content: Table | None) -> Iterator[str]:
    if content is not None:
        yield f"## {title}\n\n{table(content.head, content.rows)}"


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


def _lossless(document: Document) -> Iterator[str]:
    for name, lossless, why in rules(document.summary):
        mark = "**lossless**" if lossless else "**not lossless**"
        yield f"- `{name}`: {mark}. {why}"
    yield (
        "- *matches naive* counts outputs that must be naive's: identical, near tie (each difference is a tie of the "
        "target's within rounding) or different; `-` where the output need not be the same."
    )


def _workload(document: Document) -> Iterator[str]:
    return (_cell(line) for line in workload(document.spec))


def _environment(document: Document) -> Iterator[str]:
    if not document.environment:
        yield "Not known."
    for name, value in environment(document.environment):
        yield f"- {name}: {_cell(value)}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; numbers to the right, the first column to the left."""
    rule = ["---", *("---:" for _ in head[1:])]
    lines = [[_cell(cell) for cell in row] for row in (head, *rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], rule, *lines[1:]])


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
