"""The generated text as the rounds arrive: coloured by origin, or plain."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO

from rich.console import Console
from rich.text import Text

from specterm.console.visible import visible
from specterm.events import (
    EmittedToken,
    Event,
    LoadProgress,
    Notice,
    Prefilled,
    Round,
    RowFinished,
    RowRound,
    RunFinished,
)

# An attribute besides the colour for each state, so that they stay apart without colours; the commonest has none.
STYLES = {
    "plain": "italic",
    "accepted": "green",
    "correction": "bold yellow",
    "bonus": "underline cyan",
    "rejected": "strike dim red",
}


def legend(*, rejected: bool) -> Text:
    """One line that says what the styles mean."""
    states = [state for state in STYLES if rejected or state != "rejected"]
    line = Text().append("legend: ", "dim")
    for state in states:
        line.append(state, STYLES[state]).append("  ")
    return line


class ColouredStream:
    """Writes each piece of text in the style of its origin as soon as its round is over.

    `rejected` shows the refused draft tokens in their place too; the rounds must then carry their texts.
    """

    def __init__(self, console: Console, *, rejected: bool = False) -> None:
        self._console = console
        self._rejected = rejected

    def observe(self, event: Event) -> None:
        """Write what the event adds."""
        line = Text()
        match event:
            case Prefilled(token=EmittedToken() as token):
                _append(line, token)
            case Round():
                for row in event.rows:
                    self._append_row(line, row)
            case RowFinished():
                line.append("\n")
        if line.plain:
            self._console.print(line, end="", soft_wrap=True, highlight=False)

    def _append_row(self, line: Text, row: RowRound) -> None:
        refused = "".join(row.texts[node] for node in row.refused) if row.texts else ""
        for token in row.emitted:
            if self._rejected and refused and token.origin == "correction":
                line.append(visible(refused), STYLES["rejected"])
            _append(line, token)


class PlainStream:
    """Writes the output exactly, and nothing else. On a terminal it ends the line, for the shell's next prompt, and
    what would steer the terminal is made visible."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._shown: Callable[[str], str] = visible if file.isatty() else str

    def observe(self, event: Event) -> None:
        """Write what the event adds."""
        match event:
            case Prefilled(token=EmittedToken() as token):
                self._write(token.text)
            case Round():
                self._write("".join(token.text for row in event.rows for token in row.emitted))
            case RowFinished() if self._file.isatty():
                self._write("\n")

    def _write(self, text: str) -> None:
        if text:
            self._file.write(self._shown(text))
            self._file.flush()


class Narration:
    """Says on standard error what a person should know while waiting: loading stages (on a terminal) and notices.

    What comes while a row's text is being written waits for its end, so that it does not break a line of it.
    """

    def __init__(self, console: Console, *, stages: bool) -> None:
        self._console = console
        self._stages = stages and console.is_terminal
        self._stage = ""
        self._rows: set[int] = set()  # those whose text is being written
        self._waiting: list[Notice] = []

    def observe(self, event: Event) -> None:
        """Say what the event tells."""
        if isinstance(event, LoadProgress) and self._stages and event.stage != self._stage:
            self._stage = event.stage
            self._console.print(Text(visible(event.stage), "dim"), soft_wrap=True)
        match event:
            case Notice():
                self._waiting.append(event)
            case Prefilled():
                self._rows.add(event.row)
            case RowFinished():
                self._rows.discard(event.row)
            case RunFinished():
                self._rows.clear()
        if not self._rows:
            for notice in self._waiting:
                self._say(notice)
            self._waiting.clear()

    def _say(self, notice: Notice) -> None:
        level = "note" if notice.level == "info" else notice.level
        text = f"specterm: {level}: {notice.text}" + (f"; {notice.advice}" if notice.advice else "")
        self._console.print(Text(visible(text)), soft_wrap=True)


def _append(line: Text, token: EmittedToken) -> None:
    line.append(visible(token.text), STYLES[token.origin])
