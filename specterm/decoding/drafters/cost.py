"""What drafting takes, measured when a drafter is built."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

_PROBES = 3


def median_seconds(draft: Callable[[], object]) -> float:
    """Median seconds of `draft`, which reads its result back; it is run a few times."""
    seconds = []
    for _ in range(1 + _PROBES):  # the first pass of a shape is not like the others
        began = time.perf_counter()
        draft()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])
