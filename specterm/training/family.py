"""Train a whole model family on a text: tokenizer, target, two drafts, and heads of every kind.

Drafts and heads learn from the text and, twice as often, from what the target writes after its beginnings.

Each stage is one of the other commands. It works in a folder of its own, `NAME.part`, which becomes `NAME` when it is
finished: the same command, given again, goes on where it was.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from specterm.errors import ConfigError
from specterm.models.folders import BUILTIN_FOLDER
from specterm.training import answers, draft, heads, target
from specterm.training.arguments import add_clock_argument, check_positive
from specterm.training.corpus import read_documents
from specterm.training.shape import CONTEXT
from specterm.training.tokenizer import copy_tokenizer, train_tokenizer
from specterm.training.trainer import CHECKPOINT

TOKENIZER, ANSWERS = "tokenizer", "answers.txt"
_GOING_ON = 0.4  # the share of a learning rate for what was trained before: more would undo it in a short training


@dataclass(frozen=True, slots=True)
class Stage:
    """One command: its share of the time, the learning rate of a fresh start (None: it learns nothing), the sizes of
    what it makes, and its other options."""

    name: str
    command: ModuleType
    share: float
    learning_rate: float | None = None
    sizes: str = ""
    options: str = ""


def _heads(kind: str, share: float, sizes: str) -> Stage:
    return Stage(kind, heads, share, heads.LEARNING_RATES[kind], sizes, f"--kind {kind}")


@dataclass(frozen=True, slots=True)
class Size:
    """How large the members of a family are, and on how much text at a time they learn."""

    vocabulary: int
    stages: tuple[Stage, ...]
    common: str


SIZES = {
    "builtin": Size(
        4096,
        (
            Stage("target", target, 0.48, 0.02, "--hidden 384 --layers 6 --kv-heads 2 --intermediate 1024"),
            Stage(ANSWERS, answers, 0.04, options="--max-tokens 160 --batch-size 32"),
            Stage("draft", draft, 0.12, 0.02, "--hidden 256 --layers 1 --kv-heads 1 --intermediate 768"),
            Stage("draft-b", draft, 0.08, 0.02, "--hidden 192 --layers 2 --kv-heads 1 --intermediate 512"),
            _heads("medusa", 0.05, "--heads 3 --draft-vocab 1526"),
            _heads("eagle", 0.09, "--intermediate 1024"),
            _heads("eagle3", 0.09, "--draft-vocab 2048 --intermediate 896"),
            _heads("mlp", 0.05, "--heads 3 --inner-dim 120"),
        ),
        "--lengths 256 256 512 1024",
    ),
    "tiny": Size(
        512,
        (
            Stage("target", target, 0.35, 0.02, "--hidden 64 --layers 2 --kv-heads 1 --intermediate 128"),
            Stage(ANSWERS, answers, 0.05, options="--max-tokens 40"),
            Stage("draft", draft, 0.1, 0.02, "--hidden 64 --layers 1 --kv-heads 1 --intermediate 64"),
            Stage("draft-b", draft, 0.1, 0.02, "--hidden 64 --layers 1 --kv-heads 1 --intermediate 96"),
            _heads("medusa", 0.1, "--heads 2 --draft-vocab 300"),
            _heads("eagle", 0.1, "--intermediate 64"),
            _heads("eagle3", 0.1, "--draft-vocab 300 --intermediate 64"),
            _heads("mlp", 0.1, "--heads 2 --inner-dim 32"),
        ),
        "--lengths 32 64 --batch-tokens 512",
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--text", type=Path, required=True, help="documents, separated by <|endoftext|>")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the family")
    parser.add_argument("--minutes", type=float, default=120.0, help="of all stages together (%(default)s)")
    add_clock_argument(parser)
    parser.add_argument("--size", choices=sorted(SIZES), default="builtin", help="tiny: to try it out (%(default)s)")
    parser.add_argument("--start", help="a family to go on from, with its tokenizer and sizes: a folder, or 'builtin'")
    parser.add_argument(
        "--own-text", type=Path,
        help="with --start: documents whose beginnings the target goes on from by itself, to unlearn what it repeats",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the documents, and of fresh weights")


def run(given: argparse.Namespace) -> None:
    """The command: every stage that is not finished, in order.

    Raises:
        ConfigError, ModelError, DeviceError: what was given cannot be used.
    """
    check_positive(given, "minutes")
    size, start = SIZES[given.size], _start(given.start)
    if given.own_text is not None and start is None:
        raise ConfigError("--own-text goes with --start: a fresh target writes nothing yet; train one without it first")
    if not (given.out / TOKENIZER).is_dir():
        _make_tokenizer(given, size, start)
    for stage in size.stages:
        if (given.out / stage.name).exists():
            print(f"{stage.name} is finished", file=sys.stderr)
            continue
        part = given.out / f"{stage.name}.part"
        words = [*_words(stage, given, start), "--out", str(part), "--device", given.device]
        words += ["--minutes", f"{stage.share * given.minutes:.4f}", "--clock", given.clock, "--seed", str(given.seed)]
        if stage.learning_rate is not None:
            words += size.common.split()
        if (part / CHECKPOINT).is_file():
            words.append("--resume")
        command = stage.command.__name__.rpartition(".")[2]
        print(f"python -m specterm.training {command} {shlex.join(words)}", file=sys.stderr, flush=True)
        parser = argparse.ArgumentParser()
        stage.command.add_arguments(parser)
        stage.command.run(parser.parse_args(words))
        if stage.learning_rate is not None:
            (part / CHECKPOINT).unlink()
        part.rename(given.out / stage.name)


def _start(name: str | None) -> Path | None:
    """The folder of the family to go on from.

    Raises:
        ConfigError: there is none.
    """
    folder = BUILTIN_FOLDER if name == "builtin" else Path(name) if name else None
    if folder is not None and not (folder / "target" / "config.json").is_file():
        raise ConfigError(f"--start is {name}; it must be a folder with a model in its folder target, or 'builtin'")
    return folder


def _make_tokenizer(given: argparse.Namespace, size: Size, start: Path | None) -> None:
    part = given.out / f"{TOKENIZER}.part"
    part.mkdir(parents=True, exist_ok=True)
    if start is None:
        train_tokenizer(read_documents(given.text), size.vocabulary, CONTEXT, part)
    else:
        copy_tokenizer(start / "target", part)
    part.rename(given.out / TOKENIZER)


def _words(stage: Stage, given: argparse.Namespace, start: Path | None) -> list[str]:
    """What a stage goes on from, what for, and what it reads."""
    out, words, rate = given.out, stage.options.split(), stage.learning_rate
    if start is not None and (start / stage.name).is_dir():
        words += ["--start", str(start / stage.name)]
        rate = rate and rate * _GOING_ON
    else:
        words += stage.sizes.split()
        words += ["--tokenizer", str(out / TOKENIZER)] if stage.command is target else []
    if stage.command is not target:
        words += ["--target", str(out / "target")]
    elif given.own_text is not None:
        words += ["--own-text", str(given.own_text)]
    if stage.command is heads:
        words += ["--target-name", "../target"]  # a family may be moved
    if rate is not None:
        words += ["--learning-rate", f"{rate:g}"]
    own = [str(out / ANSWERS)] * 2 if stage.command in (draft, heads) else []
    return [*words, "--text", *own, str(given.text)]
