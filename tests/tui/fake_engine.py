"""An engine and a monitor that play a script: no thread, no clock, no randomness."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from specterm.config import ModelSpec, Request, RunSpec, to_data
from specterm.engine.job import Job
from specterm.events import (
    DeviceReading,
    EmittedToken,
    Event,
    Loaded,
    LoadProgress,
    ModelInfo,
    NodeState,
    Prefilled,
    Round,
    RowFinished,
    RowRound,
    RowStarted,
    RunFinished,
    RunStarted,
)

GPU = DeviceReading(
    device="gpu:0",
    name="NVIDIA H200",
    utilization=0.87,
    memory_used=45 * 2**30,
    memory_total=140 * 2**30,
    power_w=312.0,
    power_limit_w=700.0,
    power_source="nvml instant",
    scope="gpu",
    temperature_c=61.0,
    clock_mhz=1980.0,
)
CPU = DeviceReading(device="cpu", name="Some Processor", utilization=0.34, memory_used=3 * 2**30, memory_total=2**34)


def model_info(name: str, parameters: int) -> ModelInfo:
    return ModelInfo(
        name=name,
        path=name,
        architecture="LlamaForCausalLM",
        runner="fused llama",
        device="cpu",
        device_name="Some Processor",
        dtype="float32",
        quantization=None,
        parameters=parameters,
        weight_bytes=4 * parameters,
        vocab_size=2048,
        max_positions=512,
        chat_template=False,
    )


LOADED = (
    LoadProgress(0.0, "loading target", 0.4),
    Loaded(0.2, model_info("builtin", 21_000_000), (model_info("builtin", 2_400_000),), None),
    RunFinished(0.2, "done"),
)


def round_of(
    index: int, accepted: Sequence[str], refused: Sequence[str], own: str, *, row: int = 0, time: float = 0.0
) -> Round:
    """A chain of which `accepted` was kept and `refused` was not, and the target's own token after it."""
    drafted = [*accepted, *refused]
    states: list[NodeState] = ["accepted"] * len(accepted)
    if refused:
        states += ["rejected", *["unused"] * (len(refused) - 1)]
    origin = "correction" if refused else "bonus" if accepted else "plain"
    emitted = [EmittedToken(7, text, "accepted") for text in accepted] + [EmittedToken(8, own, origin)]
    part = RowRound(
        row=row,
        tokens=tuple(range(len(drafted))),
        parents=tuple(range(-1, len(drafted) - 1)),
        states=tuple(states),
        emitted=tuple(emitted),
        texts=tuple(drafted),
    )
    return Round(time or 0.1 + 0.01 * (index + 1), index, 0.002, 0.007, 0.001, None, (part,))


ROUNDS = (
    round_of(0, [" upon", " a", " time"], [" in", " the"], ","),
    round_of(1, [" there", " was", " a", " little"], [], " girl"),
    round_of(2, [" named"], [" Tom", " who"], " Lily"),
    round_of(3, [".", " She", " loved"], [" her"], " to"),
    round_of(4, [], [], " play"),
    round_of(5, [" outside", " in", " the"], [" garden"], " sun"),
    round_of(6, [".", "\n\n", "One", " day"], [], ","),
    round_of(7, [" Lily"], [" went", " home"], " saw"),
)


def run_events(
    prompt: str,
    rounds: Iterable[Round] = ROUNDS,
    first: str = "Once",
    spec: RunSpec | None = None,
    reused: tuple[int, tuple[int, ...] | None] = (0, None),
) -> list[Event]:
    """A whole run of one row that was not cut short."""
    rounds = tuple(rounds)
    text = first + "".join(token.text for round_ in rounds for part in round_.rows for token in part.emitted)
    ids = 1 + sum(len(part.emitted) for round_ in rounds for part in round_.rows)
    end = rounds[-1].time if rounds else 0.1
    return [
        RunStarted("run", "2025-01-01T00:00:00Z", {} if spec is None else to_data(spec), {}),
        RowStarted(0.0, 0, 0, "prompt", 0, 0, prompt, (1, 2), 0.0, 0.0),
        Prefilled(0.1, 0, 2, reused[0], 0.1, None, EmittedToken(1, first, "plain"), reused[1]),
        *rounds,
        RowFinished(end, 0, "length", text, tuple(range(ids))),
        RunFinished(end, "done"),
    ]


class FakeEngine:
    """Puts scripted events. With `hold` a run stops before its end until `finish` or a cancel is given."""

    def __init__(
        self,
        load: Iterable[Event] = LOADED,
        rounds: Iterable[Round] = ROUNDS,
        *,
        hold: bool = False,
        failure: str | None = None,
    ) -> None:
        self._load = tuple(load)
        self._rounds = tuple(rounds)
        self._hold = hold
        self._failure = failure
        self._reused: tuple[int, tuple[int, ...] | None] = (0, None)
        self.loads: list[ModelSpec] = []
        self.runs: list[tuple[RunSpec, tuple[Request, ...]]] = []
        self.jobs: list[Job] = []
        self.closed = False

    def load(self, model: ModelSpec) -> Job:
        self.loads.append(model)
        job = Job()
        for event in self._load:
            job.put(event)
        return job

    def run(self, spec: RunSpec, requests: Sequence[Request]) -> Job:
        self.runs.append((spec, tuple(requests)))
        job = _HeldJob() if self._hold else Job()
        self.jobs.append(job)
        events = run_events(requests[0].prompt, self._rounds, spec=spec, reused=self._reused)
        if self._failure is not None:
            events = [*events[:1], RunFinished(0.0, "failed", self._failure, 1)]
        elif self._hold:
            events = events[:-2]
        for event in events:
            job.put(event)
        return job

    def close(self) -> None:
        self.closed = True


class _HeldJob(Job):
    """Ends when it is cancelled, as an engine's worker would end it."""

    def cancel(self) -> None:
        if not self.cancelled:
            super().cancel()
            self.put(RunFinished(0.2, "cancelled"))


class FakeMonitor:
    """Readings that stay as they are."""

    def __init__(self, *readings: DeviceReading) -> None:
        self.latest = readings
