"""Work of several drafters at the same time: streams on CUDA, threads on a CPU where that measures faster.

Each piece of work has its own model and cache, and what comes of it is the same one after the other: only the time
differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import torch

from specterm.events import Calibration

T = TypeVar("T")
_WORTH = 0.9  # threads must take less than this part of the time of one after the other


class SideBySide(Protocol):
    """Runs pieces of work that share nothing; their results keep the order. in_turn: one after the other."""

    in_turn: bool

    def run(self, work: Sequence[Callable[[], T]]) -> list[T]: ...
    def close(self) -> None: ...


class InTurn:
    """One after the other."""

    in_turn = True

    def run(self, work: Sequence[Callable[[], T]]) -> list[T]:
        """The result of each piece."""
        return [piece() for piece in work]

    def close(self) -> None:
        """Nothing to end."""


class Threads:
    """A thread for each piece, the caller's for the first: torch lets go of the interpreter inside its kernels. The
    threads that torch itself computes with are shared out among them, so that there are no more than before."""

    in_turn = False

    def __init__(self, pieces: int) -> None:
        self._together = torch.get_num_threads()
        self._each = max(1, self._together // pieces)
        self._pool = ThreadPoolExecutor(max(1, pieces - 1), "specterm-draft", _compute_with, (self._each,))

    def run(self, work: Sequence[Callable[[], T]]) -> list[T]:
        """The result of each piece; what a piece raises is raised here, when all have ended."""
        others = [self._pool.submit(piece) for piece in work[1:]]
        torch.set_num_threads(self._each if others else self._together)
        try:
            first = [piece() for piece in work[:1]]
        finally:
            for other in others:
                other.exception()  # waits
            torch.set_num_threads(self._together)
        return [*first, *(other.result() for other in others)]

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()


def _compute_with(threads: int) -> None:
    """Set how many threads torch uses for what this one computes."""
    torch.get_num_threads()  # a thread's own number begins with the first use
    torch.set_num_threads(threads)


class Streams:
    """A CUDA stream for each piece: their kernels overlap, as far as the pieces do not wait for the device.

    The streams begin behind what the caller's stream has queued, and the caller's waits for them. A result must be
    read, or used on the caller's stream, before its memory is given back.
    """

    in_turn = False

    def __init__(self, device: torch.device, pieces: int) -> None:
        self._device = device
        self._streams = [torch.cuda.Stream(device) for _ in range(pieces)]

    def run(self, work: Sequence[Callable[[], T]]) -> list[T]:
        """The result of each piece, on the caller's stream."""
        caller = torch.cuda.current_stream(self._device)
        results = []
        for stream, piece in zip(self._streams, work, strict=False):
            stream.wait_stream(caller)
            with torch.cuda.stream(stream):
                results.append(piece())
        for stream in self._streams[: len(work)]:
            caller.wait_stream(stream)
        return results

    def close(self) -> None:
        """Nothing to end."""


def side_by_side(devices: Sequence[torch.device], costs: Calibration | None) -> SideBySide:
    """The way to run drafters, one on each of `devices`, that is fastest by the measured `costs`: in turn where nothing
    was measured, and where the devices differ."""
    if len(devices) > 1 and len(set(devices)) == 1:
        if devices[0].type == "cuda":
            return Streams(devices[0], len(devices))
        if costs is not None and threads_pay(costs):
            return Threads(len(devices))
    return InTurn()


def threads_pay(costs: Calibration) -> bool:
    """Whether a step of every draft model took clearly less time in threads than one after the other."""
    together = costs.drafts_together_s
    return together is not None and together < _WORTH * sum(costs.draft_step_s)


def step_seconds(costs: Calibration) -> float:
    """What a step of every draft model takes on a CPU, in the way that `side_by_side` chooses; on CUDA at most this."""
    in_turn, together = sum(costs.draft_step_s), costs.drafts_together_s
    return together if together is not None and threads_pay(costs) else in_turn
