"""The beginning of a prompt that the target has seen already: a turn of a conversation repeats all turns before it.

What is kept are the keys and values that the last row left in cache row 0. They were computed in other widths than a
prefill's, so in low precision a reused prefix may differ from a computed one as any two forwards of different width do.
"""

from __future__ import annotations

from collections.abc import Sequence

from specterm.decoding.ports import Runner


class KeptPrefix:
    """The tokens whose keys and values stand at the beginning of cache row 0 of `target`.

    The cache itself says how many of its slots nobody has written since: a calibration, another batch or teacher
    forcing in between cannot go unnoticed.
    """

    def __init__(self, target: Runner) -> None:
        self._target = target
        self._ids: tuple[int, ...] = ()

    def take(self, prompt: Sequence[int]) -> int:
        """How many tokens at the beginning of `prompt` need no prefill; at least its last one does. They are given up:
        what follows writes behind them."""
        most = min(len(self._ids), self._target.intact(), len(prompt) - 1)
        shared = next((i for i in range(most) if self._ids[i] != prompt[i]), max(0, most))
        self._ids = ()
        return shared

    def keep(self, ids: Sequence[int]) -> None:
        """A row ended; `ids` are the tokens whose keys and values it leaves behind in cache row 0."""
        self._ids = tuple(ids)
        self._target.keep(len(self._ids))
