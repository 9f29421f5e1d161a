"""HTML that is escaped unless it was made here."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import TypeAlias

# What HTML cannot hold, and what would turn the direction of the text around it.
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_VOID = frozenset(("meta",))


class Html(str):
    """Text that is markup; every other text is content and will be escaped."""

    __slots__ = ()


Content: TypeAlias = str | Iterable[str]


def element(name: str, content: Content = "", /, **attributes: str | float | None) -> Html:
    """An element. An attribute's name has `_` for `-` and may end in `_` (`class_`); one of None is left out."""
    given = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None)
    told = "".join(f' {key}="{_attribute(value)}"' for key, value in given)
    if name in _VOID:
        return Html(f"<{name}{told}>")
    return Html(f"<{name}{told}>{joined(content)}</{name}>")


def joined(content: Content) -> Html:
    """Contents one after the other."""
    parts = (content,) if isinstance(content, str) else content
    return Html("".join(part if isinstance(part, Html) else escaped(part) for part in parts))


def escaped(text: str) -> Html:
    """Text from outside: shown, never obeyed."""
    return Html(html.escape(_UNFIT.sub("\ufffd", text)))


def _attribute(value: str | float) -> str:
    return escaped(value) if isinstance(value, str) else f"{value:.4g}"
