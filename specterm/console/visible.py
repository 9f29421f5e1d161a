"""Model text made safe for a terminal."""

from __future__ import annotations

import re

# Everything that moves the cursor, starts an escape sequence or reorders what follows; newline and tab stay.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ud800-\udfff]"
)


def visible(text: str) -> str:
    """`text` with control characters shown as pictures (␛) or code points (<U+009B>) instead of obeyed."""
    return _UNSAFE.sub(lambda match: _picture(ord(match.group())), text)


def escaped(document: str) -> str:
    """The same JSON, with what steers a terminal as escapes; JSON leaves only C1 and later characters as they are."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", document)


def _picture(code: int) -> str:
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"<U+{code:04X}>"
