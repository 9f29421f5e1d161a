"""A setup written down: as the command line, or as the plan, that runs exactly it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from specterm.config import PlanSpec, RunSpec
from specterm.options import Option, options


def command_line(spec: RunSpec, prompt: str) -> str:
    """The shell's line that decodes `prompt` with `spec`, a checked one; without a prompt it opens the workbench.

    Every value is named, also where it is the default, because environment and configuration of the shell that runs it
    may say otherwise. A chat template that is a file of its own has to be added.
    """
    words = ["specterm"]
    if prompt:
        # A prompt that looks like an option stays a value behind the sign.
        words += [f"--prompt={prompt}"] if prompt.startswith("-") else ["--prompt", prompt]
    for option in options().values():
        words += _words(option, _value(option, spec))
    line = shlex.join(words)
    return f"printf %s - | {line}" if prompt == "-" else line


def _value(option: Option, spec: RunSpec) -> Any:
    """What `spec` says about an option; None where it says nothing."""
    match option.group:
        case "model" | "sampling":
            found = getattr(getattr(spec, option.group), option.field)
        case "method" if option.name == "method":
            found = spec.method.name
        case "method":
            found = spec.method.parameters.get(option.name)
            if option.name not in spec.method.parameters:
                return None
        case _:
            told = {"trace": spec.trace, "no_monitor": not spec.monitor, "raw": not spec.chat}
            return {**told, "system": spec.system or None}.get(option.name)
    return _none(found, option)


def _none(value: Any, option: Option) -> Any:
    """`value`, or the word for None where leaving it out would mean something else."""
    parameter = option.parameter
    if value is not None or parameter is None or not parameter.optional or parameter.default is None:
        return value  # what is no option of this rule is None, too, and left out
    return "none"


def _words(option: Option, value: Any) -> list[str]:
    if value is None or value is False:
        return []
    if value is True:
        return [option.flag]
    texts = [str(text) for text in value] if isinstance(value, (tuple, list)) else [str(value)]
    return [
        word for text in texts for word in ([f"{option.flag}={text}"] if text.startswith("-") else [option.flag, text])
    ]


def plan_of(spec: RunSpec, prompts: str) -> PlanSpec:
    """The plan that runs `spec`, a checked one, once over the prompts of the file `prompts`."""
    return PlanSpec(
        model=spec.model,
        methods=(spec.method,),
        sampling=spec.sampling,
        prompts=(prompts,),
        repeats=1,
        warmup=0,
        batch_size=spec.batch_size,
        monitor=spec.monitor,
        chat=spec.chat,
        chat_template=spec.chat_template if spec.chat else None,
        system=spec.system,
    )


def plan_text(plan: Mapping[str, Any]) -> str:
    """The TOML of a checked plan, given as plain data."""
    methods = [
        {**method, "parameters": {name: _said(name, value) for name, value in method.get("parameters", {}).items()}}
        for method in plan["methods"]
    ]
    return "\n".join(_toml({**plan, "methods": methods})).strip() + "\n"


def _said(name: str, value: Any) -> Any:
    option = options().get(name)
    return value if option is None else _none(value, option)  # of a plug-in that is not there any more


def prompts_text(prompt: str) -> str:
    """The file of prompts (JSON Lines) that holds `prompt` alone."""
    return msgspec.json.encode({"id": "prompt", "prompt": prompt}).decode() + "\n"


def _toml(table: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """The lines of a table: values first, then the tables in it. TOML has no null: what is None is left out."""
    tables = {key: value for key, value in table.items() if _is_table(value)}
    for key, value in table.items():
        if key not in tables and value is not None:
            yield f"{key} = {_toml_value(value)}"
    for key, value in tables.items():
        name = f"{path}.{key}" if path else key
        for part in value if isinstance(value, list) else (value,):
            yield f"\n[[{name}]]" if isinstance(value, list) else f"\n[{name}]"
            yield from _toml(part, name)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _toml_value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_toml_value(part) for part in value)}]"
    # A TOML text is a JSON text, but for the character DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
