"""A setup that is written down runs exactly the same, read by the real parser."""

from __future__ import annotations

import io
import shlex
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from specterm import command
from specterm.bench.prompts import gather
from specterm.catalogue import METHODS
from specterm.cli import main
from specterm.config import MethodSpec, ModelSpec, RunSpec, SamplingSpec, read_plan, to_data
from specterm.setup_text import command_line, plan_of, plan_text, prompts_text

PROMPTS = ("Tell me", "two\nlines 'and' \"quotes\" $HOME `x` \\", "--help", "-", "-x", "ü😀\x7f")
MODELS = (
    ModelSpec(),
    ModelSpec(target="some/model", drafts=("a b", "-c"), medusa="m", eagle="e", eagle3="e3", mlp="s", dtype="float32"),
)


def other(parameter: Any) -> Any:
    """A value that is not the default, where there is an easy one."""
    if parameter.needs is not None or parameter.at_most or parameter.choices:
        return parameter.default
    match parameter.kind:
        case "int" | "float":
            top = parameter.maximum if parameter.maximum is not None else 1e9
            step = 1 if parameter.kind == "int" else 0.125
            return (parameter.default or 0) + step if (parameter.default or 0) + step <= top else parameter.default
        case "bool":
            return True
        case _:
            return parameter.default


def specs() -> dict[str, RunSpec]:
    made = {}
    sampling = SamplingSpec(temperature=0.25, top_k=7, top_p=0.5, min_p=0.125, seed=2**63 - 1, stop=("-\n", "b"))
    for name, method in METHODS.items():
        made[name] = RunSpec(model=ModelSpec(drafts=("builtin", "builtin")), method=MethodSpec(name=name))
        changed = {p.name: other(p) for p in method.parameters}
        for model in MODELS:
            spec = RunSpec(
                model=model, method=MethodSpec(name=name, parameters=changed), sampling=sampling, trace="probs"
            )
            made[f"{name}, {model.target}"] = spec
    return made


SPECS = specs()


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, RunSpec]]:
    """The prompts and runs that the command line has begun, instead of doing so."""
    seen: list[tuple[str, RunSpec]] = []

    def begin(open_engine: object, given: command.Given) -> int:
        plan = given.plan(None, (MethodSpec(),))
        (spec,) = command._runs(plan, given.values["trace"])
        seen.append((command._prompt_text(given.values["prompt"]), msgspec.structs.replace(spec, monitor=plan.monitor)))
        return 0

    monkeypatch.setattr(command, "_prompt", begin)
    return seen


def checked(name: str) -> RunSpec:
    try:
        return SPECS[name].checked()
    except Exception as error:
        pytest.skip(f"the made-up values do not go together: {error}")


@pytest.mark.parametrize("name", SPECS)
def test_the_command_line_and_the_plan_say_the_same_run(
    name: str, parsed: list[tuple[str, RunSpec]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = checked(name)
    monkeypatch.setenv("SPECTERM_TEMPERATURE", "1.5")  # what is written down beats it
    monkeypatch.setenv("SPECTERM_TARGET", "another")
    assert main(shlex.split(command_line(spec, "Tell me"))[1:]) == 0
    assert parsed == [("Tell me", spec)]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "p.jsonl").write_text(prompts_text("Tell me"))
    path = tmp_path / "below" / "p.toml"
    path.write_text(plan_text(to_data(plan_of(spec, "p.jsonl"))))
    plan = read_plan(path)
    assert (plan.repeats, plan.warmup) == (1, 0)
    assert msgspec.structs.replace(plan.run_spec(plan.methods[0]), trace=spec.trace) == spec
    assert [request.prompt for request in gather(plan.prompts)] == ["Tell me"]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_every_prompt_survives(
    prompt: str, parsed: list[tuple[str, RunSpec]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = command_line(RunSpec().checked(), prompt)
    words = shlex.split(line)
    if words[0] == "printf":
        assert words[:4] == ["printf", "%s", "-", "|"]
        monkeypatch.setattr(sys, "stdin", io.StringIO("-"))
        words = words[4:]
    assert main(words[1:]) == 0
    assert [text for text, _ in parsed] == [prompt]
    file = tmp_path / "p.jsonl"
    file.write_text(prompts_text(prompt), encoding="utf-8")
    assert [request.prompt for request in gather((str(file),))] == [prompt]


def test_some_setup_of_every_method_is_tried() -> None:
    tried = set()
    for spec in SPECS.values():
        try:
            tried.add(spec.checked().method.name)
        except ValueError:
            continue
    assert tried == set(METHODS)


def test_without_a_prompt_it_opens_the_workbench() -> None:
    assert "--prompt" not in command_line(RunSpec().checked(), "")
