"""What is said for the command line, in the words of the screen: there a setting is a field with a title."""

from __future__ import annotations

import re
from collections.abc import Iterable

from specterm.catalogue import METHODS, RULES, SAMPLING, Parameter
from specterm.catalogue.models import LOADING, NAMES

SETTINGS = "Settings, F4"
MODELS = "Models, F12"
_FLAG = re.compile(r"--[a-z][a-z0-9-]*")


def on_screen(text: str, parameters: Iterable[Parameter] = ()) -> str:
    """`text` with its flags as the titles of their fields, those of `parameters` too; a flag without a field stays."""
    if _FLAG.search(text) is None:
        return text
    titles = {flag: title for flag, (title, _) in _fields().items()} | {p.flag: p.title for p in parameters}
    return _FLAG.sub(lambda found: titles.get(found[0], found[0]), text)


def advised(advice: str, place: str = "", *, here: str = "") -> str:
    """Advice in the words of the screen, and where to follow it: where the fields that it names are, else `place`; what
    is `here` goes without saying."""
    fields = _fields()
    places = dict.fromkeys(fields[flag][1] for flag in _FLAG.findall(advice) if flag in fields)
    told = "; ".join(found for found in places if found != here) or place
    return on_screen(advice) + (f" ({told})" if told else "")


def _fields() -> dict[str, tuple[str, str]]:
    """The title of the field of each flag, and the pane that it is in."""
    found = {"--method": ("method", SETTINGS), "--acceptance": ("acceptance", SETTINGS), "--draft": ("draft", MODELS)}
    found |= {parameter.flag: (parameter.title, MODELS) for parameter in (*NAMES, *LOADING)}
    of_methods = (parameter for method in METHODS.values() for parameter in method.parameters)
    of_rules = (parameter for rule in RULES.values() for parameter in rule.parameters)
    return found | {p.flag: (p.title, SETTINGS) for p in (*SAMPLING, *of_rules, *of_methods)}
