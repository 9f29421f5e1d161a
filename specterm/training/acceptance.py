"""Print what every method that a family has models for gets accepted, by domain."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from specterm.api import Workbench
from specterm.bench.prompts import SETS, gather
from specterm.catalogue import HEADS, METHODS, Method
from specterm.catalogue.method_parameters import TREE_NODES, TREE_WIDTH
from specterm.catalogue.models import BUILTIN
from specterm.config import Request
from specterm.errors import ModelError
from specterm.metrics import RowResult
from specterm.training.arguments import check_positive

_CHAIN = {"num_draft_tokens": 4, "draft_confidence": 0.0}
_TREE = {"tree_nodes": 24}  # chosen by costs, their number would say something of the machine


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What a method got accepted in one domain, over all prompts and rounds.

    rate: accepted / drafted, None where nothing was drafted; length: the mean acceptance length, emitted tokens a
    round, None where there was no round; repetition: the share of repeated 4-grams in the answers, None where they are
    all shorter.
    """

    domain: str
    rate: float | None
    length: float | None
    repetition: float | None


@dataclass(frozen=True, slots=True)
class MethodAcceptance:
    """What a method got accepted with these drafts, in every domain."""

    method: Method
    drafts: tuple[str, ...]
    domains: tuple[Acceptance, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("family", type=Path, help="a folder with target, draft..., and heads by kind")
    add_prompt_arguments(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")


def add_prompt_arguments(parser: argparse.ArgumentParser) -> None:
    """On how many prompts, and how long."""
    parser.add_argument("--num-prompts", type=int, default=5, help="prompts of each domain (%(default)s)")
    parser.add_argument("--max-tokens", type=int, default=100, help="tokens of each answer (%(default)s)")


def check_prompt_arguments(given: argparse.Namespace) -> None:
    """Raises:
    ConfigError: one of those options is out of its range.
    """
    check_positive(given, "num_prompts", "max_tokens")


def run(given: argparse.Namespace) -> None:
    """The command: a table on stdout.

    Raises:
        ConfigError, ModelError, DeviceError: what was given cannot be used.
    """
    check_prompt_arguments(given)
    row = None  # greedy answers are the same whatever the method: the last one tells of all
    measured = measure(given.family, prompts_by_domain(given.num_prompts), given.max_tokens, given.device)
    for number, row in enumerate(measured):
        if not number:
            print(f"{'acceptance, acceptance length':32}" + "".join(f"{own.domain:>16}" for own in row.domains))
        shown = "".join(f"{_figure(own.rate):>9}{_figure(own.length):>7}" for own in row.domains)
        print(f"{method_title(row):32}{shown}", flush=True)
    if row is not None:
        print(f"{'repeated 4-grams':32}" + "".join(f"{_figure(own.repetition):>16}" for own in row.domains))


def method_title(row: MethodAcceptance) -> str:
    """The method and, where it uses some, its drafts."""
    return f"{row.method.name} ({', '.join(row.drafts)})" if row.drafts else row.method.name


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def prompts_by_domain(count: int) -> tuple[Request, ...]:
    """The first `count` built-in prompts of every domain."""
    return gather((BUILTIN,), count * len(SETS))


def measure(family: Path, prompts: Sequence[Request], max_tokens: int, device: str) -> Iterator[MethodAcceptance]:
    """Greedy runs of every method over `prompts`, with its default options; but drafts have 4 tokens, sure or not,
    where they have a length, and trees 24 nodes.

    A method that takes one draft model runs with each; one that takes several, with all.

    Raises:
        ModelError: there is no target in `family`, or a model cannot be loaded.
    """
    if not (family / "target").is_dir():
        raise ModelError(f"{family} holds no family: it has no folder target")
    drafts = tuple(sorted(folder.name for folder in family.glob("draft*") if (folder / "config.json").is_file()))
    heads = {kind: str(family / kind) for kind in HEADS if (family / kind).is_dir()}
    for used in dict.fromkeys([(), *((draft,) for draft in drafts), drafts]):
        methods = [method for method in METHODS.values() if _runs(method, used, drafts, heads)]
        names = [str(family / draft) for draft in used]
        # As they are stored: a processor that holds them in 8 bits would tell of other weights.
        with Workbench(str(family / "target"), names, device=device, draft_quantize="none", **heads) as workbench:
            for method in methods:
                yield _measured(workbench, method, used, prompts, max_tokens)


def _runs(method: Method, used: tuple[str, ...], drafts: tuple[str, ...], heads: dict[str, str]) -> bool:
    """Whether `method` is to be run with the drafts `used` out of `drafts`."""
    if not method.speculative or (method.heads and method.heads not in heads):
        return False
    if method.min_drafts == 0:
        return not used
    return len(used) == 1 if method.max_drafts == 1 else bool(used) and used == drafts


def _measured(
    workbench: Workbench, method: Method, used: tuple[str, ...], prompts: Sequence[Request], max_tokens: int
) -> MethodAcceptance:
    taken = {parameter.name for parameter in method.parameters}
    drafts = _TREE if TREE_NODES in method.parameters and TREE_WIDTH not in method.parameters else _CHAIN
    options = {name: value for name, value in drafts.items() if name in taken}
    texts = [request.prompt for request in prompts]
    rows = workbench.run(texts, method.name, temperature=0.0, max_tokens=max_tokens, **options)
    by_domain: dict[str, list[RowResult]] = {}
    for row in rows:
        by_domain.setdefault(prompts[int(row.prompt_id)].domain or "", []).append(row)
    return MethodAcceptance(method, used, tuple(_summed(domain, own) for domain, own in by_domain.items()))


def _summed(domain: str, rows: Sequence[RowResult]) -> Acceptance:
    def total(name: str) -> int:
        return sum(count for row in rows if isinstance(count := row.metrics[name], int))

    drafted, rounds = total("drafted"), total("rounds")
    emitted = total("output_tokens") - len(rows)  # the first token of each comes with its prompt
    shares = [float(share) for row in rows if isinstance(share := row.metrics["repetition"], (int, float))]
    return Acceptance(
        domain,
        rate=total("accepted") / drafted if drafted else None,
        length=emitted / rounds if rounds else None,
        repetition=sum(shares) / len(shares) if shares else None,
    )
