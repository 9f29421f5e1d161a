"""The training loop of every recipe: a learning rate that falls to 0 over the time that was given, checkpoints."""

from __future__ import annotations

import argparse
import math
import os
import pickle
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from torch.optim import Optimizer

from specterm.errors import ConfigError
from specterm.training.clock import CLOCKS, Clock
from specterm.training.corpus import Repeated, TokenBatches
from specterm.training.learner import Learner

CHECKPOINT = "checkpoint.pt"
_WARMUP = 0.03  # the share of the time in which the learning rate rises
_SAVE_EVERY_S = 120.0
_SHOW_EVERY_S = 10.0
_CLIP = 1.0


Batches: TypeAlias = TokenBatches | Repeated


@dataclass(slots=True)
class Progress:
    """How far the training is. `loss` is the mean since it was last shown, in nats."""

    step: int = 0
    tokens: int = 0
    elapsed_s: float = 0.0
    loss: float = math.nan


def show_progress(progress: Progress) -> None:
    """One line on stderr."""
    print(
        f"{progress.elapsed_s:7.0f} s  step {progress.step}  {progress.tokens} tokens  loss {progress.loss:.4f}",
        file=sys.stderr,
        flush=True,
    )


def train(
    learner: Learner,
    batches: Batches,
    out: Path,
    *,
    seconds: float,
    learning_rate: float,
    tokens_at_once: int | None = None,
    clock: Clock = time.perf_counter,
    resume: bool = False,
    show: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Train for `seconds` of `clock` in all, those before a resumption included; what was learnt goes to `out`.

    The gradients of a step are summed over parts of about `tokens_at_once` tokens (None: the whole batch), which
    bounds memory.

    Raises:
        ConfigError: there is no checkpoint to resume from, or it is of another module.
    """
    optimizers = learner.optimizers(learning_rate)
    highest = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    progress = Progress()
    out.mkdir(parents=True, exist_ok=True)
    if resume:
        _restore(out / CHECKPOINT, learner, optimizers, batches, progress)
    began = clock() - progress.elapsed_s
    saved = shown = time.perf_counter()
    losses: list[float] = []
    for ids in batches:
        now = time.perf_counter()
        progress.elapsed_s = clock() - began
        if progress.elapsed_s >= seconds:
            break
        share = _schedule(progress.elapsed_s / seconds)
        for optimizer, rates in zip(optimizers, highest, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = share * rate
            optimizer.zero_grad(set_to_none=True)
        loss = 0.0
        for part in ids.split(_rows_at_once(tokens_at_once or ids.numel(), ids.shape[1])):
            own = learner.loss(part) * (len(part) / len(ids))
            own.backward()
            loss += own.item()
        torch.nn.utils.clip_grad_norm_(learner.module.parameters(), _CLIP)
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss)
        progress.step += 1
        progress.tokens += ids.numel()
        progress.loss = sum(losses) / len(losses)
        if now - shown >= _SHOW_EVERY_S:
            show(progress)
            shown = now
            losses.clear()
        if now - saved >= _SAVE_EVERY_S:
            _save(out / CHECKPOINT, learner, optimizers, batches, progress)
            saved = now
    _save(out / CHECKPOINT, learner, optimizers, batches, progress)
    learner.save(out)
    return progress


def _rows_at_once(tokens: int, length: int) -> int:
    return max(1, tokens // length)


def most_parts(given: argparse.Namespace) -> int:
    """Into how many parts a batch is taken at most."""
    tokens, at_once, lengths = int(given.batch_tokens), int(given.tokens_at_once), list[int](given.lengths)
    return max(math.ceil(tokens // length / _rows_at_once(at_once, length)) for length in lengths)


def train_as_given(learner: Learner, batches: Batches, given: argparse.Namespace) -> None:
    """Train as the options of `add_training_arguments` say, with progress on stderr.

    Raises:
        ConfigError: see `train`.
    """
    done = train(
        learner,
        batches,
        given.out,
        seconds=60.0 * given.minutes,
        learning_rate=given.learning_rate,
        tokens_at_once=given.tokens_at_once,
        clock=CLOCKS[given.clock],
        resume=given.resume,
        show=show_progress,
    )
    show_progress(done)
    print(f"wrote {given.out}", file=sys.stderr)


def _schedule(done: float) -> float:
    """The share of the learning rate when the share `done` of the time is over: a warm-up, then a line down to 0."""
    if done < _WARMUP:
        return max(0.01, done / _WARMUP)
    return max(0.0, (1.0 - done) / (1.0 - _WARMUP))


def _save(path: Path, learner: Learner, optimizers: list[Optimizer], batches: Batches, progress: Progress) -> None:
    state = {
        "module": learner.module.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "position": batches.position,
        "progress": [progress.step, progress.tokens, progress.elapsed_s, progress.loss],
    }
    beside = path.with_suffix(".part")
    torch.save(state, beside)
    os.replace(beside, path)  # a training that is killed here leaves the older checkpoint whole


def _restore(path: Path, learner: Learner, optimizers: list[Optimizer], batches: Batches, progress: Progress) -> None:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        learner.module.load_state_dict(state["module"])
        for optimizer, own in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(own)
        batches.position = state["position"]
        progress.step, progress.tokens, progress.elapsed_s, progress.loss = state["progress"]
    except FileNotFoundError:
        raise ConfigError(f"--resume: there is no {path}; begin without it") from None
    except (OSError, EOFError, RuntimeError, KeyError, ValueError, pickle.UnpicklingError):
        raise ConfigError(f"--resume: {path} is broken or of another model; begin without it") from None
