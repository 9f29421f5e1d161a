"""A workbench that is fed at a fixed pace, and measures its own screen: see `main`. To be run in a real terminal.

Times of the screen are processor time of its thread, so that what else the machine does is not counted: the event
loop's lag is how late it wakes, or how much it has computed meanwhile, whichever is less.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import struct
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path

import psutil
from tui.fake_engine import CPU, GPU, FakeEngine, FakeMonitor, round_of, run_events

from specterm.config import RunSpec
from specterm.engine.job import Job
from specterm.events import RunFinished
from specterm.tui import themes
from specterm.tui.app import SpectermApp
from specterm.tui.terminal import Terminal
from specterm.tui.widgets.token_log import TokenLog

WORDS = [" and", " the", " lighthouse", " keeper", ",", " climb", "ed", " stairs", ".", "\n"]
ROUND_TOKENS = 5
LAG_EVERY_S = 0.01


def rounds():
    """Rounds of five tokens, one of four drafted ones refused, without end."""
    n = 0
    while True:
        words = [WORDS[(n + i) % len(WORDS)] for i in range(ROUND_TOKENS)]
        yield round_of(n, words[:3] if n % 2 else words[:4], [" no"] if n % 2 else [], " own", time=0.1 + 0.0025 * n)
        n += 1


class PacedEngine(FakeEngine):
    """Puts `rate` tokens a second for `seconds`, from a thread."""

    def __init__(self, rate: float, seconds: float) -> None:
        super().__init__()
        self.rate, self.seconds = rate, seconds
        self.tokens = 0
        self.done = threading.Event()

    def run(self, spec, requests):
        job = Job()
        for event in run_events(requests[0].prompt, (), spec=spec)[:-2]:
            job.put(event)
        threading.Thread(target=self._feed, args=(job,), daemon=True).start()
        return job

    def _feed(self, job: Job) -> None:
        began, made = time.monotonic(), rounds()
        while (passed := time.monotonic() - began) < self.seconds and not job.cancelled:
            while self.tokens < passed * self.rate:
                event = next(made)
                self.tokens += sum(len(part.emitted) for part in event.rows)
                job.put(event)
            time.sleep(0.005)
        job.put(RunFinished(self.seconds, "done"))
        self.done.set()


class Watch:
    """How late the event loop wakes, and what its thread computes."""

    def __init__(self) -> None:
        self.late_s: list[float] = []
        self.own_s: list[float] = []

    async def run(self) -> None:
        while True:
            began, computed = time.monotonic(), time.thread_time()
            await asyncio.sleep(LAG_EVERY_S)
            self.late_s.append(max(0.0, time.monotonic() - began - LAG_EVERY_S))
            self.own_s.append(min(self.late_s[-1], time.thread_time() - computed))


class Frames:
    """Counts how often the stream is painted."""

    def __init__(self, app: SpectermApp) -> None:
        self.count = 0
        log = app.workbench.query_one(TokenLog)
        self._flush, log.flush = log.flush, self.flush  # type: ignore[method-assign]

    def flush(self) -> None:
        self.count += 1
        self._flush()


def p95(values: list[float]) -> float:
    return sorted(values)[int(0.95 * len(values))]


async def stream(app: SpectermApp, engine: PacedEngine) -> dict[str, float]:
    """Follow a run; memory is what a third, and then the rest of its tokens took."""
    process, watch, frames = psutil.Process(), Watch(), Frames(app)
    app.workbench.query_one("#prompt").action_submit()
    lag = asyncio.create_task(watch.run())
    began, computed = time.monotonic(), time.thread_time()
    marks: list[tuple[int, int]] = []
    for share in (1 / 3, 2 / 3, 1.0):
        while time.monotonic() - began < share * engine.seconds:
            await asyncio.sleep(0.1)
        marks.append((engine.tokens, process.memory_info().rss))
    wall, own = time.monotonic() - began, time.thread_time() - computed
    lag.cancel()
    (t0, m0), (t1, m1), (t2, m2) = marks
    return {
        "tokens_per_s": engine.tokens / wall,
        "ui_share": own / wall,
        "lag_p95_s": p95(watch.late_s),
        "own_lag_p95_s": p95(watch.own_s),
        "own_lag_max_s": max(watch.own_s),
        "ui_s_per_frame": own / frames.count,
        "frames_per_s": frames.count / wall,
        "bytes_per_token_middle": (m1 - m0) / (t1 - t0),
        "bytes_per_token_end": (m2 - m1) / (t2 - t1),
    }


async def long_log(app: SpectermApp, tokens: int) -> dict[str, float]:
    """Scroll and re-wrap a log of `tokens`."""
    log, transcript = app.workbench.query_one(TokenLog), app.workbench.runs.transcript
    for n, event in enumerate(rounds()):
        transcript.observe(event)
        if n % 2000 == 0:
            await asyncio.sleep(0)
            if log.store.piece_count >= tokens:
                break
    log.flush()
    await asyncio.sleep(0.5)
    scrolls, resizes = [], []
    for _ in range(9):
        began = time.thread_time()
        log.scroll_page_up(animate=False)
        await settled(app)
        scrolls.append(time.thread_time() - began)
    for columns in (120, 160, 110, 150, 100):
        wrapped = log.store.width
        began = time.thread_time()
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 48, columns, 0, 0))
        while app.size.width != columns or log.store.width == wrapped:
            await asyncio.sleep(0.005)
        await settled(app)
        resizes.append(time.thread_time() - began)
    return {"tokens": log.store.piece_count, "page_s": sorted(scrolls)[4], "resize_s": sorted(resizes)[2]}


async def settled(app: SpectermApp) -> None:
    """Wait until what has changed is painted."""
    done = asyncio.Event()
    app.call_after_refresh(done.set)
    await done.wait()


def main() -> None:
    """Arguments: seconds to stream, tokens of the long log, the file for the figures."""
    seconds, tokens, out = float(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    engine = PacedEngine(2000.0, seconds)
    app = SpectermApp(
        engine,
        FakeMonitor(GPU, CPU),
        RunSpec().checked(),
        prompt="Tell me a story",
        theme_folders=(themes.shipped_folder(),),
        history=Path(tempfile.mkdtemp()),
    )
    app.driver_class = Terminal

    async def measure() -> None:
        while not app.workbench.runs.jobs.idle:
            await asyncio.sleep(0.1)
        await asyncio.sleep(2.0)
        figures = await stream(app, engine)
        while app.workbench.runs.jobs.run is not None:
            await asyncio.sleep(0.1)
        figures |= await long_log(app, tokens)
        out.write_text(json.dumps(figures))
        await app.action_quit()

    app.call_after_refresh(lambda: app.run_worker(measure()))
    app.run()
    sys.exit(app.return_code)


if __name__ == "__main__":
    main()
