"""Two stored runs side by side: their figures, and where their texts part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, TypeAlias

from rich.style import Style
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from specterm.events import Event, RowStarted
from specterm.history.archive import Entry
from specterm.metrics import RowResult, row_results
from specterm.report.figures import COLUMNS, NOT_MEASURED, Column
from specterm.tui.difference import DIFFERENCE, first_difference
from specterm.tui.model_names import short
from specterm.tui.screens.sized import SizedScreen
from specterm.tui.widgets.key_hints import KeyHints
from specterm.tui.widgets.visible_text import visible

Stored: TypeAlias = tuple[Entry, Sequence[Event]]

_CONTEXT = 60  # characters shown before the difference


class _Body(Static):
    """The drawn comparison."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "comparison--title",
        "comparison--label",
        "comparison--difference",
    }

    def __init__(self, left: Stored, right: Stored) -> None:
        super().__init__()
        self._entries = (left[0], right[0])
        self._prompts = tuple(_prompt(events) for _, events in (left, right))
        self._results = tuple(next(iter(row_results(events)), None) for _, events in (left, right))

    def on_mount(self) -> None:
        self.draw()

    def on_resize(self) -> None:
        self.draw()

    def draw(self) -> None:
        """Draw what is shown, in the colours of now."""
        text = Text()
        self._append_rows(text, [("run", *(str(entry.id) for entry in self._entries))], self._style("title"))
        told: list[tuple[str, ...]] = [
            (name, *(short(str(getattr(entry, name))) for entry in self._entries))
            for name in ("state", "method", "models")
        ]
        told.append(("figures", *("measured" if entry.measured else "live" for entry in self._entries)))
        marks = {True: "yes", False: "NO", None: NOT_MEASURED}
        told.append(("lossless", *(marks[result.lossless if result else None] for result in self._results)))
        self._append_rows(text, told)
        text.append("\n")
        for what, texts in (("prompts", self._prompts), ("outputs", self._outputs)):
            self._append_difference(text, what, *texts)
        text.append("\n")
        rows = [(column.title, *(_figure(result, column) for result in self._results)) for column in COLUMNS]
        self._append_rows(text, [row for row in rows if set(row[1:]) != {NOT_MEASURED}])
        self.update(text)

    @property
    def _outputs(self) -> tuple[str, ...]:
        return tuple("" if result is None else result.text for result in self._results)

    def _append_rows(self, text: Text, rows: Sequence[tuple[str, ...]], style: Style | None = None) -> None:
        """A name and a column a run."""
        label, width = self._style("label"), max(24, self.size.width)
        names = max(14, min(26, width // 3))
        column = min(34, (width - names) // 2)
        for name, *told in rows:
            text.append(_fitted(name, names), label)
            for cell in told:
                text.append(_fitted(cell, column, "right"), style)
            text.append("\n")

    def _append_difference(self, text: Text, what: str, left: str, right: str) -> None:
        label, difference = self._style("label"), self._style("difference")
        at = first_difference(left, right)
        if at is None:
            text.append(f"The {what} are the same ({len(left)} characters).\n", label)
            return
        text.append(f"The {what} differ from character {at + 1} on ({DIFFERENCE}):\n", label)
        for entry, told in zip(self._entries, (left, right), strict=True):
            start = max(0, at - _CONTEXT)
            text.append(f"run {entry.id}: ", label)
            text.append(("…" if start else "") + visible(told[start:at]))
            text.append(DIFFERENCE, difference)
            rest = visible(told[at : at + 1]) if told[at:] else "(ends here)"
            text.append(rest, difference)
            tail = told[at + 1 : at + 1 + 2 * _CONTEXT]
            text.append(visible(tail) + ("…" if len(told) > at + 1 + len(tail) else "") + "\n")

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(f"comparison--{name}", partial=True)


class RunComparison(SizedScreen[None]):
    """Figures and texts of two stored runs."""

    CSS_PATH = "run_comparison.tcss"
    HELP = """\
## Two runs

The figures of both, recomputed from their events; those marked live were taken while the screen was painted, so compare
them with care. **▶** stands where the two prompts, or the two outputs, differ for the first time.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,c", "app.pop_screen", "Back", id="comparison.back", tooltip="Back to the list of runs"),
    ]

    def __init__(self, left: Stored, right: Stored) -> None:
        super().__init__()
        self._body = _Body(left, right)

    def compose(self) -> ComposeResult:
        yield Static("specterm needs a terminal of at least 60 x 18", id="too-small")
        with VerticalScroll(id="comparison", can_focus=True):
            yield self._body
        yield KeyHints()


def _prompt(events: Sequence[Event]) -> str:
    return next((event.prompt for event in events if isinstance(event, RowStarted)), "")


def _figure(result: RowResult | None, column: Column) -> str:
    return NOT_MEASURED if result is None else column.text(result.metrics[column.key])


def _fitted(told: str, width: int, align: Literal["left", "right"] = "left") -> str:
    text = Text(visible(told))
    text.truncate(width - 1, overflow="ellipsis")
    text.align(align, width - 1)
    return text.plain + " "
