"""What is to be proved: which methods and rules, and by which checks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import msgspec

from specterm import catalogue
from specterm.bench.comparison import EXACT_DTYPES, drafts_are_fixed
from specterm.catalogue import METHODS, RULES
from specterm.catalogue.shapes import shapes
from specterm.config import MethodSpec, ModelSpec, RunSpec, SamplingSpec
from specterm.errors import ConfigError

Kind: TypeAlias = Literal["greedy", "seeds", "law", "distance"]


class VerifySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a person asks to have verified. Without `methods` it is every one that the models allow, in each way that
    it makes children; without `rules` every lossless one. A pair that is named and impossible is an error, others are
    left out."""

    model: ModelSpec = ModelSpec()
    methods: tuple[MethodSpec, ...] = ()
    rules: tuple[str, ...] = ()
    sampling: SamplingSpec = SamplingSpec()


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to try. `rules` have the same mathematics on the same warps here, so one run speaks for all of them;
    `others` are the runs under the second and further ones.

    greedy: the output of greedy decoding against naive's and the target's own choices. seeds: sampled output against
    naive's with the same seeds. law: the joint law of the first speculated tokens against the target's own. distance:
    how far a lossy rule's law is from it. untested: why it cannot be tried; empty where it can.
    """

    kind: Kind
    rules: tuple[str, ...]
    spec: RunSpec
    untested: str = ""
    others: tuple[RunSpec, ...] = ()


def checks(spec: VerifySpec, dtype: str) -> list[Check]:
    """Every check that `spec` asks for, where the target computes in `dtype`.

    Raises:
        ConfigError: a value is bad, a pair that was named is impossible, or nothing is left.
    """
    found: dict[tuple[object, ...], Check] = {}
    for pair in pairs(spec):
        for check in _of_pair(pair, dtype):
            key = _key(check)
            if key in found:
                check = _joined(found[key], check)
            found[key] = check
    order: tuple[Kind, ...] = ("greedy", "seeds", "law", "distance")
    return sorted(found.values(), key=lambda check: order.index(check.kind))


def _joined(one: Check, other: Check) -> Check:
    return replace(one, rules=(*one.rules, *other.rules), others=(*one.others, other.spec))


def pairs(spec: VerifySpec) -> list[RunSpec]:
    """The runs that are to be verified, one a method, way of making children, and rule.

    Raises:
        ConfigError: see `checks`.
    """
    for name in spec.rules:
        catalogue.rule(name)
    model = spec.model.checked()
    named = bool(spec.methods) and bool(spec.rules)
    made: list[RunSpec] = []
    reasons: list[str] = []
    for method in spec.methods or tuple(_every_method()):
        for rule in spec.rules or tuple(RULES):
            try:
                run = RunSpec(model=model, method=method, sampling=_under(rule, spec.sampling), monitor=False).checked()
            except ConfigError as error:
                if named:
                    raise
                reasons.append(str(error))
                continue
            if not METHODS[run.method.name].speculative:
                reasons.append(f"--method {run.method.name} drafts nothing, so there is nothing to verify")
            elif spec.rules or catalogue.lossless({"method": {"name": run.method.name}, "sampling": _told(run)}):
                made.append(run)
    if not made:
        raise ConfigError(reasons[0] if reasons else "no lossless rule is left; name one with --acceptance")
    return made


def _every_method() -> Iterator[MethodSpec]:
    for method in METHODS.values():
        if method.speculative:
            yield from (MethodSpec(name=method.name, parameters=dict(shape)) for shape in shapes(method))


def _under(rule: str, sampling: SamplingSpec) -> SamplingSpec:
    """`sampling` with `rule`, without what only other rules take."""
    foreign = {p.name: None for owner in RULES.values() if owner.name != rule for p in owner.parameters}
    return msgspec.structs.replace(sampling, acceptance=rule, stop=(), **foreign)


def naive_under(sampling: SamplingSpec) -> SamplingSpec:
    """`sampling` without a rule that matters: for runs that draft nothing."""
    return _under("exact", sampling)


def _told(run: RunSpec) -> dict[str, object]:
    return {name: getattr(run.sampling, name) for name in run.sampling.__struct_fields__}


def _of_pair(run: RunSpec, dtype: str) -> Iterator[Check]:
    rule = (run.sampling.acceptance,)
    greedy = msgspec.structs.replace(run.sampling, temperature=0.0)
    yield Check("greedy", rule, msgspec.structs.replace(run, sampling=greedy))
    if run.sampling.greedy:
        return
    heads = METHODS[run.method.name].heads
    if not catalogue.RULES[rule[0]].lossless(_told(run), speculative=True):
        yield Check("distance", rule, run)
    elif not drafts_are_fixed(run.method):
        yield Check("law", rule, run)
    elif dtype in EXACT_DTYPES:
        yield Check("seeds", rule, run)
    else:
        why = f"in {dtype} rounding moves draws, and rows that draft from hidden states are too few for statistics; "
        yield Check("law", rule, run, why + "--dtype float32 tests it" if heads else "")


def _key(check: Check) -> tuple[object, ...]:
    """What makes two checks the same run. Of a rule that is another's only where it is lossless, the checks that cost
    little are made all the same."""
    sampling, rule = check.spec.sampling, RULES[check.rules[0]]
    parameters, name = tuple(sampling.rule_parameters.items()), rule.preset_of or rule.name
    if rule.lossless_at is not None:
        parameters, name = ((), name) if check.kind == "law" else (parameters, rule.name)
    warps = (sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p, sampling.filter_value)
    return check.kind, check.spec.method.label, name, parameters, warps[:1] if check.kind == "greedy" else warps


def law_checks(found: Sequence[Check]) -> int:
    """How many statistical tests there are: the family whose false alarms are bounded together."""
    return sum(check.kind == "law" and not check.untested for check in found)
