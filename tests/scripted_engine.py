"""An engine that decodes a fixed text by a fixed schedule on a clock of its own: every figure of it can be worked out
by hand. Prefill takes 0.5 s, a naive round 0.1 s, a round with a draft 0.2 s (0.05 + 0.14 + 0.01)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from math import fsum

from specterm.config import ModelSpec, Request, RunSpec, SamplingSpec, to_data
from specterm.engine.job import Job
from specterm.errors import ExitCode
from specterm.events import (
    Calibration,
    EmittedToken,
    Event,
    Loaded,
    LoadProgress,
    ModelInfo,
    NodeState,
    Notice,
    Prefilled,
    Round,
    RowFinished,
    RowRound,
    RowStarted,
    RunFinished,
    RunStarted,
)

ENVIRONMENT = {"specterm": "0.1.0", "os": "Scripted 1.0", "packages": {"torch": None}, "gpus": []}
WORDS = ("the ", "cat ", "sat ", "on ", "a ", "mat ", "and ", "slept ")


def model_info(name: str, dtype: str = "float32") -> ModelInfo:
    """A model as the engine reports it."""
    return ModelInfo(name, "", "Llama", "fused llama", "cpu", "CPU", dtype, None, 1000, 4000, 8, 1024, False)


def word(token: int) -> str:
    """The text of a token."""
    return WORDS[token % len(WORDS)]


def run_events(spec: RunSpec, request: Request, output: Sequence[int], accepts: Sequence[int]) -> Iterator[Event]:
    """The events of one row. Round i accepts `accepts[i]` (in a cycle) of the draft tokens."""
    seed = spec.sampling.seed if request.seed is None else request.seed
    yield RunStarted("run", "2026-01-01T00:00:00+00:00", to_data(spec), ENVIRONMENT)
    yield RowStarted(
        0.0, 0, 0, request.prompt_id, request.repeat, seed, request.prompt, (1, 2, 3), request.arrival_s, 0.0
    )
    time = 0.5
    yield Prefilled(time, 0, 3, 0, 0.5, None, EmittedToken(output[0], word(output[0]), "plain"))
    done, index = 1, 0
    gamma = spec.method.parameters.get("num_draft_tokens", 0)
    pattern = cycle(accepts)
    while done < len(output):
        left = output[done:]
        if gamma == 0:
            part = RowRound(0, (), (), (), (EmittedToken(left[0], word(left[0]), "plain"),))
            seconds = (0.0, 0.09, 0.01)
        else:
            kept = min(next(pattern), gamma, len(left) - 1)
            part = _drafted(left, kept, gamma)
            seconds = (0.05, 0.14, 0.01)
        time += fsum(seconds)
        yield Round(time, index, *seconds, None, (part,))
        done += len(part.emitted)
        index += 1
    yield RowFinished(time, 0, "length", "".join(map(word, output)), tuple(output))


def _drafted(left: Sequence[int], kept: int, gamma: int) -> RowRound:
    """A chain of `gamma` whose first `kept` tokens are right."""
    tokens = tuple(left[i] if i < kept else left[min(i, len(left) - 1)] + 1 for i in range(gamma))
    states: list[NodeState] = ["accepted" if i < kept else "rejected" if i == kept else "unused" for i in range(gamma)]
    emitted = [EmittedToken(token, word(token), "accepted") for token in left[:kept]]
    emitted.append(EmittedToken(left[kept], word(left[kept]), "bonus" if kept == gamma else "correction"))
    return RowRound(
        0, tokens, tuple(range(-1, gamma - 1)), tuple(states), tuple(emitted), tuple(word(token) for token in tokens)
    )


class ScriptedEngine:
    """See the module. `outputs` gives a method's tokens (by default all methods emit the same ones); `fail` names
    methods whose runs fail; `interrupt_at` raises Ctrl-C in the reader at that run; teacher forcing finds the same
    `shortfall` for every token."""

    def __init__(
        self,
        outputs: dict[str, Sequence[int]] | None = None,
        *,
        accepts: Sequence[int] = (4, 1, 0),
        fail: dict[str, str] | None = None,
        load_error: str | None = None,
        interrupt_at: int | None = None,
        shortfall: float = float("inf"),
        notices: Sequence[Notice] = (),
    ) -> None:
        self._outputs, self._accepts, self._fail = outputs or {}, accepts, fail or {}
        self._load_error, self._interrupt_at, self._shortfall = load_error, interrupt_at, shortfall
        self._notices = notices
        self.ran: list[tuple[str, tuple[str, ...], int]] = []  # (method label, prompt ids, repeat)
        self.asked: list[tuple[int, ...]] = []
        self.closed = False

    def load(self, model: ModelSpec) -> Job:
        job = Job()
        job.put(LoadProgress(0.0, "reading weights", None))
        if self._load_error is not None:
            job.put(RunFinished(0.0, "failed", self._load_error, ExitCode.UNAVAILABLE))
            return job
        drafts = tuple(model_info(name) for name in model.drafts)
        job.put(Loaded(0.1, model_info(model.target), drafts, Calibration({1: 0.1, 5: 0.15}, (0.01,), 256)))
        for notice in self._notices:
            job.put(notice)
        job.put(RunFinished(0.1, "done"))
        return job

    def run(self, spec: RunSpec, requests: tuple[Request, ...]) -> Job:
        names = tuple(request.prompt_id for request in requests)
        self.ran.append((spec.method.label, names, requests[0].repeat))
        job = _InterruptedJob() if len(self.ran) - 1 == self._interrupt_at else Job()
        if spec.method.name in self._fail:
            job.put(RunFinished(0.0, "failed", self._fail[spec.method.name], ExitCode.UNAVAILABLE))
            return job
        output = self._outputs.get(spec.method.name, tuple(range(8)))[: spec.sampling.max_tokens]
        time = 0.0
        for event in run_events(spec, requests[0], output, self._accepts):
            job.put(event)
            time = getattr(event, "time", time)
        job.put(RunFinished(time, "done"))
        return job

    def shortfalls(self, ids: Sequence[int], start: int, sampling: SamplingSpec) -> list[float]:
        self.asked.append(tuple(ids))
        return [self._shortfall] * (len(ids) - start)

    def close(self) -> None:
        self.closed = True


class _InterruptedJob(Job):
    """A job whose reader gets Ctrl-C behind the third event; it answers `cancel` as an engine must."""

    def __iter__(self) -> Iterator[Event]:
        if self.cancelled:
            yield RunFinished(0.6, "cancelled", exit_code=ExitCode.INTERRUPTED)
            return
        for count, event in enumerate(super().__iter__()):
            yield event
            if count == 2:
                raise KeyboardInterrupt
