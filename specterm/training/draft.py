"""Distil a draft model from a target: a fresh Llama model, or one that goes on from a folder."""

from __future__ import annotations

import argparse

from specterm.catalogue.models import BUILTIN
from specterm.config import ModelSpec
from specterm.errors import ConfigError
from specterm.models.folders import find_folder
from specterm.models.loading import load_models
from specterm.training.arguments import add_training_arguments, check_positive, check_training_arguments
from specterm.training.corpus import Repeated, TokenBatches, read_documents
from specterm.training.distilling import DraftLearner
from specterm.training.shape import Shape, add_shape_arguments, given_shape, saved_model
from specterm.training.trainer import most_parts, train_as_given

_AT_A_TIME = 128  # batches that are kept, to be learnt from again
DRAFT = Shape(hidden=256, layers=1, kv_heads=1, intermediate=768)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--target", default=BUILTIN, help="a built-in name, a folder or a hub id")
    parser.add_argument("--start", help="go on from this draft: a built-in name, a folder or a hub id")
    add_shape_arguments(parser, DRAFT)
    parser.add_argument("--text-weight", type=float, default=0.1, help="of the text beside the target (%(default)s)")
    parser.add_argument(
        "--times", type=int, default=4,
        help="how often a batch is learnt from before the next ones are read; the target reads it once (%(default)s)",
    )  # fmt: skip
    add_training_arguments(parser, learning_rate=0.02, batch_tokens=4096, lengths=(256, 256, 512, 1024))


def run(given: argparse.Namespace) -> None:
    """The command.

    Raises:
        ConfigError, ModelError, DeviceError: what was given cannot be used.
    """
    if not 0 <= given.text_weight <= 1:
        raise ConfigError(f"--text-weight is {given.text_weight}; it must be at least 0 and at most 1")
    tokenizer = find_folder(given.target, "target")
    target = load_models(ModelSpec(target=given.target, device=given.device)).target
    assert target.codec is not None, "a target has a tokenizer"
    vocabulary = target.runner.vocab_size
    if given.start is None:
        model = given_shape(given).model(vocabulary, min(target.eos, default=None), given.seed)
    else:
        model = saved_model(find_folder(given.start, "draft"))
    if model.config.vocab_size != vocabulary:
        raise ConfigError(
            f"the draft has {model.config.vocab_size} tokens and the target {vocabulary}; they must agree"
        )
    check_training_arguments(given, 2, min(model.config.max_position_embeddings, target.info.max_positions))
    check_positive(given, "times")
    texts, end = [read_documents(path) for path in given.text], min(target.eos, default=None)
    batches = TokenBatches(texts, target.codec, end, tokens=given.batch_tokens, lengths=given.lengths, seed=given.seed)
    repeated = Repeated(batches, given.times, _AT_A_TIME, given.seed)
    kept = _AT_A_TIME * most_parts(given) if given.times > 1 else 0
    train_as_given(DraftLearner(model, tokenizer, target.runner, given.text_weight, kept), repeated, given)
