"""What the screen costs the engine: the built-in pair below the workbench in a real terminal against headless.

Both processes stay; runs of the same prompts take turns. The ratio of the engine's rates, paired by prompt and place,
has a bootstrap interval. For a quiet machine with two cores:

    pytest -n 0 -m full -s tests/benchmarks/test_measuring_cost.py

SPECTERM_BENCH_PAIRS sets another number of pairs.
"""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path

import pytest
from terminal_session import ROOT, TerminalSession

from specterm.bench.statistics import Interval, paired_ratio

PAIRS = int(os.environ.get("SPECTERM_BENCH_PAIRS", "24"))
WAYS = ("headless", "measuring", "normal")
ALLOWED = {"measuring": 0.97, "normal": 0.85}
RUN_S = 120


class Side:
    """One of the two processes."""

    def __init__(self, way: str, folder: Path) -> None:
        self._orders = folder / "orders"
        self._orders.mkdir(parents=True)
        script = str(ROOT / "tests" / "benchmarks" / "measured_engine.py")
        self.session = TerminalSession([script, way, str(self._orders)], folder)
        self._number = 0

    def run(self, way: str, prompt: int) -> dict[str, float]:
        done = self._orders / f"done-{self._number}"
        order = self._orders / f"run-{self._number}"
        self._number += 1
        new = order.with_suffix(".new")
        new.write_text(f"{way} {prompt}")
        new.replace(order)
        end = time.monotonic() + RUN_S
        while not done.exists():
            assert time.monotonic() < end, self.session.output[-2000:].decode(errors="replace")
            time.sleep(0.1)
        found: dict[str, float] = json.loads(done.read_text())
        return found

    def quit(self) -> int | None:
        (self._orders / f"run-{self._number}").write_text("quit")
        return self.session.ended(20)


def measure(folder: Path, pairs: int) -> dict[str, list[dict[str, float]]]:
    """The figures of each way, `pairs` runs each after one that warms up, in an order that turns."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    sides = {"headless": Side("headless", folder / "headless"), "workbench": Side("workbench", folder / "workbench")}
    with sides["headless"].session, sides["workbench"].session:
        for pair in range(-1, pairs):
            for place in range(len(WAYS)):
                way = WAYS[(pair + place) % len(WAYS)]
                figures = sides["headless" if way == "headless" else "workbench"].run(way, pair + 1)
                if pair >= 0:
                    found[way].append(figures)
        assert [side.quit() for side in sides.values()] == [0, 0]
    return found


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_the_screen_costs_the_engine_little(tmp_path: Path) -> None:
    found = measure(tmp_path, PAIRS)
    told: dict[str, dict[str, Interval]] = {}
    for way in ALLOWED:
        for name in found[way][0]:
            pairs = [(run[name], base[name]) for run, base in zip(found[way], found["headless"], strict=True)]
            told.setdefault(way, {})[name] = paired_ratio(pairs)
    rate = math.fsum(run["tokens_per_s"] for run in found["headless"]) / PAIRS
    print(f"\nheadless {rate:.1f} tok/s, {PAIRS} pairs; ratios to headless with their 95 % intervals:")
    for way, figures in told.items():
        for name, it in figures.items():
            print(f"  {way} {name}: {it.ratio:.4f} ({it.low:.4f} to {it.high:.4f})")
    for way, least in ALLOWED.items():
        assert told[way]["tokens_per_s"].ratio >= least, told
