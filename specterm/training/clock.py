"""By which clock the time of a training is counted.

The learning rate falls with the time that is over. A training in the background of a busy machine hardly moves for
minutes on end, or is stopped: by the wall clock its rate would fall without its having learnt anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

import torch

Clock: TypeAlias = Callable[[], float]
"""Seconds since some moment or other."""


def _processor() -> float:
    return time.process_time() / torch.get_num_threads()


CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "processor": _processor}
"""Wall time; or this process's own time on the processor, shared by its threads."""
