"""What to deploy: the setting that won a comparison, and the nearest that other programs have.

A setting wins if it is the fastest of those whose output is what it must be, and if its interval says that it is faster
than naive decoding at all. Everything about other programs is data of `catalogue.deployment`.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from specterm.bench.statistics import Interval
from specterm.bench.summary import Summary
from specterm.catalogue import METHODS
from specterm.catalogue.deployment import PROGRAMS, Difference, Program, Recipe
from specterm.catalogue.models import BUILTIN
from specterm.config import PlanSpec


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """How one program comes nearest. `line` is what to run, None where it has no such method; `arguments` are those of
    `--speculative-config` or of `generate`; `differences` say what is not as it was measured."""

    program: str
    line: str | None
    arguments: dict[str, Any] = {}
    differences: tuple[str, ...] = ()


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """What a comparison comes to. `configuration` is the setting that won, None where it is to be served without
    speculation or where nothing can be said; `verdict` says so in one sentence."""

    configuration: str | None
    verdict: str
    ways: tuple[Way, ...] = ()


def deployment(plan: PlanSpec, summary: Sequence[Summary]) -> Deployment:
    """What to deploy after the comparison `summary` of the methods of `plan`."""
    if not any(entry.speedup is not None and _speculative(entry) for entry in summary):
        why = "nothing can be said about deployment: no speedup against naive decoding was measured"
        return Deployment(configuration=None, verdict=why)
    drafting = [
        e for e in summary if _speculative(e) and e.speedup is not None and not e.matches_naive.get("different")
    ]
    faster = [entry for entry in drafting if entry.speedup is not None and _is_faster(entry.speedup)]
    if not faster:
        plain = tuple(Way(program=p.name, line=_filled(p, p.plain, {"target": plan.model.target})) for p in PROGRAMS)
        return Deployment(configuration=None, verdict=f"deploy without speculation: {_why_not(drafting)}", ways=plain)
    best = max(faster, key=lambda entry: entry.speedup.ratio if entry.speedup else 0.0)
    assert best.speedup is not None
    naive = next((entry for entry in summary if not _speculative(entry)), None)
    told = ", ".join(
        (f"deploy {best.configuration}: {interval_text(best.speedup)} as fast as naive decoding", *_beside(best, naive))
    )
    if best.lossless is False:
        told += "; NOT lossless"
    ways = tuple(_way(program, plan, best) for program in PROGRAMS)
    return Deployment(configuration=best.configuration, verdict=told, ways=ways)


def lines(found: Deployment) -> Iterator[str]:
    """The same for people, a line each: the verdict, then each program."""
    yield found.verdict
    for way in found.ways:
        yield f"{way.program}: {way.line or 'no such method there'}"
        if way.differences:
            yield f"{way.program} differs: {'; '.join(way.differences)}"


def interval_text(speedup: Interval) -> str:
    """A speedup with its 95 % interval, where there is one."""
    if speedup.low is None or speedup.high is None:
        return f"{speedup.ratio:.2f}x"
    return f"{speedup.ratio:.2f}x ({speedup.low:.2f} to {speedup.high:.2f})"


def _speculative(entry: Summary) -> bool:
    method = METHODS.get(entry.method)
    return method is None or method.speculative


def _beside(best: Summary, naive: Summary | None) -> Iterator[str]:
    """What else is to be known of the setting that won: its evidence, its energy, its output."""
    if best.speedup is not None and best.speedup.low is None:
        yield "of one run: measure more prompts or repeats"
    used = best.figures.get("joules_per_token")
    base = naive.figures.get("joules_per_token") if naive is not None else None
    if used is not None and base is not None and base.mean > 0:
        saved = 1 - used.mean / base.mean
        yield f"{100 * abs(saved):.0f} % {'less' if saved >= 0 else 'more'} energy a token"
    if best.matches_naive:
        ties = best.matches_naive.get("near_tie", 0)
        runs = sum(best.matches_naive.values())
        yield "output identical" + (f" but for {ties} of {runs}, near ties" if ties else "")


def _is_faster(speedup: Interval) -> bool:
    return (speedup.ratio if speedup.low is None else speedup.low) > 1


def _why_not(drafting: Sequence[Summary]) -> str:
    known = [(entry.speedup, entry.configuration) for entry in drafting if entry.speedup is not None]
    if not known:
        return "every faster setting gave output that differs from naive decoding's"
    best, name = max(known, key=lambda pair: pair[0].ratio)
    told = "no setting is faster than naive decoding"
    if best.high is not None and best.high > 1:
        told = "no setting is measurably faster than naive decoding"
    return f"{told}; the best was {name}, {interval_text(best)}"


def _way(program: Program, plan: PlanSpec, best: Summary) -> Way:
    recipe = program.recipes.get(best.method)
    if recipe is None:
        return Way(program=program.name, line=None)
    values = _values(plan, best)
    arguments = dict(recipe.constants) | dict(_arguments(recipe, values))
    told = [difference for difference in (*recipe.differences, *program.differences) if _differs(difference, values)]
    texts = [d.text.format(program=program.name, value=values[d.value]) for d in told]
    written = {**arguments, "target": plan.model.target, "arguments": json.dumps(arguments)}
    return Way(
        program=program.name,
        line=_filled(program, recipe.line or program.line, written),
        arguments=arguments,
        differences=(*texts, *recipe.notes),
    )


def _values(plan: PlanSpec, best: Summary) -> dict[str, Any]:
    """The values that recipes may name: see `catalogue.deployment`."""
    model, method = plan.model, METHODS[best.method]
    heads = model.heads().get(method.heads)
    used = [model.target, *model.drafts[: method.max_drafts], *([heads] if heads is not None else [])]
    return best.parameters | {
        "draft": model.drafts[0] if model.drafts else None,
        "drafts": len(model.drafts[: method.max_drafts]),
        "heads": heads,
        "acceptance": plan.sampling.acceptance,
        "sampled": plan.sampling.temperature > 0,
        "batch_size": plan.batch_size,
        "builtin": any(name == BUILTIN or name.startswith(f"{BUILTIN}/") for name in used),
    }


def _arguments(recipe: Recipe, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for argument in recipe.arguments:
        value = values.get(argument.value)
        if argument.translations is not None:
            value = argument.translations.get(value)
        if value is not None:
            yield argument.name, value


def _differs(difference: Difference, values: Mapping[str, Any]) -> bool:
    return difference.value in values and values[difference.value] not in difference.same


def _filled(program: Program, line: str, values: Mapping[str, Any]) -> str:
    quote = {"shell": lambda value: shlex.quote(str(value)), "python": repr}[program.quoting]
    return line.format(**{name: quote(value) for name, value in values.items()})
