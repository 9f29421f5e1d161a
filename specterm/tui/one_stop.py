"""One switch that stops a sequence of jobs."""

from __future__ import annotations

import threading

from specterm.engine.job import Job


class OneStop:
    """Is told of each job as it begins; `stop` ends the one that is going, and any that begins later at once."""

    def __init__(self) -> None:
        self._job: Job | None = None
        self._event = threading.Event()

    def begin(self, job: Job) -> None:
        """`job` is the one that is going now."""
        self._job = job
        if self.stopped():  # between two jobs
            job.cancel()

    def stop(self) -> None:
        """End what is going, and what would follow."""
        self._event.set()
        if self._job is not None:
            self._job.cancel()

    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._event.is_set()
