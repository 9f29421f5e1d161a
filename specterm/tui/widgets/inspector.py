"""The inspector: everything recorded about the token under the cursor."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from specterm.tui.run_record import RunRecord
from specterm.tui.widgets.inspector_text import Look, TokenReport
from specterm.tui.widgets.token_log import COMPONENT

_PARTS = ("label", "value", "head", "bar")
_NOTHING = "No token is chosen: go to the stream with F3 and press i, or click on a token."


class _InspectorText(Static):
    """The drawn lines."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {*COMPONENT.values(), *(f"inspector--{part}" for part in _PARTS)}


class Inspector(VerticalScroll, can_focus=True):
    """The token under the cursor of the stream."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "a",
            "screen.toggle_alternatives",
            "Alternatives",
            id="inspector.alternatives",
            tooltip="Let the next run record the likeliest tokens of target and drafter",
        ),
    ]
    HELP = """\
## Inspector

The token under the cursor: its origin, round and depth in the draft; **p**, the target's probability, and **q**, the
drafter's (or 1 for a fixed child, with the drafter's own **confidence**); what was refused in its place; the likeliest
tokens of both there; and the whole draft tree of its round. In the tree the accepted path keeps its column and other
branches stand to its right: ✓ accepted, ✗ rejected, · not judged, ✂ cut by the end of the output, + the target's own.
**a** has the next run record the likeliest tokens.
"""

    def __init__(self, record: RunRecord, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._text = _InspectorText()
        self.border_title = "Inspector"
        self._record = record
        self._token: tuple[int, int] | None = None

    def compose(self) -> ComposeResult:
        yield self._text

    def on_resize(self) -> None:
        self.draw()

    def show(self, token: tuple[int, int] | None) -> None:
        """Show a token, named by its part in the record and its index there; None: there is none."""
        if token is None or self._token is None or token[0] != self._token[0]:
            self.scroll_home(animate=False)
        self._token = token
        self.draw()

    def show_recording(self, alternatives: bool) -> None:
        """Say whether the next run records alternatives."""
        self.border_subtitle = "alternatives in the next run" if alternatives else ""

    def draw(self) -> None:
        """Draw what is shown, in the colours of now."""
        width = self.scrollable_content_region.width
        if not self.display or width <= 0:
            return
        style = self._text.get_component_rich_style
        if self._token is None or self._token[0] >= len(self._record):
            self._text.update(Text(_NOTHING, style("inspector--label", partial=True)))
            return
        look = Look(
            {state: style(name, partial=True) for state, name in COMPONENT.items()},
            *(style(f"inspector--{part}", partial=True) for part in _PARTS),
        )
        report = TokenReport(self._record, *self._token, look, width)
        self._text.update(Text("\n", no_wrap=True).join(report.lines))
