"""Who takes part in the benchmarks, each as a function that decodes one prompt (or a batch) and counts its seconds.

All decode greedily to the same number of tokens, past every end-of-sequence token, in one process and on the same
threads. A contender answers with its output, so that a table cannot compare different work.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from ctypes import addressof, c_int64
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from llvmlite import ir

from specterm.bench.prompts import gather
from specterm.config import MethodSpec, ModelSpec, Request, RunSpec, SamplingSpec
from specterm.engine.session import Session
from specterm.events import Event, RowFinished
from specterm.kernels.emitter import POINTER, Emitter
from specterm.kernels.library import ADDRESS, Library
from specterm.kernels.machine import this_machine
from specterm.models.compiled.layers import PassWord
from specterm.models.compiled.rows import CompiledLayers
from specterm.models.folders import BUILTIN_FOLDER

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
CLOCK = CLOCKS[os.environ.get("SPECTERM_BENCH_CLOCK", "wall")]
"""On a busy machine processor time, of all threads together, tells more than the wall clock; set OMP_NUM_THREADS=1 with
it."""


@dataclass(frozen=True)
class Taken:
    """What one turn took, and what came of it: the tokens of each row."""

    seconds: float
    ids: list[tuple[int, ...]]

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return sum(map(len, self.ids)) / self.seconds


Contender = Callable[[Sequence[Request]], Taken]


class Ours:
    """specterm's session on the built-in pair."""

    def __init__(self, dtype: str, drafts: tuple[str, ...] = ("builtin",)) -> None:
        self.model = ModelSpec(drafts=drafts, dtype=dtype).checked()
        self.session = Session()
        self.session.load(self.model, lambda event: None)

    @property
    def target(self) -> Any:
        return self.session._loaded().target.runner

    @property
    def drafts(self) -> list[Any]:
        return [draft.runner for draft in self.session._loaded().drafts]

    def events(self, requests: Sequence[Request], spec: RunSpec) -> list[Event]:
        prompts = self.session.prompts(spec, requests)
        return list(self.session.run(spec, prompts, CLOCK, lambda: False))

    def spec(self, method: str, tokens: int, batch_size: int = 1, temperature: float = 0.0, **parameters: Any):
        return RunSpec(
            model=self.model, method=MethodSpec(name=method, parameters=parameters), batch_size=batch_size,
            sampling=SamplingSpec(temperature=temperature, max_tokens=tokens), ignore_eos=True, fresh_memory=True,
            trace="counts", reuse_prefix=False,
        ).checked()  # fmt: skip

    def contender(self, method: str, tokens: int, **options: Any) -> Contender:
        spec = self.spec(method, tokens, **options)

        def run(requests: Sequence[Request]) -> Taken:
            began = CLOCK()
            events = self.events(requests, spec)
            return Taken(CLOCK() - began, [event.token_ids for event in events if isinstance(event, RowFinished)])

        return run

    @contextmanager
    def forwards_timed(self):
        """Adds up the seconds that forward passes of target and draft take, in the list that this gives. Drafts take
        turns meanwhile: what runs in another thread is in no clock of this one."""
        seconds, within = [0.0], [False]
        passes = [
            (runner, name)
            for runner in (self.target, *self.drafts)
            for name in ("forward", "step", "greedy_chain", "sampled_chain", "beam")
        ]
        passes = [(runner, name, getattr(runner, name)) for runner, name in passes if hasattr(runner, name)]

        def timed(run_pass):
            def run(*args, **kwargs):
                if within[0]:  # a step that is a forward pass
                    return run_pass(*args, **kwargs)
                within[0], began = True, CLOCK()
                logits = run_pass(*args, **kwargs)
                seconds[0] += CLOCK() - began
                within[0] = False
                return logits

            return run

        def strode(*args):
            steps = stride(*args)
            seconds[0] += sum(step.draft_s + step.verify_s for step in steps or ())
            return steps

        for runner, name, run_pass in passes:
            setattr(runner, name, timed(run_pass))
        if (stride := getattr(self.target, "stride", None)) is not None:  # measures its passes itself
            self.target.stride = strode
            passes.append((self.target, "stride", stride))
        try:
            with patch("specterm.decoding.drafters.side_by_side.threads_pay", lambda costs: False):
                yield seconds
        finally:
            for runner, name, _ in passes:
                delattr(runner, name)


@contextmanager
def attention_timed(clock: Callable[[], float]):
    """For models that are loaded meanwhile: tells, whenever it is called, the seconds that attention in compiled layers
    has taken since it was called last."""
    made, everything, before = CompiledLayers.made, [], [0]
    second = _seconds_of_tick(clock)

    def kept(self, rows, width):
        everything.append(made(self, rows, width))
        return everything[-1]

    def taken() -> float:
        now = sum(int(buffers.words[PassWord.ATTENTION_TICKS]) for buffers in everything)
        ticks, before[0] = now - before[0], now
        return second * ticks

    with patch.object(CompiledLayers, "made", kept):
        yield taken


def _seconds_of_tick(clock: Callable[[], float]) -> float:
    machine, module, told = this_machine(), ir.Module("ticks"), c_int64()
    emitter = Emitter(module, "tell", [POINTER], shared=True)
    emitter.store(emitter.ticks(), emitter.arguments[0])
    emitter.end()
    tell = Library(machine, module).function("tell", [ADDRESS])
    tell(addressof(told))
    began, first = clock(), told.value
    while clock() < began + 0.1:
        pass
    tell(addressof(told))
    return (clock() - began) / (told.value - first)


class HuggingFace:
    """transformers' `generate` on the same weights."""

    def __init__(self, dtype: str) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        kind = getattr(torch, dtype)
        self._target, self._draft = (
            AutoModelForCausalLM.from_pretrained(BUILTIN_FOLDER / name, dtype=kind).eval()
            for name in ("target", "draft")
        )
        self._tokenizer = AutoTokenizer.from_pretrained(BUILTIN_FOLDER / "target")

    def naive(self, tokens: int) -> Contender:
        return self._contender(tokens)

    def assisted(self, tokens: int, gamma: int | None = None) -> Contender:
        """With its own defaults, or constant drafts of `gamma` tokens."""
        if gamma is None:
            return self._contender(tokens, assistant_model=self._draft)
        constant = {
            "num_assistant_tokens": gamma, "num_assistant_tokens_schedule": "constant",
            "assistant_confidence_threshold": 0.0,
        }  # fmt: skip
        return self._contender(tokens, constant, assistant_model=self._draft)

    def lookup(self, tokens: int, gamma: int = 10) -> Contender:
        """Prompt lookup; 10 is the number that its documentation uses."""
        return self._contender(tokens, prompt_lookup_num_tokens=gamma)

    def _contender(self, tokens: int, draft_config: Mapping[str, Any] | None = None, **options: Any) -> Contender:
        defaults = {"num_assistant_tokens": 20, "num_assistant_tokens_schedule": "constant",
                    "assistant_confidence_threshold": 0.4}  # fmt: skip

        def run(requests: Sequence[Request]) -> Taken:
            self._draft.generation_config.update(**(draft_config or defaults))
            ids, began = [], CLOCK()
            for request in requests:
                prompt = self._tokenizer(request.prompt, return_tensors="pt")
                whole = self._target.generate(
                    **{key: prompt[key] for key in ("input_ids", "attention_mask")}, do_sample=False,
                    max_new_tokens=tokens, eos_token_id=None, pad_token_id=0, **options,
                )  # fmt: skip
                ids.append(tuple(whole[0, prompt["input_ids"].shape[1] :].tolist()))
            return Taken(CLOCK() - began, ids)

        return run


def interleaved(
    contenders: Mapping[str, Contender], requests: Sequence[Request], repeats: int
) -> dict[str, list[float]]:
    """Tokens a second of each contender: one figure a repeat, the geometric mean over the prompts. The contenders take
    turns at every prompt, in an order that moves on, so that a busy spell of the machine strikes all of them."""
    for contender in contenders.values():
        contender(requests[:1])
    order = list(contenders)
    rates: dict[str, list[float]] = {name: [] for name in order}
    for _ in range(repeats):
        found: dict[str, list[float]] = {name: [] for name in order}
        for request in requests:
            for name in order:
                found[name].append(contenders[name]([request]).rate)
            order = order[1:] + order[:1]
        for name, values in found.items():
            rates[name].append(statistics.geometric_mean(values))
    return rates


@dataclass(frozen=True)
class Ratio:
    """Of paired repeats: their median, and the lowest and the highest but for the outermost of each side."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
        ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
        cut = 1 if len(ratios) >= 5 else 0
        return Ratio(statistics.median(ratios), ratios[cut], ratios[len(ratios) - 1 - cut])

    def __str__(self) -> str:
        return f"{self.median:.2f}x [{self.low:.2f}, {self.high:.2f}]"


def best_of(rates: Mapping[str, Sequence[float]], names: Sequence[str]) -> list[float]:
    """The rates of the contender of `names` that is best by its median."""
    return list(rates[max(names, key=lambda name: statistics.median(rates[name]))])


def stories(count: int) -> tuple[Request, ...]:
    """Prompts of the set on which the criteria are stated."""
    return gather(("stories",), count)
