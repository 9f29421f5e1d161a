"""What is looked for in the history: words that narrow the list, and text that must occur."""

from __future__ import annotations

import re
from dataclasses import dataclass

STATES = ("done", "cancelled", "failed", "running", "interrupted")
_KEYS = ("method", "model", "state")
_KEY = re.compile(rf"(?:^|\s)({'|'.join(_KEYS)}):(\S+)")


@dataclass(frozen=True, slots=True)
class Query:
    """Runs whose method, models and state contain these words and whose prompt or output contains `text`; letters
    are compared without case. Empty fields match everything."""

    text: str = ""
    method: str = ""
    model: str = ""
    state: str = ""

    @classmethod
    def parse(cls, line: str) -> Query:
        """The query in a line such as "method:tree state:failed once upon": the text is what is left."""
        told = {match[1]: match[2] for match in _KEY.finditer(line)}
        return cls(text=" ".join(_KEY.sub(" ", line).split()), **told)
