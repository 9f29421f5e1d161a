"""Print the loss of models by domain on held-out documents, in nats a token."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from specterm.config import ModelSpec
from specterm.errors import ConfigError
from specterm.models.loading import LoadedModel, load_models
from specterm.training.arguments import check_positive
from specterm.training.features import target_features
from specterm.training.mojibake import unscrambled

WINDOWS = (256, 1024)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("models", nargs="+", help="built-in names, folders or hub ids")
    parser.add_argument("--documents", type=Path, required=True, help="a JSON object: domain to list of documents")
    parser.add_argument(
        "--windows", type=int, nargs="+", default=list(WINDOWS), help="documents are cut into such parts"
    )
    parser.add_argument("--max-tokens", type=int, help="read only so many of a domain (all)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")


def run(given: argparse.Namespace) -> None:
    """The command: a table on stdout, a line for each model and window.

    Raises:
        ConfigError, ModelError, DeviceError: what was given cannot be used.
    """
    check_positive(given, "max_tokens")
    documents = read_domains(given.documents)
    print(f"{'model':40} window " + " ".join(f"{domain:>8}" for domain in documents))
    for name in given.models:
        model = load_models(ModelSpec(target=name, device=given.device)).target
        for window in given.windows:
            losses = domain_losses(model, documents, window, given.max_tokens)
            shown = " ".join(f"{'-' if loss is None else f'{loss:.4f}':>8}" for loss in losses.values())
            print(f"{name:40} {window:6} {shown}", flush=True)


def read_domains(path: Path) -> dict[str, list[str]]:
    """Held-out documents by domain, with scrambled characters put right as in the text that is trained on.

    Raises:
        ConfigError: the file cannot be read, or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"--documents {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    whole = isinstance(found, dict) and all(
        isinstance(own, list) and all(isinstance(document, str) for document in own) for own in found.values()
    )
    if not whole or not found:
        raise ConfigError(f'--documents {path} must be a JSON object of lists of texts, such as {{"stories": ["..."]}}')
    return {domain: [unscrambled(document) for document in own] for domain, own in found.items()}


def domain_losses(
    model: LoadedModel, documents: Mapping[str, Sequence[str]], window: int, max_tokens: int | None = None
) -> dict[str, float | None]:
    """The mean loss of a token by domain, in nats; None for a domain whose documents have no two tokens.

    Each document is cut into windows of at most `window` tokens, which know nothing of one another; every token but a
    window's first is judged. A domain ends with the document in which `max_tokens` tokens are reached.

    Raises:
        ConfigError: the model's context is shorter than a window.
    """
    if not 1 < window <= model.info.max_positions:
        raise ConfigError(
            f"--windows has {window}; it must be above 1 and at most the context of {model.info.name}, "
            f"{model.info.max_positions}"
        )
    assert model.codec is not None, "a target has a tokenizer"
    found: dict[str, float | None] = {}
    for domain, texts in documents.items():
        total, count = 0.0, 0
        for text in texts:
            if max_tokens is not None and count >= max_tokens:
                break
            for part in torch.tensor(model.codec.encode(text)).split(window):
                if len(part) < 2:
                    continue
                logits = target_features(model.runner, part.unsqueeze(0), ()).logits[0, :-1]
                total += float(F.cross_entropy(logits.float(), part[1:].to(logits.device), reduction="sum"))
                count += len(part) - 1
        found[domain] = total / count if count else None
    return found
