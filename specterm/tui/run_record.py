"""The rounds that the stream shows, kept compactly so that each of its tokens can be inspected later.

A *part* is what one row did in one round (or in its prefill). Parts are numbered in the order in which the stream
shows them. What every surface needs of a part stands in flat arrays; the event itself is kept as bytes, which cost the
collector nothing, and only as far as `MAX_DETAIL_BYTES` reach: older parts keep their summary and lose their detail.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import msgspec

from specterm.catalogue import METHODS, RULES
from specterm.events import EmittedToken, Loaded, ModelInfo, Prefilled, Round, RowRound
from specterm.tui.model_names import short

MAX_DETAIL_BYTES = 64 * 2**20
"""About 150,000 rounds of four draft tokens with their probabilities, or 2,000 of 64 with alternatives."""

_NO_ROUND = 0xFFFFFFFF
_MOST = 0xFFFF


class Outcome(IntEnum):
    """How a part's draft fared."""

    PREFILL = 0
    NO_DRAFT = 1
    ZERO = 2
    PARTIAL = 3
    FULL = 4


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a run was decoded with, as far as its first event says. `drafters` are in the order of the source bits.

    `ratio_test`: the rule keeps a token with probability min(1, p/q). `trace` is None where it is not known.
    """

    drafters: tuple[str, ...] = ()
    ratio_test: bool = False
    greedy: bool = False
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One row's part in one round, in short. `round` counts from 1; it is None for the prefill. `depth` is that of the
    deepest draft token, `seconds` the whole round's."""

    run: int
    row: int
    round: int | None
    rounds: int  # of the run, so far
    drafted: int
    accepted: int
    depth: int
    own: str | None  # the origin of the target's own token, where there is one
    outcome: Outcome
    seconds: float

    def told(self) -> str:
        """The part on one line."""
        took = f"{1000 * self.seconds:.1f} ms"
        if self.round is None:
            return f"prefill, {took}"
        if not self.drafted:
            return f"round {self.round}: no draft, {took}"
        own = f", +1 {self.own}" if self.own else ""
        return f"round {self.round}: {self.accepted} of {self.drafted} accepted{own}, {took}"


class RunRecord:
    """The parts of the runs in the stream."""

    def __init__(self, max_detail_bytes: int = MAX_DETAIL_BYTES) -> None:
        self._max_detail_bytes = max_detail_bytes
        self._loaded: Loaded | None = None
        self._facts = [RunFacts()]
        self._rounds_of = [0]
        self.clear()

    def clear(self) -> None:
        """Forget every part; a run that goes on begins at part 0."""
        self._details: list[bytes | None] = []
        self._detail_bytes = 0
        self._dropped = 0
        self._runs = array("I")
        self._rows = array("I")
        self._rounds = array("I")
        self._drafted = array("H")
        self._accepted = array("H")
        self._depths = array("H")
        self._owns = bytearray()
        self._outcomes = bytearray()
        self._seconds = array("f")

    def __len__(self) -> int:
        return len(self._runs)

    def load(self, loaded: Loaded) -> None:
        """Take note of the models of the run that follows."""
        self._loaded = loaded

    def start_run(self, spec: Mapping[str, Any]) -> None:
        """A run begins; `spec` is that of its `RunStarted`."""
        self._facts.append(_facts(spec, self._loaded))
        self._rounds_of.append(0)
        self._loaded = None

    def add_prefill(self, event: Prefilled) -> int:
        """Keep a prefill; returns the number of its part."""
        return self._add(event, event.row, _NO_ROUND, 0, 0, 0, "plain", Outcome.PREFILL, event.seconds)

    def add_round(self, event: Round, row: RowRound) -> int:
        """Keep what `row` did in a round; returns the number of its part."""
        own = row.emitted[-1].origin if row.emitted and row.emitted[-1].origin != "accepted" else ""
        accepted = row.states.count("accepted")
        if not row.tokens:
            outcome = Outcome.NO_DRAFT
        elif not accepted:
            outcome = Outcome.ZERO
        else:
            outcome = Outcome.PARTIAL if own == "correction" else Outcome.FULL
        run = len(self._facts) - 1
        self._rounds_of[run] = max(self._rounds_of[run], event.index + 1)
        alone = event if len(event.rows) == 1 else replace(event, rows=(row,))
        depth = max(depths(row.parents), default=0)
        return self._add(
            alone, row.row, event.index, len(row.tokens), accepted, depth, own, outcome, event.seconds
        )  # fmt: skip

    def _add(
        self,
        event: Round | Prefilled,
        row: int,
        index: int,
        drafted: int,
        accepted: int,
        depth: int,
        own: str,
        outcome: Outcome,
        seconds: float,
    ) -> int:
        try:
            detail = msgspec.msgpack.encode(event)
        except UnicodeEncodeError:  # half a character in a text: the summary is kept alone
            detail = None
        self._details.append(detail)
        self._detail_bytes += len(detail or b"")
        while self._detail_bytes > self._max_detail_bytes and self._dropped < len(self._details):
            oldest = self._details[self._dropped]
            self._detail_bytes -= len(oldest or b"")
            self._details[self._dropped] = None
            self._dropped += 1
        self._runs.append(len(self._facts) - 1)
        self._rows.append(row)
        self._rounds.append(index)
        self._drafted.append(min(drafted, _MOST))
        self._accepted.append(min(accepted, _MOST))
        self._depths.append(min(depth, _MOST))
        self._owns.append(_OWN.index(own))
        self._outcomes.append(outcome)
        self._seconds.append(seconds)
        return len(self) - 1

    def part(self, number: int) -> Part:
        """The summary of a part."""
        index = self._rounds[number]
        return Part(
            run=self._runs[number],
            row=self._rows[number],
            round=None if index == _NO_ROUND else index + 1,
            rounds=self._rounds_of[self._runs[number]],
            drafted=self._drafted[number],
            accepted=self._accepted[number],
            depth=self._depths[number],
            own=_OWN[self._owns[number]] or None,
            outcome=Outcome(self._outcomes[number]),
            seconds=self._seconds[number],
        )

    def facts(self, number: int) -> RunFacts:
        """What the run of a part was decoded with."""
        return self._facts[self._runs[number]]

    def detail(self, number: int) -> RowRound | EmittedToken | None:
        """What a row did in a round, or the token of a prefill; None where the detail was dropped."""
        detail = self._details[number]
        if detail is None:
            return None
        if self._rounds[number] == _NO_ROUND:
            return msgspec.msgpack.decode(detail, type=Prefilled).token
        return msgspec.msgpack.decode(detail, type=Round).rows[0]

    def root(self, number: int) -> EmittedToken | None:
        """The token that the draft of a part hangs from: the last one of the part before; None where not known."""
        if number == 0 or self._runs[number - 1] != self._runs[number] or self._rows[number - 1] != self._rows[number]:
            return None
        before = self.detail(number - 1)
        if isinstance(before, RowRound):
            return before.emitted[-1] if before.emitted else None
        return before


_OWN = ("", "plain", "correction", "bonus")


def depths(parents: tuple[int, ...]) -> list[int]:
    """The depth of each node, from 1; parents come before their children."""
    found: list[int] = []
    for parent in parents:
        found.append(1 if parent < 0 else found[parent] + 1)
    return found


def accepted_path(row: RowRound) -> list[int]:
    """The nodes that the target took, from the root down, with those that the row's end cut."""
    return [node for node, state in enumerate(row.states) if state in ("accepted", "cut")]


def _facts(spec: Mapping[str, Any], loaded: Loaded | None) -> RunFacts:
    method = METHODS.get(spec.get("method", {}).get("name", ""))
    sampling = spec.get("sampling", {})
    rule = RULES.get(sampling.get("acceptance", ""))
    asked = tuple(map(short, spec.get("model", {}).get("drafts", ())))
    names = _names(loaded.drafts) if loaded is not None else asked
    return RunFacts(
        drafters=() if method is None else names[: method.max_drafts] or (method.title,),
        ratio_test=rule is not None and rule.ratio_test,
        greedy=sampling.get("temperature") == 0.0,
        trace=spec.get("trace"),
    )


def _names(models: tuple[ModelInfo, ...]) -> tuple[str, ...]:
    """The names of the models, told apart by their size where two have the same."""
    names = [short(model.name) for model in models]
    return tuple(
        f"{name} ({model.parameters / 1e6:.1f}M)" if names.count(name) > 1 else name
        for name, model in zip(names, models, strict=True)
    )
