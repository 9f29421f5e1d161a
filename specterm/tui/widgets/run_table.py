"""Stored runs as a table; narrow terminals get fewer columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import DataTable

from specterm.history.archive import Entry
from specterm.tui.model_names import short
from specterm.tui.widgets.figures import number, rate, scalar, throughput
from specterm.tui.widgets.visible_text import visible

MARK = "●"
LAW_SIGNS = {True: "✓", False: "✗", None: "?"}
"""Whether a run's rule is lossless."""
STATE_SIGNS = {"done": "✓", "cancelled": "◌", "failed": "✗", "running": "…", "interrupted": "!"}
_PADDING = 1  # on either side of a cell
_LEAST_PROMPT = 10
WIDE = 180
"""Cells from which a table has room for long names beside the prompts."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column; shown where the table has at least `from_width` cells. A width of 0 takes what is left; with `wide`
    it has that width in a table of `WIDE` cells."""

    title: str
    width: int
    cell: Callable[[Entry], str]
    from_width: int = 0
    right: bool = False
    wide: int = 0

    def width_in(self, cells: int) -> int:
        """Its width in a table of so many cells; 0 is what is left."""
        return self.wide if self.wide and cells >= WIDE else self.width


def when(entry: Entry) -> str:
    """The start of a run, in local time."""
    return f"{datetime.fromtimestamp(entry.started_at):%m-%d %H:%M}"


COLUMNS = (
    Column("run", 5, lambda entry: str(entry.id), 90, right=True),
    Column("when", 11, when),
    Column("", 1, lambda entry: STATE_SIGNS[entry.state]),
    Column("method", 14, lambda entry: entry.method, wide=40),
    Column("law", 3, lambda entry: LAW_SIGNS[entry.lossless] if entry.kind == "run" else "", 76),
    Column("rule", 11, lambda entry: entry.acceptance, 140),
    Column("models", 20, lambda entry: short(entry.models), 100, wide=32),
    Column("prompt", 0, lambda entry: entry.prompt),
    Column("tokens", 6, lambda entry: number(scalar(entry.figures, "output_tokens")), 90, right=True),
    Column("tok/s", 7, lambda entry: number(scalar(entry.figures, "throughput_tok_s"), 1), right=True),
    Column("accept", 7, lambda entry: rate(scalar(entry.figures, "draft_acceptance_rate")), 70, right=True),
)


def columns_for(width: int) -> list[tuple[Column, int]]:
    """The columns that a table of `width` cells has room for, with their widths."""
    shown = [column for column in COLUMNS if column.from_width <= width]
    taken = sum(column.width_in(width) for column in shown) + 2 * _PADDING * (len(shown) + 1) + len(MARK)
    return [(column, column.width_in(width) or max(_LEAST_PROMPT, width - taken)) for column in shown]


class RunTable(DataTable[Text]):
    """The runs, newest first, with a cursor and marks."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Reopen", id="history.reopen", tooltip="Show the run in the workbench"),
        Binding("j", "cursor_down", "Down", show=False, id="history.down", tooltip="To the next run"),
        Binding("k", "cursor_up", "Up", show=False, id="history.up", tooltip="To the run before"),
        Binding("g,home", "scroll_top", "Newest", show=False, id="history.top", tooltip="To the newest run"),
        Binding("G,end", "scroll_bottom", "Oldest", show=False, id="history.bottom", tooltip="To the last listed run"),
    ]

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, cursor_type="row", cell_padding=_PADDING)
        self.entries: list[Entry] = []
        self.marked: dict[int, Entry] = {}
        self._columns_shown: list[tuple[Column, int]] = []

    @property
    def current(self) -> Entry | None:
        """The run under the cursor."""
        return self.entries[self.cursor_row] if 0 <= self.cursor_row < len(self.entries) else None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Without a run there is none to show."""
        return action != "select_cursor" or bool(self.entries)

    def on_resize(self) -> None:
        if self._columns_shown != columns_for(self.size.width):
            self.show(self.entries)

    def show(self, entries: Iterable[Entry]) -> None:
        """Show other runs, in columns for the width of now; the cursor stays on its run where that is still there."""
        current, entries = self.current, list(entries)
        self.clear(columns=True)
        self.entries = []
        self._columns_shown = columns_for(self.size.width)
        self.add_column("", width=len(MARK), key="mark")
        for column, width in self._columns_shown:
            self.add_column(Text(column.title, justify="right" if column.right else "left"), width=width)
        self.extend(entries)
        if current is not None:
            row = next((row for row, entry in enumerate(self.entries) if entry.id == current.id), 0)
            self.move_cursor(row=row, animate=False)

    def extend(self, entries: Iterable[Entry]) -> None:
        """Add older runs below."""
        for entry in entries:
            self.entries.append(entry)
            cells = [_cell(column, width, entry) for column, width in self._columns_shown]
            self.add_row(_mark(entry.id in self.marked), *cells, key=str(entry.id))

    def toggle_mark(self) -> None:
        """Mark or unmark the run under the cursor, and go on to the next."""
        if (entry := self.current) is not None:
            if self.marked.pop(entry.id, None) is None:
                self.marked[entry.id] = entry
            self.update_cell(str(entry.id), "mark", _mark(entry.id in self.marked))
            self.action_cursor_down()


def _mark(marked: bool) -> Text:
    return Text(MARK if marked else " ", "bold")


def _cell(column: Column, width: int, entry: Entry) -> Text:
    text = Text(visible(column.cell(entry)[: 4 * width]), justify="right" if column.right else "left", no_wrap=True)
    text.truncate(width, overflow="ellipsis")
    return text


def described(entry: Entry) -> Text:
    """A run in a few lines."""
    figures = entry.figures
    tokens = scalar(figures, "output_tokens")
    told: tuple[str, ...] = (
        "no tokens" if tokens is None else f"{tokens:.0f} tokens",
        f"{throughput(figures)} ({'measured' if entry.measured else 'live'})",
        f"acceptance {rate(scalar(figures, 'draft_acceptance_rate'))}",
    )
    if entry.kind == "comparison":
        told = (entry.verdict or "no verdict",)
    text = Text(f"run {entry.id} · {entry.method}", "bold", overflow="ellipsis", no_wrap=True, end="")
    text.append(f" · {entry.models} · {STATE_SIGNS[entry.state]} {entry.state}\n", "not bold")
    text.append(visible(" · ".join(told)) + "\n", "not bold")
    text.append(f"{datetime.fromtimestamp(entry.started_at):%Y-%m-%d %H:%M:%S}", "not bold")
    if entry.lossless is not None:
        word = "lossless" if entry.lossless else "not lossless"
        # Behind the date: of what stands last a narrow terminal shows the beginning alone.
        text.append(f" · {LAW_SIGNS[entry.lossless]} {entry.acceptance}: {word}. {entry.lossless_reason}", "not bold")
    text.append("\n")
    return text.append(visible(entry.prompt), "not bold")
