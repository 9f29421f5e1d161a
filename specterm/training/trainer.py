"""The training loop of every recipe: AdamW, a cosine over the time that was given, checkpoints."""

from __future__ import annotations

import math
import os
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from specterm.decoding.ports import Runner
from specterm.errors import ConfigError
from specterm.training.corpus import TokenBatches
from specterm.training.features import Features, target_features

CHECKPOINT = "checkpoint.pt"
_WARMUP = 0.03  # the share of the time in which the learning rate rises
_SAVE_EVERY_S = 60.0
_SHOW_EVERY_S = 10.0
_CLIP = 1.0


class Recipe(Protocol):
    """One kind of heads: what they read of the target, what they learn, and how they are written."""

    taps: tuple[int, ...]
    module: nn.Module

    def loss(self, features: Features) -> Tensor:
        """What is minimised, in nats a token."""

    def save(self, folder: Path) -> None:
        """Write the heads as they are now."""


@dataclass(slots=True)
class Progress:
    """How far the training is. `loss` is the mean since it was last shown, in nats."""

    step: int = 0
    tokens: int = 0
    elapsed_s: float = 0.0
    loss: float = math.nan


def train(
    recipe: Recipe,
    target: Runner,
    batches: TokenBatches,
    out: Path,
    *,
    seconds: float,
    learning_rate: float,
    resume: bool = False,
    show: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Train for `seconds` of wall time in all, those before a resumption included; the heads go to `out`.

    Raises:
        ConfigError: there is no checkpoint to resume from, or it is of other heads.
    """
    optimizer = torch.optim.AdamW(recipe.module.parameters(), lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    progress = Progress()
    out.mkdir(parents=True, exist_ok=True)
    if resume:
        _restore(out / CHECKPOINT, recipe, optimizer, batches, progress)
    before = progress.elapsed_s
    began = saved = shown = time.perf_counter()
    losses: list[float] = []
    for ids in batches:
        now = time.perf_counter()
        progress.elapsed_s = before + now - began
        if progress.elapsed_s >= seconds:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * _schedule(progress.elapsed_s / seconds)
        loss = recipe.loss(target_features(target, ids, recipe.taps))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(recipe.module.parameters(), _CLIP)
        optimizer.step()
        losses.append(loss.item())
        progress.step += 1
        progress.tokens += ids.numel()
        progress.loss = sum(losses) / len(losses)
        if now - shown >= _SHOW_EVERY_S:
            show(progress)
            shown = now
            losses.clear()
        if now - saved >= _SAVE_EVERY_S:
            _save(out / CHECKPOINT, recipe, optimizer, batches, progress)
            saved = now
    _save(out / CHECKPOINT, recipe, optimizer, batches, progress)
    recipe.save(out)
    return progress


def _schedule(done: float) -> float:
    """The share of the learning rate when the share `done` of the time is over: a warm-up, then a half cosine."""
    if done < _WARMUP:
        return max(0.01, done / _WARMUP)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, (done - _WARMUP) / (1.0 - _WARMUP))))


def _save(
    path: Path, recipe: Recipe, optimizer: torch.optim.Optimizer, batches: TokenBatches, progress: Progress
) -> None:
    state = {
        "module": recipe.module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "position": batches.position,
        "progress": [progress.step, progress.tokens, progress.elapsed_s, progress.loss],
    }
    beside = path.with_suffix(".part")
    torch.save(state, beside)
    os.replace(beside, path)  # a training that is killed here leaves the older checkpoint whole


def _restore(
    path: Path, recipe: Recipe, optimizer: torch.optim.Optimizer, batches: TokenBatches, progress: Progress
) -> None:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        recipe.module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        batches.position = state["position"]
        progress.step, progress.tokens, progress.elapsed_s, progress.loss = state["progress"]
    except FileNotFoundError:
        raise ConfigError(f"--resume: there is no {path}; begin without it") from None
    except (OSError, EOFError, RuntimeError, KeyError, ValueError, pickle.UnpicklingError):
        raise ConfigError(f"--resume: {path} is broken or of other heads; begin without it") from None
