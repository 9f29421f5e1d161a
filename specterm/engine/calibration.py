"""A short measurement when a pair is loaded: what a forward costs by its number of tokens, and a step of each draft.

The costs feed predictions and notices. They are medians of a few passes at a short context: ratios, not benchmarks.
"""

from __future__ import annotations

import statistics
import time

import torch

from specterm.decoding.ports import Block, Runner
from specterm.decoding.tree import Topology
from specterm.events import Calibration
from specterm.models.loading import LoadedModels

_WIDTHS = (1, 2, 5, 9, 17)
_CONTEXT = 64
_PASSES = 5
_BUDGET_S = 0.25  # of one figure: a slow model is measured by fewer passes, not by a long wait


def calibrate(models: LoadedModels) -> Calibration:
    """Measure the loaded models; takes a few dozen forward passes at most, which also warm them up."""
    target = models.target.runner
    context = max(1, min(_CONTEXT, target.max_positions - max(_WIDTHS)))
    costs = {width: _forward_s(target, width, context) for width in _WIDTHS if context + width <= target.max_positions}
    steps = tuple(_forward_s(draft.runner, 1, min(context, draft.runner.max_positions - 1)) for draft in models.drafts)
    return Calibration(costs, steps, context)


def _forward_s(runner: Runner, width: int, context: int) -> float:
    """Median seconds of a forward of `width` tokens behind `context` others (whose values do not matter)."""
    runner.allocate(1, context + width)
    ids = torch.zeros((1, width), dtype=torch.int64, device=runner.device)
    block = Block((0,), (context,), ids, Topology.of_chain(width - 1, runner.device))
    _timed(runner, block)  # the first pass of a shape is not like the others
    seconds: list[float] = []
    while len(seconds) < _PASSES and sum(seconds) < _BUDGET_S:
        seconds.append(_timed(runner, block))
    return statistics.median(seconds)


def _timed(runner: Runner, block: Block) -> float:
    began = time.perf_counter()
    runner.forward(block)
    if runner.device.type == "cuda":
        torch.cuda.synchronize(runner.device)
    elif runner.device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter() - began
