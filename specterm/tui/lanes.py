"""What a comparison compares: its lanes, and the batch plan that they make."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from specterm.catalogue import METHODS, Method
from specterm.catalogue.parameter import Parameter
from specterm.config import MethodSpec, PlanSpec, Request, RunSpec
from specterm.errors import ConfigError

LEAST, MOST = 2, 4

OWN_PROMPT = "prompt"
"""What a plan calls the workbench's prompt, where it names its sources."""

PROMPTS = Parameter(
    "prompts",
    "text",
    None,
    "built-in prompt sets (builtin, stories, code, arithmetic) or files, separated by commas",
    optional=True,
    none_means="prompt below",
)
NUM_PROMPTS = Parameter(
    "num_prompts", "int", None, "at most so many prompts", 1, optional=True, none_means="all", label="at most"
)
REPEATS = Parameter("repeats", "int", 3, "timed runs of each prompt with each method", 1, 100)
WARMUP = Parameter("warmup", "int", 1, "untimed runs of each method before them", 0, 100, label="warm-ups")
WORKLOAD = (PROMPTS, NUM_PROMPTS, REPEATS, WARMUP)


def usual_lanes(spec: RunSpec) -> list[MethodSpec]:
    """Naive decoding, the method of `spec`, and others that its models allow and that draft from something else: draft
    models, heads of the target, or the text alone. All checked."""
    naive = next(name for name, method in METHODS.items() if not method.speculative)
    lanes = [MethodSpec(name=naive).checked()]
    if spec.method.name != naive:
        lanes.append(spec.method.checked())
    sources = {_source(METHODS[lane.name]) for lane in lanes[1:]}
    for name, method in METHODS.items():
        if len(lanes) < MOST and method.speculative and _source(method) not in sources:
            try:
                lanes.append(checked_lane(spec, MethodSpec(name=name)))
            except ConfigError:
                continue
            sources.add(_source(method))
    return lanes


def further_lane(spec: RunSpec, lanes: Sequence[str]) -> MethodSpec:
    """The first method that no lane has and that the models allow; where all are taken, naive again."""
    for name in METHODS:
        if name not in lanes:
            try:
                return checked_lane(spec, MethodSpec(name=name))
            except ConfigError:
                continue
    return MethodSpec(name=lanes[0]).checked()


def checked_lane(spec: RunSpec, method: MethodSpec) -> MethodSpec:
    """`method`, checked with the models and the sampling of `spec`.

    Raises:
        ConfigError: it cannot run with them.
    """
    return RunSpec(model=spec.model, method=method, sampling=spec.sampling).checked().method


def _source(method: Method) -> str:
    if method.heads:
        return "heads"
    return "draft models" if method.min_drafts else "text"


def comparison(
    spec: RunSpec, lanes: Sequence[MethodSpec], own: Request, prompts: str | None, limit: int | None, repeats: int,
    warmup: int,
) -> tuple[PlanSpec, tuple[Request, ...]]:  # fmt: skip
    """The checked plan of a comparison with the models and the sampling of `spec`, and its prompts: `own`, which is a
    turn where `spec` is of a conversation, or those of the sets and files that `prompts` names, at most `limit`, as
    they stand.

    Raises:
        ConfigError: two lanes are the same, one cannot be run, or there is no prompt.
    """
    from specterm.bench.prompts import gather  # reads files: not before it is needed

    sources = (OWN_PROMPT,) if prompts is None else tuple(s.strip() for s in prompts.split(",") if s.strip())
    plan = PlanSpec(
        model=spec.model, methods=tuple(lanes), sampling=spec.sampling, prompts=sources, num_prompts=limit,
        repeats=repeats, warmup=warmup, monitor=spec.monitor,
    )  # fmt: skip
    if prompts is None and spec.chat:
        plan = msgspec.structs.replace(plan, chat=True, chat_template=spec.chat_template, system=spec.system)
    plan = plan.checked()
    labels = [method.label for method in plan.methods]
    for number, label in enumerate(labels):
        if label in labels[:number]:
            first = labels.index(label) + 1
            raise ConfigError(f"lanes {first} and {number + 1} are both {label!r}; change or remove one")
    if prompts is not None:
        return plan, gather(sources, limit)
    if not own.prompt.strip():
        raise ConfigError("the workbench's prompt is empty; write one there, or name a prompt set")
    return plan, (msgspec.structs.replace(own, prompt_id=OWN_PROMPT),)
