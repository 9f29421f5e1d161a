"""Write the model card of a family, README.md in its folder: data, sizes, losses and acceptance by domain."""

from __future__ import annotations

import argparse
import datetime
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch

from specterm.catalogue import HEADS
from specterm.config import ModelSpec
from specterm.models.devices import choose_device, device_name
from specterm.models.folders import read_config
from specterm.models.loading import load_models
from specterm.models.weights import open_weights, weight_file_bytes
from specterm.telemetry.processor import cpu_model
from specterm.training.acceptance import (
    Acceptance,
    add_prompt_arguments,
    check_prompt_arguments,
    measure,
    method_title,
    prompts_by_domain,
)
from specterm.training.evaluation import WINDOWS, domain_losses, read_domains

CARD = "README.md"
DATA = "data.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("family", type=Path, help=f"a folder with target, draft..., heads by kind, and {DATA}")
    parser.add_argument("--documents", type=Path, required=True, help="held-out: a JSON object, domain to documents")
    add_prompt_arguments(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")


def run(given: argparse.Namespace) -> None:
    """The command.

    Raises:
        ConfigError, ModelError, DeviceError: what was given cannot be used.
    """
    check_prompt_arguments(given)
    device, family = choose_device(given.device), given.family
    data = family / DATA
    parts = [
        "# Model card",
        f"Measured on {datetime.date.today()} on {_described(device)} with torch {torch.__version__}; written by "
        "`python -m specterm.training card`.",
        *(["## Data and licences", data.read_text(encoding="utf-8").strip()] if data.is_file() else []),
        "## Sizes",
        _table(("", "shape", "parameters", "bytes"), _sizes(family)),
        "## Loss by domain",
        "Nats a token on held-out documents, cut into windows of so many tokens.",
        _losses(family, given.documents, given.device),
        "## Acceptance by method and domain",
        f"Greedy, {given.num_prompts} prompts a domain, answers of {given.max_tokens} tokens, 4 draft tokens where the "
        "method drafts a chain, else trees of at most 24 nodes. Each cell: draft acceptance rate (accepted / drafted), "
        "and mean acceptance length (emitted tokens a round).",
        _acceptance(given),
    ]
    (family / CARD).write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(f"wrote {family / CARD}")


def _described(device: torch.device) -> str:
    return f"{os.cpu_count()} threads of {cpu_model()}" if device.type == "cpu" else device_name(device)


def _members(family: Path) -> list[Path]:
    """The folders of the family's members: target, drafts, heads."""
    names = ["target", *sorted(folder.name for folder in family.glob("draft*")), *HEADS]
    return [family / name for name in names if (family / name / "config.json").is_file()]


def _sizes(family: Path) -> Iterator[tuple[str, ...]]:
    for folder in _members(family):
        shapes = [
            file.get_slice(name).get_shape()
            for file in open_weights(folder, torch.device("cpu"))
            for name in file.keys()  # noqa: SIM118  (no mapping)
        ]
        parameters = sum(torch.Size(shape).numel() for shape in shapes)
        yield folder.name, _shape(folder), f"{parameters:,}", f"{weight_file_bytes(folder):,}"


def _shape(folder: Path) -> str:
    """What a config says of the sizes, in the order of the keys here."""
    keys = {
        "num_heads": "heads",
        "n_predict": "levels",
        "num_hidden_layers": "layers",
        "hidden_size": "hidden",
        "inner_dim": "inner",
        "num_attention_heads": "attention heads",
        "num_key_value_heads": "KV heads",
        "intermediate_size": "feed-forward",
        "vocab_size": "tokens",
        "draft_vocab_size": "draft tokens",
        "truncated_vocab_size": "draft tokens",
        "max_position_embeddings": "context",
    }
    config = read_config(folder)
    return ", ".join(f"{word} {config[key]}" for key, word in keys.items() if key in config)


def _losses(family: Path, documents: Path, device: str) -> str:
    domains = read_domains(documents)
    lines = []
    for folder in _members(family):
        if folder.name in HEADS:
            continue
        model = load_models(ModelSpec(target=str(folder), device=device)).target
        for window in WINDOWS:
            losses = domain_losses(model, domains, min(window, model.info.max_positions)).values()
            lines.append((folder.name, str(window), *("" if loss is None else f"{loss:.3f}" for loss in losses)))
    return _table(("", "window", *domains), lines)


def _acceptance(given: argparse.Namespace) -> str:
    rows = list(measure(given.family, prompts_by_domain(given.num_prompts), given.max_tokens, given.device))
    domains = [own.domain for own in rows[0].domains]
    repeated = ["" if own.repetition is None else f"{own.repetition:.2f}" for own in rows[0].domains]
    table = _table(("method", *domains), [(method_title(row), *map(_cell, row.domains)) for row in rows])
    return f"{table}\n| (repeated 4-grams in the answers) | {' | '.join(repeated)} |"


def _cell(own: Acceptance) -> str:
    rate = "nothing drafted" if own.rate is None else f"{own.rate:.2f}"
    return rate if own.length is None else f"{rate}, {own.length:.2f}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
