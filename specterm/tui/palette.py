"""Every action in the command palette, with its keys: those of the workbench, of the screen in sight and its panes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, cast

from textual.app import App
from textual.binding import Binding
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.dom import DOMNode
from textual.screen import Screen
from textual.widget import Widget

from specterm.tui.keymap import own_bindings


class Keyed(Protocol):
    """An app that knows which keys a person changed."""

    keymap: dict[str, str]


@dataclass(frozen=True)
class Action:
    """One action: what it does, where, by which keys, and on which node."""

    title: str
    place: str
    keys: str
    name: str  # the id, by which the keymap knows it
    node: DOMNode
    action: str

    @property
    def help(self) -> str:
        """Keys, place and id on a line."""
        return f"{self.keys} · {self.place} · {self.name}"


class Actions(Provider):
    """Finds actions by what they do, by their keys and by their ids. What cannot be done now is left out."""

    async def discover(self) -> Hits:
        for action in self._actions():
            yield DiscoveryHit(action.title, lambda chosen=action: self._do(chosen), help=action.help)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for action in self._actions():
            score = max(matcher.match(action.title), matcher.match(action.keys), matcher.match(action.name))
            if score > 0:
                title = matcher.highlight(action.title)
                yield Hit(score, title, lambda chosen=action: self._do(chosen), help=action.help)

    async def _do(self, action: Action) -> None:
        if isinstance(action.node, Widget) and action.node.focusable:
            action.node.focus()
        await self.app.run_action(action.action, action.node)

    def _actions(self) -> Iterator[Action]:
        seen: set[str] = set()
        for node in (self.app, self.screen, *self.screen.query("*")):
            for owner in type(node).__mro__:
                for binding in own_bindings(owner) if issubclass(owner, DOMNode) else ():
                    # An action of the app or the screen that a pane offers too is told once.
                    action = f"screen.{binding.action}" if self._is_own(binding.action, node) else binding.action
                    if binding.id and binding.tooltip and action not in seen and self._possible(action, node):
                        seen.add(action)
                        yield self._described(binding, action, node)

    def _is_own(self, action: str, node: DOMNode) -> bool:
        """Whether it is an action of the screen that is named without saying so."""
        return node is self.screen and "." not in action.partition("(")[0]

    def _possible(self, action: str, node: DOMNode) -> bool:
        namespace, _, name = action.partition("(")[0].rpartition(".")
        owner = {"app": self.app, "screen": self.screen}.get(namespace, node)
        return bool(owner.check_action(name, ()))

    def _described(self, binding: Binding, action: str, node: DOMNode) -> Action:
        assert binding.id is not None
        changed = cast(Keyed, self.app).keymap.get(binding.id)
        keys = binding.key if changed is None else changed
        own = [other for other in own_bindings(type(node)) if other.id == binding.id] if changed is None else []
        shown = [self.app.get_key_display(other) for other in own] or keys.split(",")
        title = node.title if isinstance(node, (App, Screen)) else getattr(node, "border_title", None)
        place = str(title).partition(",")[0] if title else type(node).__name__
        return Action(binding.tooltip, place, " ".join(dict.fromkeys(shown)), binding.id, node, action)
