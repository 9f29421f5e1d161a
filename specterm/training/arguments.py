"""The options that every training command has, and their checks."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from specterm.errors import ConfigError
from specterm.training.clock import CLOCKS


def add_training_arguments(
    parser: argparse.ArgumentParser,
    *,
    learning_rate: float | Mapping[str, float],
    batch_tokens: int,
    lengths: tuple[int, ...],
) -> None:
    """Add them, with these defaults. A learning rate for each of several kinds is for the command to look up."""
    parser.add_argument(
        "--text", type=Path, nargs="+", required=True,
        help="documents, separated by <|endoftext|>; of several files in turn, and one may stand there twice",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="the folder for what is learnt, and its checkpoint")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long it trains (%(default)s)")
    add_clock_argument(parser)
    parser.add_argument("--batch-tokens", type=int, default=batch_tokens, help="tokens a step (%(default)s)")
    parser.add_argument("--tokens-at-once", type=int, default=4096, help="tokens a forward pass (%(default)s)")
    parser.add_argument(
        "--lengths", type=int, nargs="+", default=list(lengths),
        help=f"tokens of a block; each batch has one of these, drawn by chance ({' '.join(map(str, lengths))})",
    )  # fmt: skip
    if isinstance(learning_rate, float):
        rate, told = learning_rate, f"{learning_rate:g}"
    else:
        rate, told = None, ", ".join(f"{kind}: {of:g}" for kind, of in learning_rate.items())
    parser.add_argument("--learning-rate", type=float, default=rate, help=f"at its highest ({told})")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the documents, and of fresh weights")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")


def add_clock_argument(parser: argparse.ArgumentParser) -> None:
    """By which clock --minutes are counted."""
    parser.add_argument(
        "--clock", choices=list(CLOCKS), default="wall",
        help="what --minutes are of; processor: this process's own computing on a CPU, for trainings in the background",
    )  # fmt: skip


def check_training_arguments(given: argparse.Namespace, shortest: int, context: int) -> None:
    """Check them against the shortest block that can be learnt from, and the model's context.

    Raises:
        ConfigError: a value is out of its range.
    """
    check_positive(given, "minutes", "batch_tokens", "tokens_at_once", "learning_rate")
    for length in given.lengths:
        if not shortest <= length <= context:
            raise ConfigError(
                f"--lengths has {length}; it must be at least {shortest} and at most the model's context, {context}"
            )
    if given.batch_tokens < max(given.lengths):
        raise ConfigError(
            f"--batch-tokens is {given.batch_tokens}; it must be at least the longest of --lengths, "
            f"{max(given.lengths)}"
        )


def check_positive(given: argparse.Namespace, *names: str) -> None:
    """Raises:
    ConfigError: an option that was given is not above 0.
    """
    for name in names:
        if (value := getattr(given, name)) is not None and not value > 0:
            raise ConfigError(f"--{name.replace('_', '-')} is {value}; it must be above 0")
