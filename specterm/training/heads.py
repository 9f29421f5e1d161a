"""Train drafting heads for a target on a text."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import chain

from specterm.catalogue.models import BUILTIN
from specterm.config import ModelSpec
from specterm.errors import ConfigError
from specterm.models.folders import find_heads
from specterm.models.loading import load_models
from specterm.training.arguments import add_training_arguments, check_positive, check_training_arguments
from specterm.training.corpus import TokenBatches, read_documents
from specterm.training.eagle import EagleRecipe
from specterm.training.eagle3 import Eagle3Recipe
from specterm.training.head_learner import HeadLearner, Recipe, StartingHeads
from specterm.training.medusa import MedusaRecipe
from specterm.training.mlp import MLPRecipe
from specterm.training.setup import RecipeSetup, frequent_tokens
from specterm.training.trainer import train_as_given

KINDS: dict[str, Callable[[RecipeSetup], Recipe]] = {
    "medusa": MedusaRecipe,
    "eagle": EagleRecipe,
    "eagle3": Eagle3Recipe,
    "mlp": MLPRecipe,
}
LEARNING_RATES = {"medusa": 1e-3, "eagle": 0.01, "eagle3": 0.01, "mlp": 0.02}
_TAKES = {
    "heads": ("medusa", "mlp"),
    "draft_vocab": ("medusa", "eagle3"),
    "intermediate": ("eagle", "eagle3"),
    "inner_dim": ("mlp",),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--kind", choices=sorted(KINDS), required=True, help="what to train")
    parser.add_argument("--target", default=BUILTIN, help="a built-in name, a folder or a hub id")
    parser.add_argument("--target-name", help="what the heads' config calls the target (the value of --target)")
    parser.add_argument("--start", help="go on from these heads, and their sizes: a folder, a hub id or 'builtin'")
    parser.add_argument("--heads", type=int, help="how many heads of medusa, levels of mlp (3)")
    parser.add_argument("--draft-vocab", type=int, help="predict only the tokens that the text has most often (all)")
    parser.add_argument("--intermediate", type=int, help="width of the feed-forward part (the target's)")
    parser.add_argument("--inner-dim", type=int, help="the width of the states of mlp (the target's)")
    parser.add_argument("--dtype", default="auto", help="the target's number format; heads are trained in float32")
    add_training_arguments(parser, learning_rate=LEARNING_RATES, batch_tokens=1024, lengths=(256,))


def run(given: argparse.Namespace) -> None:
    """The command.

    Raises:
        ConfigError, ModelError, DeviceError: what was given cannot be used.
    """
    if given.learning_rate is None:
        given.learning_rate = LEARNING_RATES[given.kind]
    for option, kinds in _TAKES.items():
        flag = f"--{option.replace('_', '-')}"
        if getattr(given, option) is not None and given.kind not in kinds:
            raise ConfigError(f"{flag} does not go with --kind {given.kind}; leave it out")
        if getattr(given, option) is not None and given.start is not None:
            raise ConfigError(f"{flag} does not go with --start, whose heads have their sizes; leave one of them out")
    check_positive(given, *_TAKES)
    texts = [read_documents(path) for path in given.text]
    target = load_models(ModelSpec(target=given.target, device=given.device, dtype=given.dtype)).target
    start = None
    if given.start is not None:
        start = StartingHeads(given.kind, find_heads(given.start, given.kind), target.runner)
    if given.inner_dim is not None and given.inner_dim > target.runner.hidden_size:
        raise ConfigError(
            f"--inner-dim is {given.inner_dim}; it must be at most the width of the target's states, "
            f"{target.runner.hidden_size}"
        )
    assert target.codec is not None, "a target has a tokenizer"
    eos = min(target.eos, default=None)
    sizes = {
        "heads": given.heads or 3,
        "vocabulary": frequent_tokens(chain(*texts), target.codec, eos, given.draft_vocab)
        if given.draft_vocab
        else None,
        "intermediate": given.intermediate,
        "inner_dim": given.inner_dim,
    } | (start.sizes if start else {})
    check_training_arguments(given, sizes["heads"] + 1, target.info.max_positions)
    batches = TokenBatches(texts, target.codec, eos, tokens=given.batch_tokens, lengths=given.lengths, seed=given.seed)
    recipe = KINDS[given.kind](RecipeSetup(target.runner, given.target, published=given.target_name, **sizes))
    if start is not None:
        start.give(recipe)
    train_as_given(HeadLearner(recipe, target.runner), batches, given)
