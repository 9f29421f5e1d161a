"""`python -m specterm.training.heads`: train drafting heads for a target on a text, with progress on stderr."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from specterm.catalogue.models import BUILTIN
from specterm.config import ModelSpec
from specterm.errors import ConfigError, SpectermError
from specterm.models.loading import load_models
from specterm.training.corpus import TokenBatches, read_documents
from specterm.training.eagle import EagleRecipe
from specterm.training.eagle3 import Eagle3Recipe
from specterm.training.medusa import MedusaRecipe
from specterm.training.mlp import MLPRecipe
from specterm.training.setup import RecipeSetup, frequent_tokens
from specterm.training.trainer import Progress, Recipe, train

KINDS: dict[str, Callable[[RecipeSetup], Recipe]] = {
    "medusa": MedusaRecipe,
    "eagle": EagleRecipe,
    "eagle3": Eagle3Recipe,
    "mlp": MLPRecipe,
}
_TAKES = {
    "heads": ("medusa", "mlp"),
    "draft_vocab": ("medusa", "eagle3"),
    "intermediate": ("eagle", "eagle3"),
    "inner_dim": ("mlp",),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    given = _parser().parse_args(arguments)
    try:
        _run(given)
    except SpectermError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m specterm.training.heads", description=__doc__)
    parser.add_argument("--kind", choices=sorted(KINDS), required=True, help="what to train")
    parser.add_argument("--target", default=BUILTIN, help="a built-in name, a folder or a hub id")
    parser.add_argument("--text", type=Path, required=True, help="documents, separated by <|endoftext|>")
    parser.add_argument("--out", type=Path, required=True, help="the folder for heads and checkpoint")
    parser.add_argument("--minutes", type=float, default=10.0, help="wall time of the training (%(default)s)")
    parser.add_argument("--heads", type=int, help="how many heads of medusa, levels of mlp (3)")
    parser.add_argument("--draft-vocab", type=int, help="predict only the tokens that the text has most often (all)")
    parser.add_argument("--intermediate", type=int, help="width of the feed-forward part (the target's)")
    parser.add_argument("--inner-dim", type=int, help="the width of the states of mlp (the target's)")
    parser.add_argument("--batch-size", type=int, default=4, help="blocks a step (%(default)s)")
    parser.add_argument("--length", type=int, default=256, help="tokens of a block (%(default)s)")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="at its highest (%(default)s; for mlp 0.02)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--dtype", default="auto", help="the target's number format; heads are trained in float32")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the documents")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    return parser


def _run(given: argparse.Namespace) -> None:
    for flag, kinds in _TAKES.items():
        if getattr(given, flag) is not None and given.kind not in kinds:
            raise ConfigError(f"--{flag.replace('_', '-')} does not go with --kind {given.kind}; leave it out")
    for flag in ("minutes", "batch_size", "learning_rate", *_TAKES):
        if (value := getattr(given, flag)) is not None and not value > 0:
            raise ConfigError(f"--{flag.replace('_', '-')} is {value}; it must be above 0")
    documents = read_documents(given.text)
    target = load_models(ModelSpec(target=given.target, device=given.device, dtype=given.dtype)).target
    heads = given.heads or 3
    if not heads < given.length <= target.info.max_positions:
        raise ConfigError(
            f"--length is {given.length}; it must be above {heads} and at most the target's context, "
            f"{target.info.max_positions}"
        )
    if given.inner_dim is not None and given.inner_dim > target.runner.hidden_size:
        raise ConfigError(
            f"--inner-dim is {given.inner_dim}; it must be at most the width of the target's states, "
            f"{target.runner.hidden_size}"
        )
    assert target.codec is not None, "a target has a tokenizer"
    eos = min(target.eos, default=None)
    batches = TokenBatches(documents, target.codec, eos, batch=given.batch_size, length=given.length, seed=given.seed)
    vocabulary = frequent_tokens(documents, target.codec, eos, given.draft_vocab) if given.draft_vocab else None
    setup = RecipeSetup(target.runner, given.target, heads, vocabulary, given.intermediate, given.inner_dim)
    recipe = KINDS[given.kind](setup)
    done = train(
        recipe,
        target.runner,
        batches,
        given.out,
        seconds=60.0 * given.minutes,
        learning_rate=given.learning_rate,
        resume=given.resume,
        show=_show,
    )
    _show(done)
    print(f"wrote {given.out}", file=sys.stderr)


def _show(progress: Progress) -> None:
    print(
        f"{progress.elapsed_s:7.0f} s  step {progress.step}  {progress.tokens} tokens  loss {progress.loss:.4f}",
        file=sys.stderr,
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
