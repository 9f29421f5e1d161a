"""The document as an HTML page for people: the verdict first, then what it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import resources

from specterm.bench.summary import DomainSummary, Summary
from specterm.metrics import RowResult
from specterm.report.deploy import Deployment, interval_text
from specterm.report.document import Document
from specterm.report.figures import COLUMNS, NOT_MEASURED
from specterm.report.html.charts import Bar, Dot, columns, intervals, stacks
from specterm.report.html.elements import Content, Html, element, joined
from specterm.report.tables import (
    FORMULAS,
    Table,
    domains,
    domains_table,
    environment,
    figure_text,
    figures_table,
    models_table,
    rules,
    summary_table,
    workload,
)
from specterm.setup_text import plan_text

_SHARES = ("prefill_time_s", "draft_time_s", "verify_time_s", "sampling_time_s", "other_time_s", "wait_time_s")
"""The parts of the latency."""

_MOST_PROMPTS = 200  # with more, the dots of the single prompts hide each other


def as_html(document: Document) -> str:
    """The document as one file: no network, no script; light or dark as the reader's system is."""
    style = (resources.files(__package__) / "page.css").read_text(encoding="utf-8")
    head = element(
        "head",
        (
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="color-scheme", content="light dark"),
            element("title", "specterm report"),
            element("style", Html(style)),
        ),
    )
    body = element("body", element("main", _sections(document)))
    return f"<!DOCTYPE html>\n{element('html', (head, body), lang='en')}\n"


def _sections(document: Document) -> Iterator[Html]:
    summary = document.summary
    yield element("h1", "specterm report" + ("" if document.complete else " (incomplete)"))
    yield from _verdict(document.deployment)
    if document.warnings:
        yield _section(
            "Warnings", element("ul", (element("li", text) for text in document.warnings), class_="warnings")
        )
    yield from _speedups(document)
    yield _section("Comparison", _table(summary_table(summary)))
    yield from _acceptance(summary)
    yield from _times(summary)
    if (by_domain := domains_table(summary)) is not None:
        yield _section("By domain", (*_by_domain(summary), _table(by_domain)))
    yield _section("Output", _output(document))
    figures, same = figures_table(summary)
    told = [element("p", f"The same for all: {', '.join(same)}.")] if same else []
    yield _section("All figures", (_table(figures), *told))
    yield _section("How it was measured", _list((*FORMULAS, *workload(document.spec))))
    if document.models is not None:
        yield _section("Models", _table(models_table(document.models)))
    yield _section("Machine and versions", _environment(document))
    yield _section("To repeat it", _plan(document))


def _section(title: str, content: Content) -> Html:
    return element("section", (element("h2", title), joined(content)))


def _list(lines: Sequence[str]) -> Html:
    return element("ul", (element("li", line) for line in lines))


def _table(content: Table) -> Html:
    """A table that scrolls by itself where it is too wide."""
    head = element("tr", (element("th", cell, scope="col") for cell in content.head))
    rows = (
        element("tr", (element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:])))
        for row in content.rows
    )
    return element(
        "div", element("table", (element("thead", head), element("tbody", rows))), class_="wide", tabindex="0"
    )


def _verdict(found: Deployment) -> Iterator[Html]:
    """What to deploy, and how each program is given it."""
    yield element("p", f"{found.verdict[:1].upper()}{found.verdict[1:]}.", class_="verdict")
    for way in found.ways:
        if way.line is None:
            yield element("p", f"{way.program}: no such method there.")
            continue
        differences = [_list(way.differences)] if way.differences else []
        yield element("details", (element("summary", way.program), element("pre", way.line), *differences))


def _speedups(document: Document) -> Iterator[Html]:
    rows = [
        Dot(entry.configuration, entry.speedup, interval_text(entry.speedup), _of_prompts(entry, document.runs))
        for entry in document.summary
        if entry.speedup is not None and entry.method != "naive"
    ]
    if rows:
        note = "Throughput against naive decoding, with the 95 % interval; a small dot is one run."
        yield _section("Speedup", (intervals(rows, max(row.reach for row in rows)), element("p", note, class_="note")))


def _of_prompts(entry: Summary, runs: Sequence[RowResult]) -> tuple[float, ...]:
    """The speedup of each run."""
    values = (r.metrics["speedup"] for r in runs if r.configuration == entry.configuration)
    found = tuple(value for value in values if isinstance(value, float))
    return found if len(found) <= _MOST_PROMPTS else ()


def _acceptance(summary: Sequence[Summary]) -> Iterator[Html]:
    rate = next(column for column in COLUMNS if column.key == "draft_acceptance_rate")
    rows = [
        (e.configuration, e.per_position_acceptance, f"{figure_text(rate, e.figures[rate.key], None)} % accepted")
        for e in summary
        if e.per_position_acceptance
    ]
    if rows:
        note = "Accepted draft tokens by their place in the draft, in percent of the rounds that had a draft."
        yield _section("Acceptance by position", (columns(rows), element("p", note, class_="note")))


def _times(summary: Sequence[Summary]) -> Iterator[Html]:
    """Where the time of a mean run went."""
    titles = {column.key: column.title for column in COLUMNS}
    bars = []
    for entry in summary:
        means = [(key, figure.mean) for key in _SHARES if (figure := entry.figures.get(key)) is not None]
        parts = tuple((titles[key], _SHARES.index(key), mean) for key, mean in means if mean > 0)
        latency = entry.figures.get("latency_s")
        if parts:
            bars.append(Bar(entry.configuration, parts, NOT_MEASURED if latency is None else f"{latency.mean:.3g} s"))
    if bars:
        note = "Mean seconds from a prompt's arrival to its last token."
        yield _section("Time", (stacks(bars, [titles[key] for key in _SHARES]), element("p", note, class_="note")))


def _by_domain(summary: Sequence[Summary]) -> Iterator[Html]:
    """The speedups of each domain, all on one scale."""
    drafting = [entry for entry in summary if entry.method != "naive"]
    found = {name: [dot for e in drafting if (dot := _dot(e, e.domains.get(name)))] for name in domains(summary)}
    reach = max((dot.reach for dots in found.values() for dot in dots), default=0.0)
    for name, dots in found.items():
        if dots:
            yield element("h3", name)
            yield intervals(dots, reach)


def _dot(entry: Summary, part: DomainSummary | None) -> Dot | None:
    if part is None or part.speedup is None:
        return None
    return Dot(entry.configuration, part.speedup, interval_text(part.speedup))


def _output(document: Document) -> Iterator[Html]:
    """Whether the outputs are what they must be."""
    rows = tuple(
        (
            entry.configuration,
            entry.acceptance,
            {True: "yes", False: "NO", None: NOT_MEASURED}[entry.lossless],
            *(
                str(entry.matches_naive.get(outcome, 0)) if entry.matches_naive else "-"
                for outcome in ("identical", "near_tie", "different")
            ),
        )
        for entry in document.summary
    )
    yield _table(Table(("configuration", "rule", "lossless", "identical", "near tie", "different"), rows))
    yield _list(
        [f"{name}: {'lossless' if kept else 'NOT lossless'}. {why}" for name, kept, why in rules(document.summary)]
    )
    wrong = [
        f"{run.configuration}, {run.prompt_id}, repeat {run.repeat + 1}: the output differs from naive's"
        for run in document.runs
        if run.matches_naive == "different"
    ]
    if wrong:
        yield element("ul", (element("li", line) for line in wrong), class_="warnings")
    note = (
        "Outputs that must be naive's are counted: identical, near tie (each difference is a tie of the target's "
        "within rounding) or different; - where the output need not be the same."
    )
    yield element("p", note, class_="note")


def _environment(document: Document) -> Iterator[Html]:
    known = list(environment(document.environment)) or [("environment", "not known")]
    yield element("dl", (part for name, value in known for part in (element("dt", name), element("dd", value))))


def _plan(document: Document) -> Iterator[Html]:
    yield element("p", ("Save this as ", element("code", "plan.toml"), " and run:"))
    yield element("pre", "specterm --batch plan.toml --out report")
    yield element("pre", plan_text(document.spec))
    note = "Files of prompts are found from the plan's folder; a prompt typed in the workbench has to be put into one."
    yield element("p", note, class_="note")
