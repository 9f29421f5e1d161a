"""Where a round's time goes, without making the device wait.

On the CPU the phases are host time. On CUDA they are spans between device events, read after the round's one copy has
synchronised anyway; the host's wall clock is kept apart.
"""

from __future__ import annotations

import time

import torch


class PhaseTimer:
    """Marks the edges of drafting and verifying in one round after the other."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._edges: list[torch.cuda.Event] = []
        self._host: list[float] = []

    def start(self) -> None:
        """The round begins."""
        self._edges.clear()
        self._host.clear()
        self.mark()

    def mark(self) -> None:
        """A phase ends here, and the next begins."""
        self._host.append(time.perf_counter())
        if self._cuda:
            edge = torch.cuda.Event(enable_timing=True)
            edge.record()
            self._edges.append(edge)

    def phases(self) -> list[float]:
        """Seconds of each phase so far; on CUDA the device's, so the device must have been waited for."""
        if self._cuda:
            return [a.elapsed_time(b) / 1e3 for a, b in zip(self._edges, self._edges[1:], strict=False)]
        return [b - a for a, b in zip(self._host, self._host[1:], strict=False)]

    def device_seconds(self) -> float | None:
        """Seconds between the first and the last edge on the device; None where it has no timers."""
        return sum(self.phases()) if self._cuda else None

    def elapsed(self) -> float:
        """Host seconds since `start`."""
        return time.perf_counter() - self._host[0]
