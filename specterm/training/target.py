"""Train a target on a text: a fresh Llama model, or one that goes on from a folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from specterm.config import ModelSpec
from specterm.errors import ConfigError
from specterm.models.devices import choose_device
from specterm.models.folders import find_folder
from specterm.models.loading import load_models
from specterm.models.tokenizer import load_codec
from specterm.training.arguments import add_training_arguments, check_positive, check_training_arguments
from specterm.training.corpus import TokenBatches, read_documents
from specterm.training.language_model import LanguageModelLearner
from specterm.training.own_answers import OwnAnswers
from specterm.training.shape import Shape, add_shape_arguments, given_shape, saved_model
from specterm.training.teaching import Teacher
from specterm.training.trainer import train_as_given

TARGET = Shape(hidden=384, layers=6, kv_heads=2, intermediate=1024)
_DRAFT_RATIO, _DRAFT_WEIGHT = 0.3, 1.0
_OWN_TOKENS = 160  # of each answer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--start", help="go on from this model: a built-in name, a folder or a hub id")
    parser.add_argument("--tokenizer", type=Path, help="a folder with the tokenizer of a fresh model")
    add_shape_arguments(parser, TARGET)
    parser.add_argument("--early-layer", type=int, help="learn also from the state after so many layers (half of them)")
    parser.add_argument("--early-weight", type=float, default=0.2, help="the weight of that loss (%(default)s)")
    parser.add_argument(
        "--own-text", type=Path,
        help="documents whose beginnings the model goes on from by itself, greedily, to unlearn what it repeats; for a "
        "model that writes already",
    )  # fmt: skip
    parser.add_argument(
        "--draft",
        help="a draft that the model, one to go on from, yields to: instead of the text it learns what it says of it "
        "itself, and of --draft-text to choose what the draft chooses wherever that is nearly as likely",
    )
    parser.add_argument("--draft-text", type=Path, nargs="+", help="documents, like --text, on which it yields")
    parser.add_argument(
        "--draft-ratio", type=float,
        help=f"from how many times the likeliest token's probability on the draft's choice is near ({_DRAFT_RATIO})",
    )  # fmt: skip
    parser.add_argument("--draft-weight", type=float, help=f"the weight of the draft's choices ({_DRAFT_WEIGHT})")
    parser.add_argument("--own-weight", type=float, default=1.0, help="the weight of that loss (%(default)s)")
    add_training_arguments(parser, learning_rate=0.02, batch_tokens=6144, lengths=(256, 256, 512, 1024))


def run(given: argparse.Namespace) -> None:
    """The command.

    Raises:
        ConfigError, ModelError, DeviceError: what was given cannot be used.
    """
    device = choose_device(given.device)
    if (given.start is None) == (given.tokenizer is None):
        raise ConfigError("give either --start, a model to go on from, or --tokenizer for a fresh model")
    tokenizer = given.tokenizer if given.start is None else find_folder(given.start, "target")
    codec = load_codec(tokenizer)
    end = min(codec.end_ids(), default=None)
    if given.start is None:
        model = given_shape(given).model(1 + max(codec.vocabulary().values()), end, given.seed)
    else:
        model = saved_model(tokenizer)
    config = model.config
    check_training_arguments(given, 2, config.max_position_embeddings)
    early = config.num_hidden_layers // 2 if given.early_layer is None else given.early_layer
    if not 0 < early <= config.num_hidden_layers:
        raise ConfigError(f"--early-layer is {early}; the model has layers 1 to {config.num_hidden_layers}")
    if not 0 <= given.early_weight < 1:
        raise ConfigError(f"--early-weight is {given.early_weight}; it must be at least 0 and below 1")
    check_positive(given, "own_weight")
    for option in ("draft_text", "draft_ratio", "draft_weight"):
        if given.draft is None and (value := getattr(given, option)) is not None:
            named = " ".join(map(str, value)) if option == "draft_text" else value
            raise ConfigError(f"--{option.replace('_', '-')} {named} goes with --draft; name the draft")
    if given.draft is not None and given.draft_text is None:
        raise ConfigError(f"--draft {given.draft} goes with --draft-text; name documents on which the model yields")
    weight = _DRAFT_WEIGHT if given.draft_weight is None else given.draft_weight
    if not weight > 0:
        raise ConfigError(f"--draft-weight is {weight}; it must be above 0")
    teacher = None if given.draft is None else _yielding_to_draft(given)
    texts, own = [read_documents(path) for path in given.text], None
    if given.own_text is not None:
        beginnings = read_documents(given.own_text, "--own-text")
        own = OwnAnswers(model, beginnings, codec, end, max_tokens=_OWN_TOKENS, seed=given.seed)
    yielded = [read_documents(path, "--draft-text") for path in given.draft_text or ()]
    batches, yielding = (
        TokenBatches(each, codec, end, tokens=given.batch_tokens, lengths=given.lengths, seed=given.seed)
        for each in (texts, yielded)
    )
    learner = LanguageModelLearner(
        model,
        tokenizer,
        early_layer=early,
        early_weight=given.early_weight,
        device=device,
        own=own,
        own_weight=given.own_weight,
        teacher=teacher,
        yielding=iter(yielding) if yielded else None,
        choice_weight=weight,
    )
    train_as_given(learner, batches, given)


def _yielding_to_draft(given: argparse.Namespace) -> Teacher:
    """The model as it is, yielding to the draft.

    Raises:
        ConfigError, ModelError, DeviceError: what was given cannot be used.
    """
    if given.start is None:
        raise ConfigError("--draft goes with --start: a fresh target has nothing to yield yet; train one first")
    ratio = _DRAFT_RATIO if given.draft_ratio is None else given.draft_ratio
    if not 0 < ratio <= 1:
        raise ConfigError(f"--draft-ratio is {ratio}; it must be above 0 and at most 1")
    spec = ModelSpec(target=given.start, drafts=(given.draft,), device=given.device, draft_quantize="none")
    models = load_models(spec)
    return Teacher(models.target.runner, models.drafts[0].runner, ratio)
