"""What models are called where there is little room."""

from __future__ import annotations

import re

_FOLDER = re.compile(r"(?<!\S)(?:~|\.{1,2})?/(?:[^/\s]+/)+([^/\s]+)")


def short(text: str) -> str:
    """`text` with each path to a folder as its last part: the beginning tells models apart least."""
    return _FOLDER.sub(r"…/\1", text)
