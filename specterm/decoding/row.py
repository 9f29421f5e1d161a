"""One prompt on its way through the loop: what it has, what it may still emit, and how it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from specterm.decoding.text import TextStream
from specterm.decoding.timing import Phase
from specterm.events import EmittedToken, FinishReason, Origin, RowFinished, TimeShares


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is to be decoded. `row` numbers it in the run; `key` is the key of its random numbers."""

    row: int
    prompt_id: str
    repeat: int
    seed: int
    key: int
    text: str
    ids: tuple[int, ...]
    arrival_s: float = 0.0


class Row:
    """A prompt that has a place in the batch."""

    def __init__(
        self, prompt: Prompt, slot: int, stream: TextStream, *, max_output: int, by_context: bool, eos: frozenset[int]
    ) -> None:
        self.prompt = prompt
        self.slot = slot
        self.output: list[int] = []
        self.round = 0
        self.settled = 0  # tokens whose KV is in the target's cache for good, whatever the round that is going on does
        self.reason: FinishReason | None = None
        self.queued_s = 0.0  # from its arrival to its admission
        self.prefill_s = 0.0
        self.entered: Mapping[Phase, float] = {}  # what each phase had taken of the run when it was admitted
        self._stream = stream
        self._max_output = max_output
        self._by_context = by_context  # the context, not the caller, sets the limit
        self._eos = eos

    @property
    def root(self) -> int:
        """The last emitted token: it has no KV yet."""
        return self.output[-1]

    @property
    def committed(self) -> int:
        """Tokens whose KV is in the target's cache; also the absolute position of the root."""
        return len(self.prompt.ids) + len(self.output) - 1

    @property
    def draft_limit(self) -> int:
        """How deep a draft can be of use: the target adds one token of its own."""
        return max(0, self._max_output - len(self.output) - 1)

    def emit(
        self, tokens: Sequence[int], origins: Sequence[Origin], p: Sequence[float | None]
    ) -> tuple[EmittedToken, ...]:
        """Append tokens until one ends the row; returns what was emitted."""
        emitted, output, stream = [], self.output, self._stream
        for token, origin, probability in zip(tokens, origins, p, strict=True):
            output.append(token)
            piece = ""
            if token in self._eos:
                self.reason = "eos"
            else:
                piece = stream.push(token)
            if stream.stopped:
                self.reason = "stop"
            elif self.reason is None and len(output) >= self._max_output:
                self.reason = "context" if self._by_context else "length"
            if self.reason:
                piece += self._stream.finish()
            emitted.append(EmittedToken(token, piece, origin, probability))
            if self.reason:
                break
        return tuple(emitted)

    def end(self, reason: FinishReason) -> None:
        """End the row from outside."""
        self.reason = self.reason or reason

    def text_ahead(self, path: Sequence[int]) -> str:
        """The text that the last token of a drafted path would add."""
        return self._stream.ahead(path)

    def shares(self, totals: Mapping[Phase, float]) -> TimeShares:
        """Where its time went, from what each phase took of the run until the row was admitted and until now."""
        since = {phase: seconds - self.entered[phase] for phase, seconds in totals.items()}
        wait = self.queued_s + since["prefill"] - self.prefill_s
        return TimeShares(
            self.prefill_s, since["draft"], since["verify"], since["sampling"], since["other"], max(0.0, wait)
        )

    def finished(self, time: float, shares: TimeShares) -> RowFinished:
        """The row's last event."""
        assert self.reason is not None
        if self.reason in ("cancelled", "error"):
            self._stream.finish()
        kept = self._stream.kept_tokens() if self.reason == "stop" else len(self.output)
        return RowFinished(time, self.prompt.row, self.reason, self._stream.text, tuple(self.output[:kept]), shares)
