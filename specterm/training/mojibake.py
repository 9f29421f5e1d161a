"""Text that was written as UTF-8 and once read as cp1252, put right."""

from __future__ import annotations

import re

_STRAIGHT = {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'}
_CHARACTERS = "\u2018\u2019\u201c\u2013\u2014\u2026\u00a1\u00ab\u00bb\u00d7\u00f7\u00e1\u00e9\u00ed\u00f1\u00f3"


def _table() -> dict[str, str]:
    """What each character became, also in lower case: some texts were put into lower case afterwards.

    The last byte of a closing quotation mark is none in cp1252: it became a control character, or was lost.
    """
    found = {"\u00e2\u20ac\u009d": '"', "\u00e2\u20ac": '"'}
    for character in _CHARACTERS:
        scrambled = character.encode("utf-8").decode("cp1252")
        found[scrambled] = found[scrambled.lower()] = _STRAIGHT.get(character, character)
    return found


_REPAIRS = _table()
_PATTERN = re.compile("|".join(re.escape(text) for text in sorted(_REPAIRS, key=len, reverse=True)))


def unscrambled(text: str) -> str:
    """`text` with scrambled punctuation and letters put right; quotation marks become straight ones.

    Covers quotation marks, dashes, the ellipsis, the signs of times and division, and letters of Spanish and French.
    """
    return _PATTERN.sub(lambda found: _REPAIRS[found[0]], text)
