"""The figures of the run: live ones are called live, because the painting of the screen costs the engine time."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import ClassVar, TypeAlias

from rich.style import Style
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from specterm.metrics import Figure
from specterm.metrics.verdict import Verdict
from specterm.tui.screen_words import SETTINGS, advised
from specterm.tui.widgets.device_text import NOT_MEASURED
from specterm.tui.widgets.steady_text import SteadyText
from specterm.tui.widgets.visible_text import visible

Figures: TypeAlias = Mapping[str, Figure]

_GAP = 4  # between two columns
_TWO_COLUMNS = 38  # the width from which there are two
_COMPONENTS = {"figures--label", "figures--value", "figures--key", "figures--verdict"}


def scalar(figures: Figures, name: str) -> float | None:
    """A figure that is one number; None where it was not measured."""
    value = figures.get(name)
    return value if isinstance(value, (int, float)) else None


def seconds(value: float | None) -> str:
    """A duration in s or ms."""
    if value is None:
        return NOT_MEASURED
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.1f} ms"


def number(value: float | None, digits: int = 0) -> str:
    """A number with `digits` decimals."""
    return NOT_MEASURED if value is None else f"{value:.{digits}f}"


def rate(value: float | None) -> str:
    """A fraction in percent."""
    return NOT_MEASURED if value is None else f"{100 * value:.1f} %"


def throughput(figures: Figures) -> str:
    """Tokens a second."""
    value = scalar(figures, "throughput_tok_s")
    return NOT_MEASURED if value is None else f"{value:.1f} tok/s"


def panel_pairs(figures: Figures) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """The figures below the throughput with their names, two a row, in reading order."""

    def get(name: str) -> float | None:
        return scalar(figures, name)

    return [
        (("TTFT", seconds(get("ttft_s"))), ("TPOT", seconds(get("tpot_s")))),
        (("tokens", number(get("output_tokens"))), ("latency", seconds(get("latency_s")))),
        (("rounds", number(get("rounds"))), ("mean length", number(get("mean_acceptance_length"), 2))),
        (("acceptance", rate(get("draft_acceptance_rate"))), ("wastage", rate(get("token_wastage")))),
    ]


def phase_shares(figures: Figures) -> list[tuple[str, float]]:
    """The shares of a round's time; empty while there was no round. What is neither drafting nor the target's forward
    is one part, as in the verdict."""
    parts = {"draft": ("draft",), "verify": ("verify",), "other": ("sampling", "other")}
    sums = {name: sum(scalar(figures, f"{own}_time_s") or 0.0 for own in owns) for name, owns in parts.items()}
    total = sum(sums.values())
    return [(name, value / total) for name, value in sums.items()] if total > 0 else []


def _styles(widget: Static) -> tuple[Style, Style, Style]:
    style = widget.get_component_rich_style
    return (
        style("figures--label", partial=True),
        style("figures--value", partial=True),
        style("figures--key", partial=True),
    )


class _FiguresText(SteadyText):
    """The drawn table."""

    COMPONENT_CLASSES: ClassVar[set[str]] = _COMPONENTS


class FiguresPanel(VerticalScroll, can_focus=True):
    """The figures as a table."""

    HELP = """\
## Figures

Acceptance rate = accepted / drafted. Mean acceptance length = output tokens after the first / rounds. TTFT is the time
to the first token, TPOT the time for each one after it. Figures marked **live** were taken while the screen was being
painted; **m** paints less. **Reused** n of m: the target had seen n of the m prompt tokens already, so that TTFT is
that of the others.

A line with **!** says that speculation loses against naive, or that there was nothing to draft, why, and what to try.
Break-even is the acceptance length at which a round pays for itself: its time over that of a naive step, which is
estimated from the measurement that is made when the models are loaded.
"""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._text = _FiguresText()
        self.border_title = "Figures"
        self._figures: Figures = {}
        self._verdict: Verdict | None = None

    def compose(self) -> ComposeResult:
        yield self._text

    def on_resize(self) -> None:
        self.draw()

    def show(self, figures: Figures, kind: str, verdict: Verdict | None) -> None:
        """Show figures; `kind` is a word for the title ("live", "final"). A verdict stands above them."""
        self._figures, self._verdict = figures, verdict
        self.border_title = f"Figures · {kind}" if kind else "Figures"
        self.draw()

    def draw(self) -> None:
        """Draw what is shown, in the colours of now."""
        width = self.scrollable_content_region.width
        if not self.display or width <= 0:
            return
        drawn = self._text
        label, value, key = _styles(drawn)
        text = Text(no_wrap=True)
        if self._verdict is not None:
            style = drawn.get_component_rich_style("figures--verdict", partial=True)
            told = f"! {self._verdict.text}; {advised(self._verdict.advice, SETTINGS)}"
            for line in textwrap.wrap(told, width, break_on_hyphens=False):
                text.append(f"{line}\n", style)
        name, value_text = "throughput", throughput(self._figures)
        text.append(name, label).append(value_text.rjust(width - len(name)), key)
        pairs = panel_pairs(self._figures)
        rows = pairs if width >= _TWO_COLUMNS else [(figure,) for pair in pairs for figure in pair]
        for row in rows:
            column = (width - _GAP * (len(row) - 1)) // len(row)
            text.append("\n")
            for place, (name, told) in enumerate(row):
                text.append(" " * (width - 2 * column) if place else "")
                text.append(name, label)
                text.append(told.rjust(column - len(name)), value)
        counts = [(name, number(scalar(self._figures, name))) for name in ("drafted", "accepted", "rejected")]
        shares = [(name, f"{share:.0%}") for name, share in phase_shares(self._figures)]
        for parts in (counts, shares or [("draft, verify, other time", NOT_MEASURED)]):
            text.append("\n")
            for index, (name, told) in enumerate(parts):
                part = Text.assemble((f"{name} ", label), (told, value))
                if index:
                    text.append("  " if width >= _TWO_COLUMNS else "\n")
                text.append_text(part)
        drawn.draw_lines(text)


class FiguresBar(Static):
    """The figures on one line, for small terminals; those that do not fit are left out."""

    COMPONENT_CLASSES: ClassVar[set[str]] = _COMPONENTS

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__("", id=id)
        self._figures: Figures = {}
        self._kind = ""
        self.label = ""  # of the run's setting
        self._verdict: Verdict | None = None

    def on_resize(self) -> None:
        self.draw()

    def show(self, figures: Figures, kind: str, verdict: Verdict | None) -> None:
        """Show figures; `kind` is a word that stands before them, and a verdict comes first."""
        self._figures, self._kind, self._verdict = figures, kind, verdict
        self.draw()

    def draw(self) -> None:
        """Draw what is shown, in the colours of now."""
        if not self.display or not self.size.width:
            return
        label, value, key = _styles(self)

        def get(name: str) -> float | None:
            return scalar(self._figures, name)

        text = Text(no_wrap=True)
        if self._verdict is not None:
            text.append(f"! {self._verdict.short}", self.get_component_rich_style("figures--verdict", partial=True))
            text.append("  ")
        if self._kind:
            text.append(self._kind + "  ", label)
        told = throughput(self._figures)
        text.append("tok/s " if told == NOT_MEASURED else "", label).append(told, key)
        drafted = get("drafted")
        counts = NOT_MEASURED if drafted is None else f"{number(get('accepted'))}/{number(drafted)}"
        parts = [
            ("accept", rate(get("draft_acceptance_rate"))),
            ("length", number(get("mean_acceptance_length"), 2)),
            ("of", visible(self.label)),
            ("tokens", number(get("output_tokens"))),
            ("TTFT", seconds(get("ttft_s"))),
            ("rounds", number(get("rounds"))),
            ("accepted", counts),
            ("rejected", number(get("rejected"))),
        ]
        for name, told in parts:
            if told and text.cell_len + len(name) + len(told) + 3 <= self.size.width - 2:
                text.append(f"  {name} ", label)
                text.append(told, value)
        self.update(text, layout=False)
