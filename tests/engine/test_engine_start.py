"""Starting cold, in a process of its own: nothing heavy at import, no long stall of other threads, a token soon."""

import json
import os
import subprocess
import sys

import psutil
import pytest

PROGRAM = """
import json, sys, threading, time
began = time.perf_counter()
from specterm.config import Request, RunSpec, SamplingSpec
from specterm.engine.local import LocalEngine
from specterm.events import Prefilled, RunFinished

engine = LocalEngine()
early = sorted({"torch", "transformers", "textual"} & set(sys.modules))
gaps, stop = [], False

def watch():
    last = time.perf_counter()
    while not stop:
        time.sleep(0.005)
        gaps.append(time.perf_counter() - last)
        last += gaps[-1]

watcher = threading.Thread(target=watch)
watcher.start()
for event in engine.run(RunSpec(sampling=SamplingSpec(max_tokens=1)), (Request(prompt="Once upon a time"),)):
    if isinstance(event, Prefilled):
        first = time.perf_counter() - began
    if isinstance(event, RunFinished):
        error = event.error
stop = True
watcher.join()
engine.close()
late = sorted({"transformers", "textual"} & set(sys.modules))
print(json.dumps({"early": early, "late": late, "stall": max(gaps), "first": first, "error": error}))
"""


def start() -> dict:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=True)
    return json.loads(done.stdout)


def test_a_cold_start():
    """Stall and time are the best of three: other processes may have the machine, and one good attempt is a proof.
    Where they keep it all along, the time says nothing and is not judged."""
    stalls, firsts, busy = [], [], []
    for _ in range(3):
        busy.append(psutil.cpu_percent(interval=0.3))
        found = start()
        assert found["error"] is None
        assert found["early"] == []
        assert found["late"] == []  # the built-in pair needs neither
        stalls.append(found["stall"])
        firsts.append(found["first"])
        if min(stalls) < 0.3 and min(firsts) < 4:
            break
    assert min(stalls) < 0.3
    assert min(firsts) < 4 or min(busy) > 30, (firsts, busy)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="libraries are mapped beforehand on Linux only")
def test_libraries_are_mapped_before_the_import():
    program = """
import sys
from specterm.engine.preload import preload_torch
mapped = lambda: "libtorch_python" in open("/proc/self/maps").read()
before = mapped()
print(before, preload_torch(), mapped(), "torch" in sys.modules)
import torch
print(float(torch.ones(3) @ torch.ones(3)), preload_torch())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["False", "True", "True", "False", "3.0", "False"]


@pytest.mark.parametrize(
    ("chosen", "told"), [({}, "True passive"), ({"OMP_WAIT_POLICY": "active"}, "False active"),
                         ({"GOMP_SPINCOUNT": "100"}, "False None")],
)  # fmt: skip
def test_threads_wait_asleep_unless_the_user_says_otherwise(chosen, told):
    program = """
import os
from specterm.engine.preload import wait_asleep
print(wait_asleep(), os.environ.get("OMP_WAIT_POLICY"))
import torch
print(wait_asleep())
"""
    free = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_", "KMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True, env=free | chosen
    )
    assert done.stdout.split("\n")[:2] == [told, "False"]
