"""A short measurement when a pair is loaded: what a forward costs by its number of tokens, and a step of each draft.

The costs feed predictions and notices, and say how many threads decode. They are the quickest of a few passes at a
short context: ratios, no benchmarks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import fmean

import torch

from specterm.decoding.drafters.side_by_side import Threads
from specterm.decoding.ports import Block, Chains, Runner
from specterm.decoding.tree import Topology
from specterm.events import Calibration
from specterm.kernels.machine import this_machine
from specterm.models.loading import LoadedModels

_WIDEST = 24
_STEPS_ELSEWHERE = 6, 12
_CONTEXT = 64
_PASSES = 5
_STEPS = 4  # of each draft model between two meetings of their threads
_BUDGET_S = 0.25  # of one figure: a slow model is measured by fewer passes, not by a long wait
_WORTH = 1.1  # one thread's passes by those of all: where they are alike, what is around them is quicker on one
_SHORT_S = 0.02  # where a pass takes longer, what it takes to wake threads is nothing


def calibrate_quickest(models: LoadedModels) -> Calibration:
    """`calibrate` with as many of torch's threads as decode in the least time, which are set when this returns: all of
    those that are set now, or one, where waking the others takes longer than they save, as it may with small models and
    does on many virtual machines."""
    together = calibrate(models)
    if together.threads == 1 or models.target.runner.device.type != "cpu" or together.forward_s(1) > _SHORT_S:
        return together
    torch.set_num_threads(1)
    alone = calibrate(models)
    of_all, of_one = ([*costs.target_forward_s.values(), *costs.draft_step_s] for costs in (together, alone))
    if fmean(one / all_ for one, all_ in zip(of_one, of_all, strict=True)) < _WORTH:
        return alone
    torch.set_num_threads(together.threads or 1)
    return together


def calibrate(models: LoadedModels) -> Calibration:
    """Measure the loaded models; takes a few dozen forward passes at most, which also warm them up."""
    target = models.target.runner
    context = max(1, min(_CONTEXT, target.max_positions - _WIDEST))
    widths = [width for width in _widths() if context + width <= target.max_positions]
    runners = [draft.runner for draft in models.drafts]
    steps = [_step_s(draft, context) for draft in runners]
    return Calibration(
        _forward_s(target, widths, context), tuple(steps), context, _together_s(runners, context),
        torch.get_num_threads(),
    )  # fmt: skip


def _widths() -> list[int]:
    """Among them both sides of each step in what compiled kernels take."""
    machine = this_machine()
    steps = _STEPS_ELSEWHERE if machine is None else machine.steps
    return sorted({1, 2, *steps, *(step + 1 for step in steps), _WIDEST})


def _forward_s(runner: Runner, widths: Sequence[int], context: int) -> dict[int, float]:
    """Seconds of a forward of each of `widths` tokens behind `context` others (whose values do not matter).

    The widths take turns, so that a busy spell of the machine is not taken for the cost of one of them, and the
    quickest pass of each counts: whatever else the machine does only ever adds.
    """
    runner.allocate(1, context + max(widths))
    blocks = {width: _block(runner, width, context) for width in widths}
    for block in blocks.values():
        _timed(runner, block)  # the first pass of a shape is not like the others
    seconds: dict[int, list[float]] = {width: [] for width in widths}
    for _ in range(_PASSES):
        for width, block in blocks.items():
            if sum(seconds[width]) < _BUDGET_S:
                seconds[width].append(_timed(runner, block))
    return {width: min(own) for width, own in seconds.items()}


def _step_s(draft: Runner, context: int) -> float:
    """Seconds of a step of a draft model, in a chain where it makes those in one piece."""
    if (chain := _chain(draft, context)) is not None:
        return _quickest_s(lambda: _seconds(chain)) / _STEPS
    return _forward_s(draft, [1], min(context, draft.max_positions - 1))[1]


def _chain(draft: Runner, context: int) -> Callable[[], object] | None:
    """What makes a chain of a few steps behind `context` tokens in one piece; None where the model does not."""
    start = min(context, draft.max_positions - _STEPS)
    if not isinstance(draft, Chains) or draft.device.type != "cpu" or start < 1:
        return None
    draft.allocate(1, start + _STEPS)
    if not draft.kv_token_bytes():  # nothing was forwarded yet
        draft.forward(_block(draft, 1, 0))
    chain = partial(draft.greedy_chain, 0, start, [0], _STEPS, 0.0, draft.vocab_size)
    return None if chain() is None else chain


def _together_s(drafts: Sequence[Runner], context: int) -> float | None:
    """Seconds of a step of all `drafts` at the same time; None where there is nothing to gain or to choose."""
    if len(drafts) < 2 or any(draft.device.type != "cpu" for draft in drafts):
        return None
    work = [_chain(draft, context) or partial(_forwards, draft, context) for draft in drafts]
    threads = Threads(len(drafts))
    try:
        return _quickest_s(lambda: _seconds(partial(threads.run, work))) / _STEPS
    finally:
        threads.close()


def _forwards(draft: Runner, context: int) -> None:
    block = _block(draft, 1, min(context, draft.max_positions - 1))
    for _ in range(_STEPS):
        draft.forward(block)


def _block(runner: Runner, width: int, context: int) -> Block:
    ids = torch.zeros((1, width), dtype=torch.int64, device=runner.device)
    return Block((0,), (context,), ids, Topology.of_chain(width - 1, runner.device))


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _quickest_s(timed: Callable[[], float]) -> float:
    timed()  # the first pass is not like the others
    seconds: list[float] = []
    while len(seconds) < _PASSES and sum(seconds) < _BUDGET_S:
        seconds.append(timed())
    return min(seconds)


def _timed(runner: Runner, block: Block) -> float:
    began = time.perf_counter()
    runner.forward(block)
    if runner.device.type == "cuda":
        torch.cuda.synchronize(runner.device)
    elif runner.device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter() - began
