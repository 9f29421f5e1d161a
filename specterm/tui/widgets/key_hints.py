"""The last line: the keys that work now and what they do, as many as fit. It is one widget, where Textual's `Footer`
makes and styles one for each key at every change of the focus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from textual import events
from textual.binding import ActiveBinding
from textual.dom import DOMNode
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget

from specterm.tui.keymap import own_bindings


@dataclass(frozen=True, slots=True)
class Hint:
    """A key and what it does; `enabled` is whether it can do that now."""

    key: str
    shown: str
    description: str
    tooltip: str
    enabled: bool

    @property
    def width(self) -> int:
        """Cells, with the gap between the two."""
        return cell_len(self.shown) + 1 + cell_len(self.description)


class KeyHints(Widget):
    """The bindings of the screen and of what has the focus, each action once. A click does what the key does."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"key-hints--key", "key-hints--description", "key-hints--disabled"}
    ALLOW_SELECT = False
    DEFAULT_CSS = """
    KeyHints {
        dock: bottom;
        height: 1;
        color: $footer-foreground;
        background: $footer-background;
        & > .key-hints--key { color: $footer-key-foreground; text-style: bold; }
        & > .key-hints--description { color: $footer-description-foreground; }
        & > .key-hints--disabled { color: $footer-foreground; text-style: dim; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._hints: list[Hint] = []

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._bindings_changed)

    def _bindings_changed(self, screen: Screen[object]) -> None:
        if self.is_attached and screen is self.screen and self.app.app_focus:
            self.call_after_refresh(self._read_bindings)

    def _read_bindings(self) -> None:
        # The screen was left meanwhile, or a dialog stands over it: Textual would ask that one what can be done.
        if not self.is_attached or self.app.screen is not self.screen:
            return
        hints: dict[str, Hint] = {}
        for _, binding, enabled, tooltip in _as_declared(self.screen.active_bindings.values()):
            if binding.show and binding.action not in hints:
                shown = self.app.get_key_display(binding)
                hints[binding.action] = Hint(binding.key, shown, binding.description, tooltip, enabled)
        if (found := list(hints.values())) != self._hints:
            self._hints = found
            self.refresh()

    def hint_at(self, x: int) -> Hint | None:
        """What stands in column `x`; None where nothing does."""
        start = 1
        for hint in self._fitting():
            if start <= x < start + hint.width:
                return hint
            start += hint.width + 1
        return None

    def _fitting(self) -> list[Hint]:
        fitting, room = [], self.size.width - 1
        for hint in self._hints:
            if hint.width > room:
                break
            fitting.append(hint)
            room -= hint.width + 1
        return fitting

    def render_line(self, y: int) -> Strip:
        key, description, disabled = (
            self.get_component_rich_style(f"key-hints--{part}") for part in ("key", "description", "disabled")
        )
        segments = [Segment(" ", self.rich_style)]
        for hint in self._fitting():
            segments += (
                Segment(hint.shown, key if hint.enabled else disabled),
                Segment(f" {hint.description}", description if hint.enabled else disabled),
                Segment(" ", self.rich_style),
            )
        return Strip(segments).adjust_cell_length(self.size.width, self.rich_style)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        hint = self.hint_at(event.x)
        told = None if hint is None else hint.tooltip or hint.description
        if told != self.tooltip:
            self.tooltip = told

    def on_click(self, event: events.Click) -> None:
        hint = self.hint_at(event.x)
        if hint is None:
            return
        if hint.enabled:
            self.app.simulate_key(hint.key)
        else:
            self.app.bell()


def _as_declared(active: Iterable[ActiveBinding]) -> Iterator[ActiveBinding]:
    """The bindings of each node in the order in which its class declares them; Textual puts one that has another key
    by the keymap behind all others, where a narrow terminal cuts it off."""
    for node, bindings in groupby(active, key=lambda binding: binding.node):
        places = _places(type(node))
        yield from sorted(bindings, key=lambda binding: places.get(binding.binding.id or "", len(places)))


def _places(owner: type[DOMNode]) -> dict[str, int]:
    """The place of each binding of a class, by its id."""
    declared = [binding.id for base in reversed(owner.__mro__) for binding in own_bindings(base) if binding.id]
    return {name: place for place, name in enumerate(dict.fromkeys(declared))}
