"""The trials of a comparison in a thread of their own, and how they stand; or as they were stored.

The code is that of `--batch`. Between two runs the standing is replaced by a new one; the screen reads it as seldom as
it likes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from specterm.bench.summary import Summary, summarise
from specterm.bench.trials import Progress, Trial, run_trials
from specterm.config import PlanSpec, Request
from specterm.engine.job import Engine
from specterm.errors import SpectermError
from specterm.metrics import RowResult, row_results
from specterm.report.document import Document, build_document
from specterm.tui.one_stop import OneStop

if TYPE_CHECKING:
    from specterm.history.comparison import Comparison
    from specterm.history.recorder import ComparisonRecording


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the trials are. `summary` is of the runs so far: outputs are compared only when all have ended.

    `document` is the report, None until then; `error` says why there is none.
    """

    progress: Progress | None = None
    summary: tuple[Summary, ...] = ()
    document: Document | None = None
    error: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing is measured any more."""
        return self.document is not None or self.error is not None


class Measured(Protocol):
    """A comparison to be shown: one that `run` measures while everything else is read, or one that was measured."""

    plan: PlanSpec
    standing: Standing

    @property
    def recorded(self) -> Sequence[Trial]:
        """Every timed run so far."""

    def run(self) -> None:
        """Measure until the end, a failure or a cancel; the last standing says which."""

    def cancel(self) -> None:
        """Stop within a round; what has been measured is kept."""

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""


class StoredMeasurement:
    """A comparison of the history."""

    cancelled = False

    def __init__(self, comparison: Comparison) -> None:
        self.plan, self.recorded = comparison.plan, comparison.trials
        self.standing = Standing(summary=tuple(comparison.document.summary), document=comparison.document)

    def run(self) -> None:
        """It is over."""

    def cancel(self) -> None:
        """There is nothing to stop."""


class Measurement:
    """The trials of `plan` over `requests`, each row by itself; `run` blocks, everything else may be read meanwhile.
    They are stored in `recording`, if there is one."""

    def __init__(
        self,
        engine: Engine,
        plan: PlanSpec,
        requests: Sequence[Request],
        recording: ComparisonRecording | None = None,
    ) -> None:
        self.plan = plan
        self._recording = recording
        self._engine = engine
        self._stop = OneStop()
        self._requests = tuple(requests)
        self._results: list[RowResult] = []
        self.recorded: list[Trial] = []
        self.standing = Standing()

    def run(self) -> None:
        """Measure until the end, a failure or a cancel; the last standing says which."""
        try:
            trials = run_trials(
                self._engine, self.plan, self._requests, self._advance, keep=self._keep, begin=self._stop.begin
            )
            document = build_document(trials)
            self.standing = replace(self.standing, summary=tuple(document.summary), document=document)
        except SpectermError as error:
            self.standing = replace(self.standing, error=str(error))
        if self._recording is not None:
            self._recording.finish(self.standing.document)

    def cancel(self) -> None:
        """Stop within a round; what has been measured is kept."""
        self._stop.stop()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._stop.stopped()

    def _advance(self, progress: Progress) -> None:
        self.standing = replace(self.standing, progress=progress)

    def _keep(self, trial: Trial) -> None:
        self.recorded.append(trial)
        if self._recording is not None:
            self._recording.keep(trial.events)
        self._results += row_results(trial.events)
        self.standing = replace(self.standing, summary=tuple(summarise(self.plan, self._results)))
