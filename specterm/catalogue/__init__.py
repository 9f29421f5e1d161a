"""Every method, rule and option of decoding as data: the command line, the plan files, the panels of the screen and
the axes of a sweep are generated from here, so none of them knows a method by name. No torch.

A method is an entry in `METHODS` and one file in `decoding/drafters/`; a rule is an entry in `RULES` and one file in
`decoding/acceptance/`. Methods from outside the package come in through `plugins`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from specterm.catalogue.methods import HEADS, METHODS, Method
from specterm.catalogue.parameter import Kind, Parameter, Value
from specterm.catalogue.plugins import find_plugin
from specterm.catalogue.rules import RULES, Rule
from specterm.catalogue.sampling import SAMPLING
from specterm.errors import ConfigError

__all__ = [
    "HEADS",
    "METHODS",
    "RULES",
    "SAMPLING",
    "Kind",
    "Method",
    "Parameter",
    "Rule",
    "Value",
    "check_pair",
    "check_parameters",
    "lossless",
    "lossless_reason",
    "method",
    "rule",
]


def method(name: str) -> Method:
    """The method called `name`; a plug-in is loaded at the first call.

    Raises:
        ConfigError: there is none, and the text lists those that exist; or it is a plug-in that cannot be used.
    """
    if name not in METHODS:
        find_plugin(name)
    if name not in METHODS:
        raise ConfigError(f"--method is {name!r}; it must be one of {', '.join(METHODS)}, or FILE.py:NAME")
    return METHODS[name]


def rule(name: str) -> Rule:
    """The rule called `name`.

    Raises:
        ConfigError: there is no such rule.
    """
    if name not in RULES:
        raise ConfigError(f"--acceptance is {name!r}; it must be one of {', '.join(RULES)}")
    return RULES[name]


def check_pair(rule: Rule, method: str, parameters: Mapping[str, Any]) -> None:
    """Check that `rule` can judge what `method` drafts with these parameters.

    Raises:
        ConfigError: it cannot, and the text says why.
    """
    refused = f"--acceptance {rule.name} does not go with"
    if not rule.goes_with(method):
        raise ConfigError(f"{refused} --method {method}: {rule.needs}; it goes with {', '.join(rule.methods)}")
    own = {parameter.name: parameter for parameter in METHODS[method].parameters}
    for name, needed in rule.method_parameters:
        if name in own and parameters[name] != needed:
            flag = own[name].flag
            raise ConfigError(f"{refused} {flag} {parameters[name]}: {rule.needs}; give {flag} {needed}")


def lossless(spec: Mapping[str, Any]) -> bool | None:
    """Whether the output of a run follows the target's own law; `spec` is its `RunSpec` as plain data. None where
    nothing is known of its rule. A method that is not known is taken to draft."""
    sampling = spec.get("sampling", {})
    known = RULES.get(sampling.get("acceptance", ""))
    drafting = METHODS.get(spec.get("method", {}).get("name", ""))
    return None if known is None else known.lossless(sampling, speculative=drafting is None or drafting.speculative)


def lossless_reason(spec: Mapping[str, Any]) -> str | None:
    """Why the output of a run follows the target's own law, or why it does not; None where nothing is known. For `spec`
    see `lossless`."""
    found = lossless(spec)
    return None if found is None else RULES[spec["sampling"]["acceptance"]].reason(found)


def check_parameters(owner: Method | Rule, given: Mapping[str, Any]) -> dict[str, Value]:
    """The parameters of `owner` with defaults filled in and each value checked.

    Raises:
        ConfigError: a value is bad, a name is unknown, or two values do not go together.
    """
    known = {parameter.name: parameter for parameter in owner.parameters}
    for name in given:
        if name not in known:
            takes = ", ".join(known) or "no parameters"
            raise ConfigError(f"{owner.name} has no parameter {name!r}; it takes {takes}")
    values = {name: parameter.check(given.get(name, parameter.default)) for name, parameter in known.items()}
    for name, parameter in known.items():
        _check_relations(parameter, values[name], known, values)
    return values


def _check_relations(
    parameter: Parameter, value: Any, known: Mapping[str, Parameter], values: Mapping[str, Any]
) -> None:
    if value is None:
        return
    if parameter.at_most and value > values[parameter.at_most]:
        bound = known[parameter.at_most].flag
        limit = values[parameter.at_most]
        raise ConfigError(f"{parameter.flag} is {value}; it must be at most {bound}, which is {limit}")
    if parameter.needs is not None and values[parameter.needs[0]] != parameter.needs[1]:
        name, needed = parameter.needs
        raise ConfigError(f"{parameter.flag} needs {known[name].flag} {needed}; it is {values[name]}")
