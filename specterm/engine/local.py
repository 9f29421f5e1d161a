"""The local engine: one worker thread that owns every torch object.

Commands go in through a queue, each answered by a `Job` of events. Importing this module and making an engine import no
torch: that happens in the thread, so a screen can be painted meanwhile.
"""

from __future__ import annotations

import contextlib
import gc
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from specterm.config import ModelSpec, Request, RunSpec, SamplingSpec, to_data
from specterm.engine.failure import Failure, explain
from specterm.engine.job import Job
from specterm.errors import Cancelled, ConfigError, ExitCode, failure
from specterm.events import LoadProgress, RowFinished, RunFinished, RunStarted
from specterm.telemetry.environment import environment

if TYPE_CHECKING:
    from specterm.engine.draws import Draws
    from specterm.engine.session import Session
    from specterm.telemetry.monitor import Monitor

_CLOSE_TIMEOUT_S = 10.0
_Answer = TypeVar("_Answer")


class _Queued(Job):
    """A job that waits for its turn. Cancelled meanwhile it ends at once, whatever is done before it."""

    def __init__(self) -> None:
        super().__init__()
        self._turn = threading.RLock()  # a signal may cancel what is just being cancelled
        self._begun = False

    def begin(self) -> bool:
        """Its turn has come: whether there is something left to do."""
        with self._turn:
            self._begun = not self.finished
        return self._begun

    def cancel(self) -> None:
        """See `Job`."""
        with self._turn:
            super().cancel()
            if not self._begun and not self.finished:
                self.put(RunFinished(0.0, "cancelled", exit_code=ExitCode.INTERRUPTED))


class LocalEngine:
    """See `Engine`. `monitor`, where given, adds device readings to every run whose spec asks for them."""

    def __init__(self, monitor: Monitor | None = None) -> None:
        self._monitor = monitor
        self._commands: queue.SimpleQueue[tuple[_Queued, Callable[[Session, Job], None]] | None] = queue.SimpleQueue()
        self._current: Job | None = None
        self._session: Session | None = None  # the thread's alone
        self._lost: Failure | None = None  # what took the device from this process for good
        self._closed = False
        self._origin = time.perf_counter()
        self._thread = threading.Thread(target=self._work, name="specterm-engine", daemon=True)
        self._thread.start()

    def load(self, model: ModelSpec) -> Job:
        """See `Engine`."""
        return self._submit(lambda session, job: session.load(model, job.put, lambda: job.cancelled))

    def run(self, spec: RunSpec, requests: Sequence[Request]) -> Job:
        """See `Engine`."""
        return self._submit(lambda session, job: self._run(session, job, spec, tuple(requests)))

    def shortfalls(self, ids: Sequence[int], start: int, sampling: SamplingSpec) -> list[float]:
        """Teacher forcing through the loaded target: see `Session.shortfalls`; waits for the answer.

        Raises:
            SpectermError: it could not be computed; the text says why.
        """
        return self._ask(lambda session, job: session.shortfalls(ids, start, sampling))

    def draws(self, spec: RunSpec, prompt: str, seeds: Sequence[int], first: int | None = None) -> Draws:
        """Decode `prompt` once a seed with the loaded models: see `Session.draws`; waits for the answer.

        Raises:
            SpectermError: it could not be done; the text says why.
        """
        return self._ask(lambda session, job: session.draws(spec, prompt, seeds, first, lambda: job.cancelled))

    def beginnings(
        self, sampling: SamplingSpec, prompt: str, first: int | None, longest: int, count: int
    ) -> tuple[int, dict[tuple[int, ...], float]]:
        """The likeliest beginnings of what follows `prompt`: see `Session.beginnings`; waits for the answer.

        Raises:
            SpectermError: they could not be computed; the text says why.
        """
        return self._ask(lambda session, job: session.beginnings(sampling, prompt, first, longest, count))

    def log_likelihoods(
        self, sampling: SamplingSpec, prompt: str, first: int, outputs: Sequence[tuple[int, ...]]
    ) -> list[float]:
        """How likely the target finds `outputs`: see `Session.log_likelihoods`; waits for the answer.

        Raises:
            SpectermError: it could not be computed; the text says why.
        """
        return self._ask(lambda session, job: session.log_likelihoods(sampling, prompt, first, outputs))

    def _ask(self, question: Callable[[Session, Job], _Answer]) -> _Answer:
        """Have the thread answer; a job whose events nobody needs."""
        answers: list[_Answer] = []
        for event in self._submit(lambda session, job: answers.append(question(session, job))):
            if isinstance(event, RunFinished) and event.reason != "done":
                raise failure(event.error or "it was cancelled", event.exit_code or ExitCode.RUN_FAILED)
        return answers[0]

    def close(self) -> None:
        """See `Engine`. Returns after at most ten seconds, should a forward pass hang."""
        if not self._closed:
            self._closed = True
            self._commands.put(None)
        if (job := self._current) is not None:
            job.cancel()
        self._thread.join(_CLOSE_TIMEOUT_S)

    def _submit(self, command: Callable[[Session, Job], None]) -> Job:
        job = _Queued()
        if self._closed:
            job.put(RunFinished(0.0, "failed", "the engine is closed", ExitCode.RUN_FAILED))
        else:
            self._commands.put((job, command))
        return job

    def _work(self) -> None:
        while (item := self._commands.get()) is not None:
            job, command = item
            if not job.begin():
                continue
            self._current = job
            self._origin = time.perf_counter()
            if self._closed:
                job.cancel()
            end = self._carry_out(job, command)
            self._current = None
            job.put(end)
        gc.unfreeze()

    def _carry_out(self, job: Job, command: Callable[[Session, Job], None]) -> RunFinished:
        """Do what a command says; returns its last event."""
        fault = self._lost
        try:
            if fault is None:
                if job.cancelled:
                    raise Cancelled
                if self._session is None:
                    self._session = _new_session(job)
                command(self._session, job)
                if job.cancelled:
                    raise Cancelled
        except Cancelled:
            return RunFinished(self._clock(), "cancelled", exit_code=ExitCode.INTERRUPTED)
        except BaseException as error:  # whatever a model, a file or a plug-in does must not end the thread
            fault = explain(error)
        if fault is None:
            return RunFinished(self._clock(), "done")
        # The error is gone by now, and with its traceback the frames that held tensors.
        if fault.device_lost:
            self._lost = fault
        elif fault.unexpected and self._session is not None:
            try:
                self._session.put_in_order()
            except Exception as error:  # a device that is worse off than it seemed
                fault = explain(error)
                self._lost = fault if fault.device_lost else None
        return RunFinished(self._clock(), "failed", fault.text, fault.exit_code)

    def _run(self, session: Session, job: Job, spec: RunSpec, requests: tuple[Request, ...]) -> None:
        spec = spec.checked()
        if not requests:
            raise ConfigError("there is no prompt to run")
        session.load(spec.model, job.put, lambda: job.cancelled)
        prompts = session.prompts(spec, requests)
        done = to_data(spec) | {"chat": session.in_conversation(spec)}  # it may be asked before the models are known
        job.put(RunStarted(uuid.uuid4().hex[:12], datetime.now(UTC).isoformat(), done, environment()))
        self._origin = time.perf_counter()
        monitor = self._monitor if spec.monitor else None
        if monitor is not None:
            monitor.attach(job.put, self._clock)
        try:
            with _collector_held():  # a collection inside a round would be timed with it
                for event in session.run(spec, prompts, self._clock, lambda: job.cancelled):
                    job.put(event)
                    if isinstance(event, RowFinished):
                        gc.collect()
        finally:
            if monitor is not None:
                monitor.detach()

    def _clock(self) -> float:
        """Seconds since the current command began; of a run, since its first event."""
        return time.perf_counter() - self._origin


def _new_session(job: Job) -> Session:
    """Import torch, here in the worker thread."""
    job.put(LoadProgress(0.0, "starting torch", None))
    from specterm.engine.preload import preload_torch, wait_asleep

    wait_asleep()
    preload_torch()
    with _collector_held():  # the import makes many objects and no garbage; searching them stalls every thread
        from specterm.engine.session import Session

        gc.freeze()  # and hundreds of thousands of them need not be searched again and again
    return Session()


@contextlib.contextmanager
def _collector_held() -> Iterator[None]:
    """No garbage collection meanwhile, and afterwards as before."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
