"""Tokens to text, one by one: characters split over tokens, and stop strings.

Text is decoded in a short window, so a token costs the same wherever it stands, and the context of a piece (the space
before a word in SentencePiece vocabularies) is kept. A piece that ends in an incomplete character, or in what may
become a stop string, is held until a later token settles it.
"""

from __future__ import annotations

from collections.abc import Sequence

from specterm.decoding.ports import Detokenizer

_INCOMPLETE = "\ufffd"
_CONTEXT = 6  # tokens of context before a piece
_UNSETTLED = 1 << 62
_WINDOW = 24  # tokens that are decoded at once; twice as many while a character is incomplete


class TextStream:
    """The text of one row, as it grows."""

    def __init__(self, detokenizer: Detokenizer, prompt_ids: Sequence[int], stop: Sequence[str] = ()) -> None:
        self._detokenizer = detokenizer
        self._stop = tuple(stop)
        self._window = list(prompt_ids[-_CONTEXT:])
        before = detokenizer.decode(self._window)
        self._shown = len(before)  # characters of the window's text that were taken
        self._torn = before.endswith(_INCOMPLETE)  # the prompt ends within a character, and nothing follows yet
        self._held = ""  # decoded, but perhaps the beginning of a stop string
        self._decoded = 0  # characters decoded so far, held ones included
        self._ends: list[int] = []  # that count once each token's last character was complete
        self._open = 0  # tokens at the end whose last character is not
        self.text = ""  # released so far
        self.stopped = False

    def push(self, token: int) -> str:
        """Add a token; returns the text that is now certain, perhaps none. `stopped` tells of a stop string."""
        self._window.append(token)
        piece = None if self._open or len(self._window) >= _WINDOW else self._detokenizer.piece(token)
        self._torn = self._torn and piece == ""  # a special token, which has no text
        if piece is None:
            return self._release(self._take(flush=False))
        self._shown += len(piece)
        self._decoded += len(piece)
        self._ends.append(self._decoded)
        return self._release(piece)

    def finish(self) -> str:
        """The end: what was held is text after all."""
        if self.stopped:
            return ""
        rest = self._held + self._take(flush=True)
        self._held = ""
        self.text += rest
        return rest

    def kept_tokens(self) -> int:
        """How many of the tokens pushed lie wholly before a stop string."""
        if not self.stopped:
            return len(self._ends)
        return sum(1 for end in self._ends if end <= len(self.text))

    def ahead(self, path: Sequence[int]) -> str:
        """What the last token of `path` would add if the tokens of `path` came next. Nothing is kept."""
        if path and not self._open and not self._torn:
            pieces = [self._detokenizer.piece(token) for token in path]
            if None not in pieces:
                return pieces[-1] or ""
        before = self._detokenizer.decode([*self._window, *path[:-1]]).rstrip(_INCOMPLETE)
        after = self._detokenizer.decode([*self._window, *path]).rstrip(_INCOMPLETE)
        return after[len(before) :]

    def _take(self, flush: bool) -> str:
        """The text of the window that is complete and was not taken yet.

        Incomplete bytes at the end are held; when they fill a window and become no character, they are text.
        """
        decoded = self._detokenizer.decode(self._window)
        full = len(self._window) >= (2 * _WINDOW if decoded.endswith(_INCOMPLETE) else _WINDOW)
        complete = decoded if flush or full else decoded.rstrip(_INCOMPLETE)
        piece = complete[self._shown :]
        self._shown += len(piece)
        if full:
            self._window = self._window[-_CONTEXT:]
            self._shown = len(self._detokenizer.decode(self._window))
        self._decoded += len(piece)
        if not flush:
            self._ends.append(_UNSETTLED)
            self._open += 1
        if len(complete) == len(decoded):
            self._ends[len(self._ends) - self._open :] = [self._decoded] * self._open
            self._open = 0
        return piece

    def _release(self, piece: str) -> str:
        if not self._stop:
            self.text += piece
            return piece
        text = self._held + piece
        found = [at for at in (text.find(stop) for stop in self._stop) if at >= 0]
        if found:
            self.stopped = True
            released, self._held = text[: min(found)], ""
        else:
            keep = max((_overlap(text, stop) for stop in self._stop), default=0)
            released, self._held = text[: len(text) - keep], text[len(text) - keep :]
        self.text += released
        return released


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop` without completing it."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
