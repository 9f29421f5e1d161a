"""The figures of finished runs as a table, one column a configuration."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from specterm.bench.summary import Summary
from specterm.catalogue import RULES
from specterm.console.visible import visible
from specterm.metrics import RowResult
from specterm.report.figures import COLUMNS

_FIGURE_CELLS, _RESULT_CELLS = 25, 14  # of the names of the figures, and of a result: room for "7 identical"


def figures_tables(results: Sequence[RowResult], width: int) -> list[Table]:
    """Figures of each result side by side, in as many tables as it takes to have each readable in `width` cells."""
    side_by_side = max(1, (width - _FIGURE_CELLS) // _RESULT_CELLS)
    return [figures_table(results[at : at + side_by_side]) for at in range(0, len(results), side_by_side)]


def figures_table(results: Sequence[RowResult]) -> Table:
    """Figures of each result side by side; rows that nobody measured are left out, single gaps read "n/a"."""
    table = Table(box=None, pad_edge=False, show_header=len(results) > 1)
    table.add_column("figure", style="dim", no_wrap=True)
    for result in results:
        table.add_column(result.configuration, justify="left" if len(results) == 1 else "right")
    if len(results) == 1:
        table.add_row("method", results[0].configuration)
    for column in COLUMNS:
        values = [result.metrics[column.key] for result in results]
        if any(value is not None for value in values):
            table.add_row(column.title, *(column.text(value) for value in values))
    table.add_row("finish reason", *(result.finish_reason for result in results))
    if any(result.matches_naive for result in results):
        table.add_row("matches naive", *(result.matches_naive or "-" for result in results))
    table.add_row("lossless", *(_mark(result.lossless) for result in results))
    return table


def lossless_note(results: Sequence[RowResult] | Sequence[Summary]) -> Text:
    """Why the rules of these results are lossless, or why not."""
    judged = {(r.acceptance, r.lossless) for r in results if r.lossless is not None}
    lines = [
        f"{RULES[name].title}: {_mark(lossless)}. {RULES[name].reason(lossless)}" for name, lossless in sorted(judged)
    ]
    return Text(visible("\n".join(lines)), "dim")


def _mark(lossless: bool | None) -> str:
    return {True: "lossless", False: "NOT lossless", None: "unknown"}[lossless]
