"""The figures of a job while it runs."""

from __future__ import annotations

from specterm.events import Event, Prefilled, Round, RowFinished, RowStarted
from specterm.metrics.counting import Figure, RowCounter


class LiveFigures:
    """The figures of a job so far, brought up to date by each event in time that does not grow with the job.

    With several rows they are the job's: counts are summed over rows, `latency_s` runs from the first arrival to the
    latest event, and `ttft_s` and `tpot_s` are None. Energy, `repetition`, `speedup` and `overhead` are not live.
    """

    def __init__(self) -> None:
        self._counter = RowCounter()
        self._emitted: dict[int, int] = {}
        self._arrived_at: float | None = None
        self._latest: float | None = None
        self._ttft_s: float | None = None
        self._rows = 0

    def observe(self, event: Event) -> None:
        """Take in the next event of the stream."""
        match event:
            case RowStarted():
                self._rows += 1
                self._emitted[event.row] = 0
                self._arrived_at = (
                    event.arrived_at if self._arrived_at is None else min(self._arrived_at, event.arrived_at)
                )
            case Prefilled():
                self._latest = event.time
                self._counter.prefill(event)
                if event.token is not None:
                    self._emitted[event.row] = 1
                    self._ttft_s = event.time - (self._arrived_at or 0.0)
            case Round():
                self._latest = event.time
                self._counter.time_round(event)
                for row in event.rows:
                    self._counter.round(row)
                    self._emitted[row.row] += len(row.emitted)
            case RowFinished():
                self._latest = event.time
                self._counter.cut(self._emitted.pop(event.row) - len(event.token_ids))

    @property
    def drafted_rounds(self) -> int | None:
        """Rounds that had a draft; None with several rows, whose rounds share their time."""
        return self._counter.drafted_rounds if self._rows == 1 else None

    @property
    def figures(self) -> dict[str, Figure]:
        """Every figure of `METRICS`."""
        latency = None if self._latest is None or self._arrived_at is None else self._latest - self._arrived_at
        return self._counter.figures(self._ttft_s if self._rows == 1 else None, latency)
