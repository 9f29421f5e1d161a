"""`specterm --prompt`: one prompt, one method after the other, on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO

import msgspec
from rich.console import Console
from rich.text import Text

from specterm.bench.comparison import compare
from specterm.bench.watching import Watched, watch
from specterm.config import Request, RunSpec
from specterm.console.figures_table import figures_tables, lossless_note
from specterm.console.stream import ColouredStream, Narration, PlainStream, legend
from specterm.console.visible import escaped, visible
from specterm.engine.job import Engine
from specterm.errors import ExitCode
from specterm.events import Calibration, Event, Loaded, Notice, Round, RowStarted
from specterm.metrics import RowResult, row_results
from specterm.metrics.verdict import Verdict, verdict


@dataclass(frozen=True, slots=True)
class Output:
    """Where and how to write: `mode` is "colour", "plain" or "json".

    In "colour" a file or a pipe gets the text of a single method alone, unless its refused tokens are asked for; the
    figures then go to `stderr`.
    """

    mode: str
    stdout: IO[str]
    stderr: IO[str]
    show_rejected: bool = False

    def text_alone(self, methods: int) -> bool:
        """Whether `stdout` gets nothing but the generated text."""
        plain = methods == 1 and not self.show_rejected and not Console(file=self.stdout).is_terminal
        return self.mode == "plain" or (self.mode == "colour" and plain)


def run_prompt(
    engine: Engine,
    specs: Sequence[RunSpec],
    prompt: str,
    output: Output,
    warmup: int = 0,
    record: Callable[[Event], None] = lambda event: None,
) -> ExitCode:
    """Decode `prompt` with each spec in turn, after `warmup` unshown runs of each; `record` is told every event of the
    shown ones.

    Where naive is among several methods it runs first, and the others are compared with it.

    Returns:
        RUN_FAILED where output that must match naive's is different, INTERRUPTED after Ctrl-C, else OK.

    Raises:
        SpectermError: a run failed.
    """
    ordered = sorted(specs, key=lambda spec: spec.method.name != "naive")
    narration = Narration(Console(file=output.stderr), stages=output.mode == "colour")
    alone = output.text_alone(len(ordered))
    console = Console(file=output.stderr if alone else output.stdout)
    paint = PlainStream(output.stdout).observe if alone else _painter(console, output)
    runs = _Runs(engine, prompt, narration.observe, comparing=len(ordered) > 1)
    for spec in ordered * warmup:  # which teach the drafters nothing
        runs.run(msgspec.structs.replace(spec, fresh_memory=True))
        if runs.interrupted:
            return ExitCode.INTERRUPTED
    runs.results.clear()
    runs.verdicts.clear()
    for spec in ordered:
        if output.mode == "colour" and len(ordered) > 1:
            console.print(Text(f"[{spec.method.label}]", "bold"))
        runs.run(spec, record, paint)
        if runs.interrupted:
            break
    _report(console, runs, output, alone=alone)
    if runs.interrupted:
        return ExitCode.INTERRUPTED
    different = any(result.matches_naive == "different" for result in runs.results)
    return ExitCode.RUN_FAILED if different else ExitCode.OK


class _Runs:
    """The runs of one prompt, one after the other; `results` are compared with naive's where that ran before."""

    def __init__(self, engine: Engine, prompt: str, narrate: Callable[[Event], None], *, comparing: bool) -> None:
        self._engine, self._narrate, self._comparing = engine, narrate, comparing
        self._request = Request(prompt=prompt)
        self._dtype: str | None = None
        self._calibration: Calibration | None = None
        self.results: list[RowResult] = []
        self.verdicts: list[tuple[str, Verdict]] = []  # with the configuration each is about
        self.interrupted = False
        self._told_mode = False

    def run(self, spec: RunSpec, *observers: Callable[[Event], None]) -> None:
        """Run `spec`, telling its events to `observers` as they come."""

        def observe(event: Event) -> None:
            for told in (*observers, self._narrate):
                told(event)
            if isinstance(event, Loaded) and not self._told_mode:
                self._told_mode = True
                self._tell_mode(spec, event)

        watched = watch(self._engine.run(spec, (self._request,)), observe)
        watched.raise_failure()
        self.interrupted = watched.interrupted
        for event in watched.events:
            if isinstance(event, Loaded):
                self._dtype, self._calibration = event.target.dtype, event.calibration
        for result in row_results(watched.events):
            naive = next((r for r in (*self.results, result) if r.method == "naive"), None)
            if self._comparing and naive is not None and not watched.interrupted:
                result = compare(spec, result, naive, _prompt_ids(watched), self._engine, self._dtype)
            self.results.append(result)
            found = verdict(result.metrics, _drafted_rounds(watched), spec.method, self._calibration)
            self.verdicts += [(result.configuration, found)] if found is not None else []

    def _tell_mode(self, spec: RunSpec, loaded: Loaded) -> None:
        """Say that the prompt is not completed as it stands, where that is so."""
        if spec.chat and (loaded.target.chat_template or spec.chat_template is not None):
            whose = "the given" if spec.chat_template is not None else "the model's"
            text = f"conversation: the prompt goes through {whose} chat template"
            self._narrate(Notice(loaded.time, "info", text, "--raw completes it as it stands"))


def _painter(console: Console, output: Output) -> Callable[[Event], None]:
    if output.mode == "json":
        return lambda event: None
    return ColouredStream(console, rejected=output.show_rejected).observe


def _report(console: Console, runs: _Runs, output: Output, *, alone: bool) -> None:
    results = runs.results
    if output.mode == "json":
        document = msgspec.json.encode({"runs": results}).decode()
        output.stdout.write((escaped(document) if output.stdout.isatty() else document) + "\n")
        output.stdout.flush()
    elif output.mode == "colour" and results:
        console.print()
        if not alone:
            console.print(legend(rejected=output.show_rejected))
        for table in figures_tables(results, console.width):
            console.print(table)
        console.print(lossless_note(results), soft_wrap=True)
        for configuration, found in runs.verdicts:
            text = f"! {configuration}: {found.text}; {found.advice}"
            console.print(Text(visible(text), "bold yellow"), soft_wrap=True)


def _drafted_rounds(watched: Watched) -> int:
    return sum(bool(part.tokens) for event in watched.events if isinstance(event, Round) for part in event.rows)


def _prompt_ids(watched: Watched) -> tuple[int, ...]:
    return next((event.prompt_ids for event in watched.events if isinstance(event, RowStarted)), ())
