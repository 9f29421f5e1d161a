"""Model text made safe to show: what would move the cursor, hide or reorder text becomes a visible sign.

Model output is untrusted. An ESC that reached the terminal could retitle windows or rewrite the screen, and a
bidirectional override could make text read as something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich.cells import cell_len

TAB = "    "  # a fixed width: the column of a token changes with every re-wrap, its text must not
NEWLINE_SIGN = "⏎"

# C0 and C1 controls, DEL, line and paragraph separators, bidirectional controls, surrogates.
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def _sign(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code == 0x09:
        return TAB
    if code < 0x20:
        return chr(0x2400 + code)  # the "control pictures" block
    if code == 0x7F:
        return "\u2421"
    return f"[U+{code:04X}]"


def visible(text: str) -> str:
    """`text` on one line, with every control character as a visible sign and tabs as four spaces."""
    if text.isprintable():
        return text
    return UNSAFE.sub(_sign, text.replace("\r\n", NEWLINE_SIGN).replace("\n", NEWLINE_SIGN))


def visible_lines(text: str) -> list[str]:
    """`text` split at its newlines, each line made visible; a text of n newlines gives n + 1 lines."""
    if text.isprintable():
        return [text]
    return [visible(line) for line in text.replace("\r\n", "\n").split("\n")]


def chunks(text: str, cells: int) -> Iterator[str]:
    """`text` in pieces of at most `cells` (2 or more) cells, each with the zero-width characters that join its last.

    More than 32 zero-width characters in a row, which no script needs, are cut.
    """
    start = base = 0  # of the piece; of the last character with a width
    for index, character in enumerate(text):
        if cell_len(character):
            base = index
        cut = 0
        if cell_len(text[start : index + 1]) > cells:
            cut = base
        elif index - start >= cells + 32:
            cut = index
        if cut > start:
            yield text[start:cut]
            start = cut
    if start < len(text):
        yield text[start:]
