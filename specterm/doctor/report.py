"""The doctor's findings as data, and how they look in a terminal."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from specterm.errors import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

Status: TypeAlias = Literal["ok", "note", "missing"]

_STYLES: dict[Status, str] = {"ok": "green", "note": "yellow", "missing": "bold red"}


@dataclass(frozen=True, slots=True)
class Line:
    """One finding. `advice` is what to do about it; `required` when specterm cannot run at all while it is missing."""

    name: str
    status: Status
    text: str
    advice: str = ""
    required: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """Findings that belong together."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything the doctor found."""

    sections: tuple[Section, ...]

    @property
    def lines(self) -> tuple[Line, ...]:
        """The findings of all sections."""
        return tuple(line for section in self.sections for line in section.lines)

    @property
    def can_run(self) -> bool:
        """Whether specterm can run here, if only on the processor and the built-in models."""
        return not any(line.required and line.status == "missing" for line in self.lines)

    @property
    def exit_code(self) -> ExitCode:
        """OK, or UNAVAILABLE where specterm cannot run at all."""
        return ExitCode.OK if self.can_run else ExitCode.UNAVAILABLE

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data for JSON."""
        return {"can_run": self.can_run, "sections": [asdict(section) for section in self.sections]}

    def render(self, console: Console) -> None:
        """Print the report; every status is a word, so that it reads without colour."""
        from rich.table import Table
        from rich.text import Text

        width = max((len(line.name) for line in self.lines), default=0)
        for section in self.sections:
            console.print(Text(section.title, style="bold"))
            table = Table.grid(padding=(0, 2, 0, 0))
            table.add_column(min_width=len("  missing"), no_wrap=True)
            table.add_column(min_width=width, no_wrap=True)
            table.add_column(overflow="fold")
            for line in section.lines:
                said = Text(line.text)
                if line.advice:
                    said.append(f"\n→ {line.advice}", style="dim")
                table.add_row(Text(f"  {line.status}", style=_STYLES[line.status]), line.name, said)
            console.print(table)
            console.print()
        counts = {status: sum(line.status == status for line in self.lines) for status in _STYLES}
        told = ", ".join(f"{count} {status}" for status, count in counts.items())
        verdict = "specterm can run here" if self.can_run else "specterm cannot run here"
        console.print(Text(f"{verdict} ({told})", style="bold" if self.can_run else "bold red"))
