"""The decode loop: one for every method, batched over rows with ragged acceptance.

A round: the drafter proposes a tree for each row, the target judges roots and nodes in one forward pass, the rule says
which path is kept and which token follows, the target commits the path, the drafter learns what really happened. Naive
decoding is the round with empty trees. A row that ends makes room for the next waiting prompt.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specterm.decoding.adaptive import AdaptiveLength, RowDraft
from specterm.decoding.kept_prefix import shared
from specterm.decoding.ports import (
    Admission,
    Block,
    Detokenizer,
    Drafter,
    Feedback,
    Judging,
    ProposeRow,
    RecallsPrompts,
    Recording,
    Rule,
    Runner,
)
from specterm.decoding.prefill import computing_with, prefill
from specterm.decoding.processing import LogitsProcessor, Processing
from specterm.decoding.readback import Outcome, read_outcomes, step_outcome
from specterm.decoding.row import Prompt, Row
from specterm.decoding.sampling import Warps
from specterm.decoding.stride_ports import Step
from specterm.decoding.striding import Striding
from specterm.decoding.telling import Teller
from specterm.decoding.text import TextStream
from specterm.decoding.timing import PhaseTimer
from specterm.decoding.tree import DraftTree
from specterm.events import Alternatives, Event, Notice, Prefilled, Round, RowRound, RowStarted

_ARRIVAL_POLL_S = 0.02
_MOST_ROUNDS = 16  # that are done together


@dataclass(frozen=True, slots=True)
class Settings:
    """How to decode. `context` is the number of positions that the target may use."""

    warps: Warps
    max_tokens: int
    context: int
    eos: frozenset[int] = frozenset()
    stop: tuple[str, ...] = ()
    batch_size: int = 1
    record: Recording = Recording()
    processing: Processing = Processing()
    prefill_threads: int | None = None
    """Torch's threads on a CPU while a prompt is read, which pay sooner than while decoding; None: as always."""


class DecodeLoop:
    """Decodes prompts with one target, drafter and rule; yields the events as they happen.

    `adaptive`, where given, chooses how deep each round may draft; otherwise drafters go as deep as is of use. With
    `reuse` what the caches have kept of a prompt's beginning is not prefilled again.
    """

    def __init__(
        self,
        target: Runner,
        drafter: Drafter,
        rule: Rule,
        detokenizer: Detokenizer,
        settings: Settings,
        *,
        clock: Callable[[], float],
        cancelled: Callable[[], bool] = lambda: False,
        adaptive: AdaptiveLength | None = None,
        reuse: bool = False,
    ) -> None:
        self._target = target
        self._drafter = drafter
        self._rule = rule
        self._detokenizer = detokenizer
        self._settings = settings
        self._clock = clock
        self._cancelled = cancelled
        self._adaptive = adaptive
        self._process: LogitsProcessor | None = None
        if settings.processing != Processing():
            self._process = LogitsProcessor(
                settings.processing, settings.batch_size, target.vocab_size, tuple(settings.eos), target.device
            )
        self._reuse = reuse
        self._teller = Teller(detokenizer, settings.warps, settings.record)
        self._timer = PhaseTimer(target.device)
        self._active: dict[int, Row] = {}  # by slot
        self._count = 0  # of rounds
        self._striding = Striding(
            target, drafter, rule, settings.warps, settings.record, settings.processing, settings.eos, settings.stop
        )
        self._ids: dict[tuple[int, int], tuple[Tensor, NDArray[np.int64]]] = {}  # room on the host, by rows and nodes

    def run(self, prompts: Iterable[Prompt]) -> Iterator[Event]:
        """Decode every prompt, in the order of their arrival."""
        waiting = deque(sorted(prompts, key=lambda prompt: prompt.arrival_s))
        self._open(waiting)
        while (waiting or self._active) and not self._cancelled():
            while self._room_for(waiting) and not self._cancelled():
                yield from self._admit(waiting.popleft())
                yield from self._retire()  # a first token can be the last
            if self._cancelled():  # a cancelled prefill leaves its row unfit for a round
                break
            if self._active:
                yield from self._rounds()
                yield from self._retire()
            elif waiting:
                self._timer.mark("other")
                time.sleep(min(_ARRIVAL_POLL_S, max(0.0, waiting[0].arrival_s - self._clock())))
                self._timer.mark("wait")
        for row in self._active.values():
            row.end("cancelled")
        yield from self._retire()

    def _room_for(self, waiting: Sequence[Prompt]) -> bool:
        """Whether the first of `waiting` has arrived, and there is a place for it."""
        return bool(waiting) and len(self._active) < self._settings.batch_size and waiting[0].arrival_s <= self._clock()

    def _open(self, prompts: Iterable[Prompt]) -> None:
        """Make room for the longest row and the tree behind it."""
        settings = self._settings
        longest = max((len(prompt.ids) for prompt in prompts), default=1)
        capacity = min(longest + settings.max_tokens, settings.context)
        self._target.allocate(settings.batch_size, capacity + self._drafter.max_nodes + 1)
        self._drafter.open(settings.batch_size, capacity)

    def _admit(self, prompt: Prompt) -> Iterator[Event]:
        """Prefill a prompt into a free slot and sample its first token."""
        settings, began = self._settings, self._clock()
        self._timer.mark("other")
        slot = next(s for s in range(settings.batch_size) if s not in self._active)
        # The last token needs no forward pass, so it may stand one past the context.
        room = settings.context - len(prompt.ids) + 1
        row = Row(
            prompt,
            slot,
            TextStream(self._detokenizer, prompt.ids, settings.stop),
            max_output=min(settings.max_tokens, room),
            by_context=room < settings.max_tokens,
            eos=settings.eos,
        )
        row.queued_s, row.entered = began - prompt.arrival_s, self._timer.totals()
        self._active[slot] = row
        yield RowStarted(
            began, prompt.row, slot, prompt.prompt_id, prompt.repeat, prompt.seed, prompt.text, prompt.ids,
            prompt.arrival_s, began,
        )  # fmt: skip
        self._timer.start()
        ids, needs = torch.tensor(prompt.ids, dtype=torch.int64), self._drafter.needs
        reused, of_drafts = self._recall(slot, prompt.ids)
        with computing_with(settings.prefill_threads):
            filled = prefill(self._target, slot, ids[reused:], reused, needs.taps, self._cancelled)
        if filled is None:
            return
        row.settled = len(prompt.ids)
        logits, taps = filled
        emitted = top_ids = None
        if settings.max_tokens:
            tree = DraftTree.empty(1, self._target.device)
            logits = logits.unsqueeze(1)
            if self._process is not None:
                self._process.admit(slot, prompt.ids)
                logits = self._process(logits, (slot,), tree)
            judging = Judging(settings.warps, (prompt.key,), (len(prompt.ids) - 1,), (0,), settings.record.probs)
            verdict = self._rule.verify(tree, logits, judging)
            (outcome,) = read_outcomes(tree, verdict, _likeliest(logits, needs.top_k))
            top_ids = outcome.top_ids[0] if outcome.top_ids else None
            (emitted,) = row.emit([outcome.next_token], ["plain"], [outcome.next_p])
            if self._process is not None:
                self._process.emitted(slot, (emitted.id,))
        else:
            row.end("length")
        row.prefill_s = self._timer.mark("prefill")
        yield Prefilled(
            self._clock(), prompt.row, len(prompt.ids), reused, row.prefill_s, self._timer.device_seconds(), emitted,
            of_drafts,
        )  # fmt: skip
        if row.reason is None:
            self._timer.mark("other")
            self._drafter.admit(Admission(slot, ids, row.root, taps, top_ids))
            row.prefill_s += self._timer.mark("prefill")

    def _recall(self, slot: int, ids: Sequence[int]) -> tuple[int, tuple[int, ...] | None]:
        """How many tokens at the beginning of a prompt need no prefill; at least its last one does. And likewise of
        each cache that the drafter has, None where it recalls nothing."""
        if not self._reuse or slot != 0:
            return 0, None
        drafter = self._drafter
        of_drafts = drafter.recall(slot, ids) if isinstance(drafter, RecallsPrompts) else None
        there = shared(self._target.kept(), ids[:-1])
        if drafter.needs.taps:  # of every token that it cannot recall
            there = 0 if of_drafts is None else min((there, *of_drafts))
        return there, of_drafts

    def _rounds(self) -> Iterator[Event]:
        """A round, or a few of the only row."""
        rows = [self._active[slot] for slot in sorted(self._active)]
        limits = [row.draft_limit for row in rows]
        depth = max(limits) if self._adaptive is None else self._adaptive.choose(limits)
        steps = None
        if len(rows) == 1:
            (row,) = rows
            most = _MOST_ROUNDS if self._adaptive is None else 1 + self._adaptive.further(_MOST_ROUNDS - 1)
            steps = self._striding.stride(row, min(depth, row.draft_limit), most)
        if steps is None:
            yield from self._round(rows, limits, depth)
        else:
            yield from self._stride(row, steps, depth)

    def _stride(self, row: Row, steps: Sequence[Step], depth: int) -> Iterator[Event]:
        """Rounds that were done together; what else the host did since the last ones is shared among them."""
        now, behind = self._clock(), sum(step.seconds for step in steps)
        other = max(0.0, self._timer.unmarked() - behind) / len(steps)
        for number, step in enumerate(steps):
            if self._adaptive is not None and number:
                depth = self._adaptive.choose([row.draft_limit])
            limit = min(depth, row.draft_limit)
            self._timer.passed({
                "other": other, "draft": step.draft_s, "verify": step.verify_s, "sampling": step.sampling_s
            })  # fmt: skip
            behind -= step.seconds
            row.settled = row.committed
            self._striding.drafted(row, step)
            told = self._emit(row, step_outcome(step), None)
            if row.reason is None:
                emitted = tuple(token.id for token in told.emitted)
                self._drafter.catch_up([Feedback(row.slot, emitted, len(step.path))])
            self._count += 1
            yield Round(
                now - behind, self._count - 1, step.draft_s, step.verify_s, other, None, (told,), step.sampling_s
            )
            if self._adaptive is not None:
                drafted = RowDraft(limit, len(step.tokens), len(step.path))
                yield from self._observe(depth, [drafted], step.draft_s, step.verify_s + step.sampling_s + other)
            if row.reason is not None:
                break

    def _round(self, rows: Sequence[Row], limits: Sequence[int], depth: int) -> Iterator[Event]:
        slots = tuple(row.slot for row in rows)
        starts = tuple(row.committed for row in rows)
        rounds = tuple(row.round for row in rows)
        keys = tuple(row.prompt.key for row in rows)
        for row in rows:
            row.settled = row.committed
        self._timer.start()

        limits = [min(limit, depth) for limit in limits]
        tree = self._drafter.propose(
            [ProposeRow(row.slot, limit, row.prompt.key, row.round) for row, limit in zip(rows, limits, strict=True)]
        )
        self._timer.mark("draft")

        block = Block(slots, starts, self._with_roots([row.root for row in rows], tree.tokens), tree.topology)
        needs = self._drafter.needs
        taps: Tensor | None = None
        if needs.taps:
            logits, taps = self._target.forward_tapped(block, needs.taps)
        else:
            logits = self._target.forward(block)
        if self._process is not None:
            logits = self._process(logits, slots, tree)
        self._timer.mark("verify")
        judging = Judging(self._settings.warps, keys, starts, rounds, self._settings.record.probs)
        verdict = self._rule.verify(tree, logits, judging)
        if verdict.strays:
            self._target.compact(slots, starts, verdict.path)
        outcomes = read_outcomes(tree, verdict, _likeliest(logits, needs.top_k))
        self._timer.mark("sampling")

        alternatives = self._teller.alternatives(tree, logits)
        parts = tuple(self._emit(*part) for part in zip(rows, outcomes, alternatives, strict=True))
        alive = [i for i, row in enumerate(rows) if row.reason is None]
        self._timer.mark("other")
        self._drafter.catch_up(
            [
                Feedback(
                    slots[i],
                    tuple(token.id for token in parts[i].emitted),
                    outcomes[i].accepted,
                    outcomes[i].top_ids,
                    None if taps is None else _along(taps[i], outcomes[i].path),
                )
                for i in alive
            ]
        )
        self._timer.mark("draft")
        draft, verify, sampling = (self._timer.spent(phase) for phase in ("draft", "verify", "sampling"))
        self._count += 1
        elapsed = self._timer.elapsed()
        yield Round(
            self._clock(), self._count - 1, draft, verify, max(0.0, elapsed - draft - verify - sampling),
            self._timer.device_seconds(), parts, sampling,
        )  # fmt: skip
        if self._adaptive is not None:
            told = [
                RowDraft(limit, count, outcome.accepted)
                for limit, count, outcome in zip(limits, tree.counts, outcomes, strict=True)
            ]
            yield from self._observe(depth, told, draft, max(verify, elapsed - draft))

    def _observe(self, depth: int, rows: Sequence[RowDraft], draft_s: float, pass_s: float) -> Iterator[Event]:
        """Tell the adaptive length, if there is one, what a round came to."""
        change = None if self._adaptive is None else self._adaptive.observe(depth, rows, draft_s, pass_s)
        if change is not None:
            yield Notice(self._clock(), "info", change.text, change.advice)

    def _with_roots(self, roots: Sequence[int], tokens: Tensor) -> Tensor:
        """`roots` in front of the draft tokens, [B, N]: [B, N + 1], on a CPU until the next round."""
        rows, nodes = tokens.shape
        if tokens.is_cpu:  # where operations on a few numbers take longer to begin than to run
            room = self._ids.get((rows, nodes))
            if room is None:
                made = torch.empty((rows, nodes + 1), dtype=torch.int64)
                room = self._ids[rows, nodes] = made, made.numpy()
            ids, numbers = room
            for row, root in enumerate(roots):
                numbers[row, 0] = root
            if nodes:
                numbers[:, 1:] = tokens.numpy()
            return ids
        first = torch.tensor(roots, device=tokens.device).unsqueeze(1)
        return torch.cat((first, tokens), dim=1) if nodes else first

    def _emit(self, row: Row, outcome: Outcome, alternatives: tuple[Alternatives, ...] | None) -> RowRound:
        """Append what a row was given, and tell the round as the row saw it."""
        told = self._teller.emit(row, outcome, alternatives)
        if self._process is not None:
            self._process.emitted(row.slot, [token.id for token in told.emitted])
        return told

    def _retire(self) -> Iterator[Event]:
        for slot in [slot for slot, row in self._active.items() if row.reason is not None]:
            row = self._active.pop(slot)
            self._drafter.release(slot)
            if slot == 0 and row.settled:  # a cancelled prefill wrote nothing that is known of
                self._target.keep((*row.prompt.ids, *row.output)[: row.settled])
            self._timer.mark("other")
            yield row.finished(self._clock(), row.shares(self._timer.totals()))


def _along(taps: Tensor, path: Sequence[int]) -> Tensor:
    """Of taps [T, F] those of the root and of the nodes of `path`; a view where these are the first."""
    if not path or path[-1] == len(path):
        return taps[: len(path) + 1]
    return taps.index_select(0, torch.tensor([0, *path], device=taps.device))


def _likeliest(logits: Tensor, top_k: int) -> Tensor | None:
    """Of logits [B, T, V] the ids of the `top_k` likeliest tokens, int64 [B, T, top_k]; None where top_k is 0."""
    return logits.topk(top_k).indices if top_k else None
