"""The verdict of a comparison: one row a lane."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.measure import Measurement
from rich.style import Style
from rich.table import Table
from rich.text import Text
from textual.widgets import Static

from specterm.bench.summary import Summary
from specterm.report.figures import NOT_MEASURED
from specterm.tui.verdict_words import energy_text, mean_text, output_text, speedup_text
from specterm.tui.widgets.visible_text import visible

POINTER = "›"
ALL_COLUMNS_WIDTH = 100
"""Cells from which every column is shown."""

_ANY_WIDTH = 10_000
_COMPARED_LATER = "…"
_NO_SPEEDUP = "1x"  # of the reference, by definition


@dataclass(frozen=True, slots=True)
class _Column:
    """A column that is shown where the table has `from_width` cells and less than `to_width`."""

    title: str
    cell: Callable[[Summary], str]
    from_width: int = 0
    to_width: int = _ANY_WIDTH


def _lossless(entry: Summary) -> str:
    return {True: "✓ yes", False: "✗ NO", None: "n/a"}[entry.lossless]


def _speedup_alone(entry: Summary) -> str:
    return NOT_MEASURED if entry.speedup is None else f"{entry.speedup.ratio:.2f}x"


# A small table would have to cut the names of the lanes off; the words below it tell the interval of the chosen one.
_SPEEDUPS = (
    _Column("speedup", _speedup_alone, to_width=70),
    _Column("speedup (95 %)", lambda entry: speedup_text(entry.speedup), 70),
)
_COLUMNS = (
    *_SPEEDUPS,
    _Column("length", lambda entry: mean_text(entry.figures.get("mean_acceptance_length"), 2), 70),
    _Column("tok/s", lambda entry: mean_text(entry.figures.get("throughput_tok_s"), 1), 78),
    _Column("J/token", energy_text, ALL_COLUMNS_WIDTH),
    _Column("lossless", _lossless, 56),
)


class VerdictTable(Static):
    """Speedup against naive in the same run, acceptance length, speed, energy, and what the output is worth."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"verdict--head", "verdict--lane", "verdict--chosen", "verdict--alarm"}

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._rows: Sequence[Summary] = ()
        self._chosen = 0
        self._reference: str | None = None
        self._compared = False

    def show(self, rows: Sequence[Summary], chosen: int, reference: str | None, *, compared: bool) -> None:
        """Show one row a lane, with a pointer at the chosen one. `reference` is the configuration that the others are
        compared with; `compared`: their outputs have been, too."""
        self._rows, self._chosen, self._reference, self._compared = rows, chosen, reference, compared
        self.draw()

    def on_resize(self) -> None:
        self.draw()

    def draw(self) -> None:
        """Draw the rows, with the columns that there is room for."""
        columns = [column for column in _COLUMNS if column.from_width <= self.size.width < column.to_width]
        table = Table(box=None, pad_edge=False, expand=True, header_style=self._style("head"))
        table.add_column("  lane", no_wrap=True, overflow="ellipsis", ratio=1)
        for column in columns:
            table.add_column(column.title, justify="right", no_wrap=True, overflow="ellipsis")
        table.add_column("output", justify="right", no_wrap=True, overflow="ellipsis")
        for number, entry in enumerate(self._rows):
            style = self._style("chosen" if number == self._chosen else "lane")
            pointer = POINTER if number == self._chosen else " "
            name = Text(f"{pointer} {visible(entry.configuration)}", style)
            reference = entry.configuration == self._reference
            cells = (
                Text(_NO_SPEEDUP if reference and column in _SPEEDUPS else column.cell(entry), style)
                for column in columns
            )
            table.add_row(name, *cells, self._output(entry, style))
        # Wide, it would take the figures away from their lanes.
        needed = Measurement.get(self.app.console, self.app.console.options.update(max_width=_ANY_WIDTH), table)
        table.expand = needed.maximum > self.size.width
        self.update(table)

    def _output(self, entry: Summary, style: Style) -> Text:
        if entry.configuration == self._reference:
            return Text("reference", style)
        if not self._compared:
            return Text(_COMPARED_LATER, style)
        alarm = entry.matches_naive.get("different", 0) > 0
        return Text(output_text(entry), self._style("alarm") if alarm else style)

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(f"verdict--{name}", partial=True)
