"""The keys that a person chose for bindings, checked against the bindings there are."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Collection, Iterator, Mapping

from textual.binding import Binding, BindingsMap
from textual.dom import DOMNode

import specterm.tui.screens


def resolve(keymap: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """`keymap` as Textual is to have it, and what is wrong with it: ids that no binding has, and keys that two bindings
    of one pane have now."""
    if not keymap:
        return {}, []
    _import_screens()
    known = set(binding_ids())
    problems = [f"keymap: {name} is no binding; {_mend(name, known)}" for name in keymap if name not in known]
    full = {name: keys for name, keys in keymap.items() if name in known}
    for owner in _owners(DOMNode):
        bindings = own_bindings(owner)
        changed = [binding for binding in bindings if binding.id in keymap]
        for binding in bindings:
            rivals = [other for other in changed if other.id != binding.id and other.key == binding.key]
            if rivals and binding.id and binding.id not in full:
                full[binding.id] = binding.key  # Textual takes the key from all that share it
        problems += _clashes(bindings, changed, keymap)
    return full, problems


def _mend(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=3)
    return f"did you mean {' or '.join(near)}?" if near else "the palette (Ctrl+P) shows every action with its id"


def _clashes(bindings: list[Binding], changed: list[Binding], keymap: Mapping[str, str]) -> Iterator[str]:
    for binding in changed:
        assert binding.id is not None
        for key in keymap[binding.id].split(","):
            others = {other.id for other in bindings if key in keymap.get(other.id or "", other.key).split(",")}
            for other in sorted(other for other in others - {binding.id} if other):
                yield f"keymap: {key} is the key of {binding.id} and of {other}; choose another for one of them"


def binding_ids() -> list[str]:
    """The id of every binding of the workbench, its panes and its screens."""
    _import_screens()
    return sorted({binding.id for owner in _owners(DOMNode) for binding in own_bindings(owner) if binding.id})


def own_bindings(owner: type[DOMNode]) -> list[Binding]:
    """The bindings that a class of ours declares itself, one for each key."""
    if not owner.__module__.startswith("specterm."):
        return []
    declared = owner.__dict__.get("BINDINGS", ())
    return [binding for bindings in BindingsMap(declared).key_to_bindings.values() for binding in bindings]


def _owners(base: type[DOMNode]) -> Iterator[type[DOMNode]]:
    for owner in base.__subclasses__():
        yield owner
        yield from _owners(owner)


def _import_screens() -> None:
    for module in pkgutil.iter_modules(specterm.tui.screens.__path__, "specterm.tui.screens."):
        importlib.import_module(module.name)
