"""One side of the measuring-cost benchmark: the real engine, headless or below the workbench, run on demand.

The side waits for files run-0, run-1, ... in a folder, looking twenty times a second while nothing runs. Each names a
way (headless, measuring or normal) and the number of a prompt. What came of run n is in done-n: tokens a second of the
rounds by the engine's own clock, and the processor seconds that its thread and the whole process took for each token.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from specterm.config import MethodSpec, ModelSpec, Request, RunSpec, SamplingSpec
from specterm.engine.job import Job
from specterm.engine.local import LocalEngine
from specterm.events import Event, Prefilled, RowFinished
from specterm.telemetry.monitor import Monitor

PROMPTS = (
    "Once upon a time there was a lighthouse keeper who",
    "The little dog ran into the garden and",
    "def add(first, second):\n    ",
    "One day Lily found a box under her bed. In it",
)
TOKENS = 900
LOOK_S = 0.05


def spec() -> RunSpec:
    return RunSpec(
        model=ModelSpec(),
        method=MethodSpec(name="draft"),
        sampling=SamplingSpec(temperature=0.0, max_tokens=TOKENS),
        ignore_eos=True,
        chat=False,
    ).checked()


@dataclass
class Clocks:
    """Where the clocks stood at the first token and at the end; to be told every event in the engine's thread."""

    began: tuple[float, float, float] = (0.0, 0.0, 0.0)
    figures: dict[str, float] = field(default_factory=dict)

    def observe(self, event: Event) -> None:
        match event:
            case Prefilled():
                self.began = event.time, time.thread_time(), time.process_time()
            case RowFinished():
                tokens = len(event.token_ids) - 1
                wall, own, whole = (
                    now - then
                    for now, then in zip((event.time, time.thread_time(), time.process_time()), self.began, strict=True)
                )
                self.figures = {
                    "tokens_per_s": tokens / wall,
                    "engine_s_per_token": own / tokens,
                    "process_s_per_token": whole / tokens,
                }


class ClockedEngine(LocalEngine):
    """Reads the clocks of each run."""

    def run(self, spec, requests):
        self.clocks = clocks = Clocks()
        return self._submit(lambda session, job: self._run(session, _Clocked(job, clocks), spec, tuple(requests)))


class _Clocked:
    """A job that tells what is put into it."""

    def __init__(self, job: Job, clocks: Clocks) -> None:
        self._job, self._clocks = job, clocks

    def put(self, event: Event) -> None:
        self._clocks.observe(event)
        self._job.put(event)

    @property
    def cancelled(self) -> bool:
        return self._job.cancelled


async def orders(folder: Path):
    """The way and the prompt of the runs as they are asked for, with the file for what comes of each; until "quit"."""
    number = 0
    while True:
        order = folder / f"run-{number}"
        while not order.exists():
            await asyncio.sleep(LOOK_S)
        way, _, prompt = order.read_text().partition(" ")
        if way == "quit":
            break
        yield way, PROMPTS[int(prompt) % len(PROMPTS)], folder / f"done-{number}"
        number += 1


def answer(file: Path, figures: dict[str, float]) -> None:
    new = file.with_suffix(".new")
    new.write_text(json.dumps(figures))
    new.replace(file)


async def headless(folder: Path) -> None:
    monitor = Monitor()
    monitor.start()
    engine = ClockedEngine(monitor)
    list(engine.load(spec().model))
    async for _, text, file in orders(folder):
        for event in engine.run(spec(), (Request(prompt=text),)):
            assert getattr(event, "error", None) is None, event
        answer(file, engine.clocks.figures)
    engine.close()
    monitor.stop()


def workbench(folder: Path) -> None:
    from specterm.tui import themes
    from specterm.tui.app import SpectermApp
    from specterm.tui.terminal import Terminal
    from specterm.tui.widgets.model_bar import ModelBar
    from specterm.tui.widgets.prompt_editor import PromptEditor

    monitor = Monitor()
    monitor.start()
    engine = ClockedEngine(monitor)
    history = folder / "history"
    app = SpectermApp(engine, monitor, spec(), theme_folders=(themes.shipped_folder(),), history=history)
    app.driver_class = Terminal

    async def obey() -> None:
        jobs = app.workbench.runs.jobs
        prompt, models = app.workbench.query_one(PromptEditor), app.workbench.query_one(ModelBar)
        while models._loaded is None:
            await asyncio.sleep(LOOK_S)
        async for way, text, file in orders(folder):
            while not jobs.idle:
                await asyncio.sleep(LOOK_S)
            if jobs.measuring != (way == "measuring"):
                app.workbench.action_toggle_measuring()
            app.workbench.action_clear_stream()
            prompt.text = text
            prompt.action_submit()
            await asyncio.sleep(0.2)
            while not jobs.idle:
                await asyncio.sleep(0.2)
            answer(file, engine.clocks.figures)
        await app.action_quit()

    app.call_after_refresh(lambda: app.run_worker(obey()))
    app.run()
    monitor.stop()


if __name__ == "__main__":
    side, place = sys.argv[1], Path(sys.argv[2])
    asyncio.run(headless(place)) if side == "headless" else workbench(place)
