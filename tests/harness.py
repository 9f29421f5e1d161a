"""Running the decode loop in a test, without an engine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from specterm.config import MethodSpec
from specterm.decoding.acceptance import RULES
from specterm.decoding.adaptive import AdaptiveLength
from specterm.decoding.drafters import build_drafter
from specterm.decoding.drafters.memory import DraftMemory
from specterm.decoding.drafters.setup import DraftSetup, adaptive_length
from specterm.decoding.loop import DecodeLoop, Settings
from specterm.decoding.ports import Detokenizer, Recording, Runner
from specterm.decoding.processing import Processing
from specterm.decoding.row import Prompt
from specterm.decoding.sampling import Warps, row_key
from specterm.events import Calibration, Event, Prefilled, Round, RowFinished, RowRound


@dataclass
class Decoded:
    """What a run gave: the events, and for each row its tokens, its text and its rounds."""

    events: list[Event] = field(default_factory=list)

    @property
    def finished(self) -> dict[int, RowFinished]:
        return {e.row: e for e in self.events if isinstance(e, RowFinished)}

    @property
    def ids(self) -> list[tuple[int, ...]]:
        done = self.finished
        return [done[row].token_ids for row in sorted(done)]

    @property
    def rounds(self) -> list[RowRound]:
        return [part for e in self.events if isinstance(e, Round) for part in e.rows]

    @property
    def states(self) -> list[str]:
        return [state for part in self.rounds for state in part.states]

    def pieces(self, row: int) -> Iterator[str]:
        for e in self.events:
            if isinstance(e, Prefilled) and e.row == row and e.token:
                yield e.token.text
            if isinstance(e, Round):
                yield from (t.text for part in e.rows if part.row == row for t in part.emitted)


class Numbers:
    """A detokenizer for tests: each id as a number and a space."""

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(f"{i} " for i in ids)

    def piece(self, token: int) -> str:
        return f"{token} "


def decode(
    target: Runner,
    prompts: Sequence[Sequence[int]],
    *,
    method: str = "naive",
    drafts: Sequence[Runner] = (),
    warps: Warps = Warps(0.0),
    max_tokens: int = 32,
    context: int | None = None,
    batch_size: int = 1,
    eos: Sequence[int] = (),
    stop: tuple[str, ...] = (),
    seeds: Sequence[int] | None = None,
    record: Recording = Recording(),
    detokenizer: Detokenizer | None = None,
    rule: Any = None,
    memory: DraftMemory | None = None,
    heads: Mapping[str, Any] | None = None,
    costs: Calibration | None = None,
    length: AdaptiveLength | None = None,
    processing: Processing = Processing(),
    reuse: bool = False,
    **parameters: Any,
) -> Decoded:
    """Decode `prompts` and collect everything."""
    if method == "draft":  # models of random weights are never sure
        parameters.setdefault("draft_confidence", 0.0)
    spec = MethodSpec(name=method, parameters=parameters).checked()
    setup = DraftSetup(
        target, tuple(drafts), warps, record, spec.parameters, memory or DraftMemory(), costs, heads or {}
    )
    drafter = build_drafter(method, setup)
    settings = Settings(
        warps, max_tokens, context or target.max_positions, frozenset(eos), stop, batch_size, record, processing
    )
    began = time.perf_counter()
    loop = DecodeLoop(
        target, drafter, rule or RULES["exact"](), detokenizer or Numbers(), settings,
        clock=lambda: time.perf_counter() - began, adaptive=length or adaptive_length(setup, drafter),
        reuse=reuse,
    )  # fmt: skip
    seeds = seeds or [0] * len(prompts)
    rows = [
        Prompt(i, f"p{i}", 0, seed, row_key(seed, ids), "", tuple(ids))
        for i, (ids, seed) in enumerate(zip(prompts, seeds, strict=True))
    ]
    try:
        return Decoded(list(loop.run(rows)))
    finally:
        drafter.close()
