"""Fair timing: every method over every prompt, one after the other, interleaved over repeats.

Each method is warmed up first. Then, for each repeat and each chunk of `batch_size` prompts, all methods run in turn;
who goes first rotates from chunk to chunk and from repeat to repeat, so that drift of the machine falls on all alike.

No run profits from what an earlier one taught a drafter, unless that is what is studied: a configuration whose learned
memory is the session's (`--draft-memory session`) keeps what its own timed runs teach it, from the first prompt of the
first repeat on. Warm-ups and other configurations teach it nothing, and all see the prompts in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from specterm.bench.comparison import compare
from specterm.bench.watching import Watched, watch
from specterm.config import PlanSpec, Request, RunSpec
from specterm.engine.job import Engine, Job
from specterm.errors import ExitCode
from specterm.events import Event, Loaded, Notice, RowStarted, RunStarted
from specterm.metrics import RowResult, row_results


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A run that failed, with its one line."""

    configuration: str
    repeat: int
    prompt_ids: tuple[str, ...]
    error: str


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` runs; `doing` says which one is next."""

    done: int
    total: int
    doing: str


@dataclass(frozen=True, slots=True)
class Trial:
    """One timed run of one configuration that ended, whichever way: what it decoded and all its events."""

    configuration: str
    repeat: int
    events: tuple[Event, ...]


@dataclass(slots=True)
class Trials:
    """What a batch gave, whole or (`complete` is False) as far as it came."""

    plan: PlanSpec
    results: list[RowResult] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    models: Loaded | None = None
    complete: bool = False
    interrupted: bool = False

    @property
    def exit_code(self) -> ExitCode:
        """INTERRUPTED, RUN_FAILED (also when an output that must match naive's is different) or OK."""
        if self.interrupted:
            return ExitCode.INTERRUPTED
        different = any(result.matches_naive == "different" for result in self.results)
        return ExitCode.RUN_FAILED if self.failures or different else ExitCode.OK


@dataclass(frozen=True, slots=True)
class _Step:
    """One run of one method: a warm-up, or repeat `repeat` of a chunk."""

    spec: RunSpec
    requests: tuple[Request, ...]
    repeat: int | None

    @property
    def doing(self) -> str:
        names = ", ".join(request.prompt_id for request in self.requests[:2]) + ", ..." * (len(self.requests) > 2)
        return f"{self.spec.method.label}: {'warm-up' if self.repeat is None else f'repeat {self.repeat + 1}'}, {names}"


def run_trials(
    engine: Engine,
    plan: PlanSpec,
    requests: tuple[Request, ...],
    progress: Callable[[Progress], None],
    observe: Callable[[Event], None] = lambda event: None,
    keep: Callable[[Trial], None] = lambda trial: None,
    begin: Callable[[Job], None] = lambda job: None,
) -> Trials:
    """Run the checked `plan` over `requests`; a run that fails is recorded and the others go on.

    `progress` and `keep` are called between two runs, so what they do is not timed; `keep` gets every timed run.
    `begin` gets each job as it begins: to cancel it ends the trials with what there is, as an interrupt does.

    Raises:
        SpectermError: the models cannot be loaded.
    """
    trials = Trials(plan)

    def follow(job: Job) -> Watched:
        begin(job)
        return watch(job, observe)

    loading = follow(engine.load(plan.model))
    _note(trials, loading)
    if loading.interrupted:
        trials.interrupted = True
        return trials
    loading.raise_failure()
    steps = list(_steps(plan, requests))
    rows: list[_Row] = []
    try:
        for done, step in enumerate(steps):
            progress(Progress(done, len(steps), step.doing))
            watched = follow(engine.run(step.spec, step.requests))
            _note(trials, watched)
            if watched.end.reason == "failed":
                trials.failures.append(_failure(step, watched))
            if step.repeat is not None:
                rows += _rows(step, watched)
                keep(Trial(step.spec.method.label, step.repeat, tuple(watched.events)))
            if watched.interrupted:
                trials.interrupted = True
                break
        else:
            progress(Progress(len(steps), len(steps), "done"))
            trials.complete = True
    except KeyboardInterrupt:  # between two runs, or for the second time in one: what there is is kept all the same
        trials.interrupted = True
    # Comparing may ask the target about ties, so it waits until nothing is timed any more.
    trials.results = _compared(rows, engine, trials.models)
    return trials


def _steps(plan: PlanSpec, requests: tuple[Request, ...]) -> Iterator[_Step]:
    """Warm-ups first; then for each repeat and chunk all methods, in an order that rotates."""
    specs = [msgspec.structs.replace(plan.run_spec(method), fresh_memory=True) for method in plan.methods]
    for spec in specs:
        for _ in range(plan.warmup):
            yield _Step(spec, requests[: plan.batch_size], None)
    remembering: set[str] = set()
    turn = 0
    for repeat in range(plan.repeats):
        for start in range(0, len(requests), plan.batch_size):
            chunk = tuple(
                msgspec.structs.replace(request, repeat=repeat, seed=plan.sampling.seed + repeat)
                for request in requests[start : start + plan.batch_size]
            )
            first = turn % len(specs)
            for spec in specs[first:] + specs[:first]:
                yield _Step(_remembering(spec, remembering), chunk, repeat)
            turn += 1


def _remembering(spec: RunSpec, begun: set[str]) -> RunSpec:
    """The timed run of a configuration: one that studies a session's memory has its own, from its first run on."""
    if spec.method.parameters.get("draft_memory") != "session":
        return spec
    label = spec.method.label
    first = label not in begun
    begun.add(label)
    return msgspec.structs.replace(spec, fresh_memory=first, memory=f"trials of {label}")


@dataclass(frozen=True, slots=True)
class _Row:
    """A row's result with what its comparison needs."""

    spec: RunSpec
    prompt_ids: tuple[int, ...]
    result: RowResult


def _rows(step: _Step, watched: Watched) -> list[_Row]:
    domains = {request.prompt_id: request.domain for request in step.requests}
    prompt_ids = {event.prompt_id: event.prompt_ids for event in watched.events if isinstance(event, RowStarted)}
    return [
        _Row(step.spec, prompt_ids[r.prompt_id], msgspec.structs.replace(r, domain=domains[r.prompt_id]))
        for r in row_results(watched.events)
    ]


def _compared(rows: list[_Row], engine: Engine, models: Loaded | None) -> list[RowResult]:
    """The results, compared with naive's of the same prompt and repeat where both came to their end."""
    dtype = None if models is None else models.target.dtype
    naive = {_key(row.result): row.result for row in rows if row.result.method == "naive" and ended(row.result)}
    compared: list[RowResult] = []
    for row in rows:
        reference = naive.get(_key(row.result)) if ended(row.result) else None
        if reference is None:
            compared.append(row.result)
        else:
            compared.append(compare(row.spec, row.result, reference, row.prompt_ids, engine, dtype))
    return compared


def _key(result: RowResult) -> tuple[str, int]:
    return result.prompt_id, result.repeat


def ended(result: RowResult) -> bool:
    """Whether the row came to its own end, so that its figures are those of the method."""
    return result.finish_reason not in ("cancelled", "error")


def _note(trials: Trials, watched: Watched) -> None:
    for event in watched.events:
        match event:
            case RunStarted():
                trials.environment = trials.environment or event.environment
            case Loaded():
                trials.models = event
            case Notice() if all((event.text, event.advice) != (n.text, n.advice) for n in trials.notices):
                trials.notices.append(event)


def _failure(step: _Step, watched: Watched) -> Failure:
    return Failure(
        configuration=step.spec.method.label + (" (warm-up)" if step.repeat is None else ""),
        repeat=step.repeat or 0,
        prompt_ids=tuple(request.prompt_id for request in step.requests),
        error=watched.end.error or "the run failed without saying why",
    )
