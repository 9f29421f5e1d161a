"""Rounds that are done together: where nothing has to be decided between them, a few short ones are one piece of work.

The host has something to do around every round, and finds its own code and data pushed out of the caches by the
weights that went through them. Behind a stride it does that for all its rounds at once.
"""

from __future__ import annotations

import time

from specterm.decoding.acceptance.exact import Exact
from specterm.decoding.ports import Drafter, Recording, Rule, Runner
from specterm.decoding.processing import Processing
from specterm.decoding.row import Row
from specterm.decoding.sampling import Warps
from specterm.decoding.stride_ports import Step, Strider, Strides

_LASTS_S = 0.016
"""A stride is to be over in this time, less than a picture of a screen stays: tokens come as smoothly as before, and a
run is cancelled as soon."""
_SHORTEST_S = 1e-6  # of a round: a clock may have stood still


class Striding:
    """Knows whether and how long to stride."""

    def __init__(
        self, target: Runner, drafter: Drafter, rule: Rule, warps: Warps, record: Recording, processing: Processing,
        ends: frozenset[int], stop: tuple[str, ...],
    ) -> None:  # fmt: skip
        """Where alternatives are shown, logits are processed, or a text may end within a token, rounds are done one by
        one."""
        plain = isinstance(rule, Exact) and not (record.alternatives or stop) and processing == Processing()
        self._target = target if isinstance(target, Strides) and target.device.type == "cpu" and plain else None
        self._drafter = drafter if isinstance(drafter, Strider) else None
        self._warps, self._ends, self._record = warps, tuple(sorted(ends)), record.probs
        self._round_s = _LASTS_S

    def stride(self, row: Row, limit: int, most: int) -> list[Step] | None:
        """Up to `most` rounds of `row`, without drafts that are longer than `limit`; None where they are to be
        done alone, and nothing was done."""
        rounds = max(1, min(most, int(_LASTS_S / max(self._round_s, _SHORTEST_S))))
        if self._target is None or self._drafter is None:
            return None
        began = time.perf_counter()
        drafting = self._drafter.drafting(row.slot, limit)
        if drafting is None:
            return None
        caught_up_s = time.perf_counter() - began
        # Only while the longest draft is of use: at the end drafts become shorter.
        rounds = min(rounds, drafting.rounds, 1 + (row.draft_limit - drafting.depth) // (1 + drafting.depth))
        key, ends = row.prompt.key, self._ends
        steps = self._target.stride(
            row.slot, row.committed, row.root, rounds, drafting, self._warps, key, row.round, ends, self._record
        )
        if steps is not None:
            self._round_s = sum(step.seconds for step in steps) / len(steps)
            if drafting.models:
                steps[0] = steps[0]._replace(draft_s=steps[0].draft_s + caught_up_s)
        return steps

    def drafted(self, row: Row, step: Step) -> None:
        """The drafter learns of the draft of a step, before it learns what was kept."""
        assert self._drafter is not None, "it told what the drafts are"
        self._drafter.strode(row.slot, step)
