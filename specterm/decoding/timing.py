"""Where a run's time goes, without making the device wait.

Every moment of the host belongs to one phase: each mark gives the time since the last one to a phase, so that the
phases add up to the wall clock. On CUDA the phases of a round are spans between device events, read after the round's
one copy has synchronised anyway; the host's clock is kept apart.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Literal, TypeAlias, get_args

import torch

Phase: TypeAlias = Literal["prefill", "draft", "verify", "sampling", "other", "wait"]
PHASES: tuple[Phase, ...] = get_args(Phase)


class PhaseTimer:
    """Marks the ends of phases; sums them over the run, and tells those of one round or prefill."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._edges: list[tuple[Phase, torch.cuda.Event]] = []
        self._last = self._began = time.perf_counter()
        self._totals: dict[Phase, float] = dict.fromkeys(PHASES, 0.0)
        self._before = dict(self._totals)

    def start(self) -> None:
        """A round or a prefill begins. What passed since the last mark, in the hands of who reads the events, is part
        of it as "other"."""
        self._before = dict(self._totals)
        self._began = self._last
        self._edges.clear()
        self.mark("other")

    def unmarked(self) -> float:
        """Host seconds since the last mark."""
        return time.perf_counter() - self._last

    def passed(self, parts: Mapping[Phase, float]) -> None:
        """A round began at the last mark and is over: its phases took so many of the seconds since then, one after the
        other, and were not marked."""
        self._before, self._began = dict(self._totals), self._last
        for phase, seconds in parts.items():
            self._totals[phase] += seconds
            self._last += seconds

    def mark(self, phase: Phase) -> float:
        """`phase` ends here, and the next begins; returns its host seconds."""
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        self._totals[phase] += seconds
        if self._cuda:
            edge = torch.cuda.Event(enable_timing=True)
            edge.record()
            self._edges.append((phase, edge))
        return seconds

    def spent(self, phase: Phase) -> float:
        """Seconds of `phase` since `start`; on CUDA the device's, so the device must have been waited for."""
        if self._cuda:
            spans = zip(self._edges, self._edges[1:], strict=False)
            return float(sum(began.elapsed_time(ended) for (_, began), (own, ended) in spans if own == phase)) / 1e3
        return self._totals[phase] - self._before[phase]

    def device_seconds(self) -> float | None:
        """Seconds between the first and the last edge on the device; None where it has no timers."""
        return float(self._edges[0][1].elapsed_time(self._edges[-1][1])) / 1e3 if self._cuda else None

    def elapsed(self) -> float:
        """Host seconds from the mark before `start` to the last one."""
        return self._last - self._began

    def totals(self) -> dict[Phase, float]:
        """Host seconds of each phase since the timer was made."""
        return dict(self._totals)
