"""The last run as a file: text, Markdown in which marks tell the states, or the JSON of --json."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

import msgspec

from specterm.events import Event
from specterm.metrics import row_results
from specterm.report.figures import COLUMNS, NOT_MEASURED
from specterm.report.markdown import table
from specterm.tui.run_record import RunRecord
from specterm.tui.transcript import Transcript
from specterm.tui.widgets.token_store import HIDDEN_STATES, State
from specterm.tui.widgets.visible_text import visible, visible_lines

# Tags and not asterisks, which run together where one state follows another within a word.
_MARKS = {
    State.PLAIN: ("<i>", "</i>"),
    State.CORRECTION: ("<b>", "</b>"),
    State.BONUS: ("<u>", "</u>"),
    State.REJECTED: ("<s>", "</s>"),
    State.DRAFT: ("<s><i>", "</i></s>"),
}
_LEGEND = "<i>plain</i>, accepted, <b>correction</b>, <u>bonus</u>, <s>rejected</s>, <s><i>draft, not judged</i></s>"
_SPECIAL = re.compile(r"[\\`*_{}\[\]<>#|~$&!]|^[-+=]|(?<=^\d)[.)]|(?<=^\d\d)[.)]")


class _Spans:
    """A page that keeps what is written to it."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, State]] = []

    def append(self, text: str, state: State, part: int | None = None, index: int = 0) -> None:
        self.spans.append((text, state))


def _spans(events: Iterable[Event]) -> list[tuple[str, State]]:
    page = _Spans()
    transcript = Transcript(page, RunRecord())
    for event in events:
        transcript.observe(event)
    return page.spans


def as_text(events: Iterable[Event]) -> str:
    """Prompts and outputs as the stream shows them, without the rejected tokens."""
    return "".join(text for text, state in _spans(events) if state not in HIDDEN_STATES) + "\n"


def as_json(events: Iterable[Event]) -> str:
    """The object that --json prints."""
    return msgspec.json.encode({"runs": row_results(events)}).decode() + "\n"


def as_markdown(events: Sequence[Event]) -> str:
    """The text with marks for the states, rejected tokens too, and the figures of each row."""
    body = "".join(_marked(text, state) for text, state in _merged(_spans(events)))
    parts = ["# specterm", f"Prompt, then output: {_LEGEND}.", body]
    for result in row_results(events):
        known = [column for column in COLUMNS if result.metrics[column.key] is not None]
        rows = [[column.title, column.text(result.metrics[column.key])] for column in known]
        lossless = {True: "lossless", False: "not lossless", None: "lossless: not known"}[result.lossless]
        title = f"## {_escaped(result.configuration)}, {result.acceptance} ({lossless}), seed {result.seed}"
        parts += [
            title,
            *([result.lossless_reason] if result.lossless_reason else []),
            table(["figure", "value"], rows) if rows else NOT_MEASURED,
        ]
    return "\n\n".join(parts) + "\n"


FORMATS: dict[str, Callable[[Sequence[Event]], str]] = {"txt": as_text, "md": as_markdown, "json": as_json}
"""The formats by their suffix."""


def _merged(spans: Iterable[tuple[str, State]]) -> Iterator[tuple[str, State]]:
    for state, run in groupby(spans, key=lambda span: span[1]):
        yield "".join(text for text, _ in run), state


def _marked(text: str, state: State) -> str:
    """Model text of one state as Markdown that it cannot change: each line marked, spaces outside the marks."""
    begin, end = _MARKS.get(state, ("", ""))
    lines = [visible(text)] if state in HIDDEN_STATES else visible_lines(text)
    marked = []
    for number, line in enumerate(lines):
        core = line.strip()
        before = line[: len(line) - len(line.lstrip())]
        if number and core:  # Markdown drops what a line begins with, or takes it for code
            before = "&nbsp;" * len(before)
        after = line[len(line.rstrip()) :] if core else ""
        marked.append(f"{before}{begin}{_escaped(core)}{end}{after}" if core else before)
    return "  \n".join(marked)


def _escaped(text: str) -> str:
    return _SPECIAL.sub(lambda match: f"\\{match.group()}", text)
