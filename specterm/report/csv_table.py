"""The document as CSV: one row a configuration and domain, every figure in SI units."""

from __future__ import annotations

import csv
import io

from specterm.bench.statistics import Interval, Statistics
from specterm.bench.summary import DomainSummary, Summary
from specterm.metrics import METRICS
from specterm.report.document import Document

_OUTCOMES = ("identical", "near_tie", "different")
_TEXTS = ("per_position_acceptance", "per_drafter_acceptance", "energy_source")  # no mean and no interval
_MEANS = tuple(name for name in METRICS if name not in _TEXTS)
_UNITS = {
    "throughput_tok_s": "1/s", "energy_j": "J", "prefill_energy_j": "J", "joules_per_token": "J",
    "power_avg_w": "W", "power_peak_w": "W", "gpu_temp_peak_c": "°C",
}  # fmt: skip
_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would compute


def as_csv(document: Document) -> str:
    """A heading and rows: the configuration over all prompts (its domain is empty), then each domain of it.

    A figure has its mean and its 95 % interval, each with the unit in brackets ("1": none); the speedup is the ratio
    paired by prompt, and its interval. Acceptance by position has a column for each, as deep as any configuration
    drafted. What was not measured is empty.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    depth = max((len(entry.per_position_acceptance or ()) for entry in document.summary), default=0)
    writer.writerow(_head(depth))
    for entry in document.summary:
        writer.writerow(_row(entry, "", entry, depth))
        for domain, part in sorted(entry.domains.items()):
            writer.writerow(_row(entry, domain, part, depth))
    return file.getvalue()


def _head(depth: int) -> list[str]:
    figures = [f"{name}{bound} [{unit(name)}]" for name in _MEANS for bound in ("", " low", " high")]
    return [
        *("configuration", "method", "acceptance", "lossless", "domain", "runs"),
        *figures,
        *(f"per_position_acceptance {position} [1]" for position in range(1, depth + 1)),
        "energy_source",
        *(f"matches_naive {outcome}" for outcome in _OUTCOMES),
    ]


def unit(name: str) -> str:
    """The SI unit of a figure of `METRICS`; "1" for counts, shares and ratios."""
    return _UNITS.get(name, "s" if name.endswith("_s") else "1")


def _row(entry: Summary, domain: str, part: Summary | DomainSummary, depth: int) -> list[str]:
    lossless = "" if entry.lossless is None else str(entry.lossless).lower()
    cells = [_text(entry.configuration), _text(entry.method), entry.acceptance, lossless, _text(domain), str(part.runs)]
    for name in _MEANS:
        cells += _figure(part.speedup if name == "speedup" else part.figures.get(name))
    rates = [repr(rate) for rate in part.per_position_acceptance or ()]
    cells += [*rates, *[""] * (depth - len(rates)), _text(" ".join(part.energy_source))]
    return cells + [str(part.matches_naive.get(outcome, 0) if part.matches_naive else "") for outcome in _OUTCOMES]


def _figure(figure: Statistics | Interval | None) -> tuple[str, str, str]:
    """A mean, or a ratio, and its interval."""
    if figure is None:
        return "", "", ""
    value = figure.ratio if isinstance(figure, Interval) else figure.mean
    low, high = ("" if bound is None else repr(bound) for bound in (figure.low, figure.high))
    return repr(value), low, high


def _text(text: str) -> str:
    """A name from outside, which no spreadsheet is to compute."""
    return f"'{text}" if text.startswith(_FORMULA_SIGNS) else text
