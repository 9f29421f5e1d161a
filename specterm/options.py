"""The command line's options as data, made from the catalogue and the specs, and what was given turned into specs.

No default is written here: each comes from the catalogue or from the struct that holds the value. An option that was
not given is None, so that a plan file can be told from a default: a typed option beats the plan, the plan beats the
environment, the environment beats the configuration file, and that the default. The parameters of plug-ins are options
too, once they are loaded.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_type_hints

import msgspec
import typer

from specterm import catalogue
from specterm.catalogue import METHODS, RULES, SAMPLING, Method, Parameter
from specterm.catalogue.models import DRAFT_QUANTIZATIONS, DTYPES, LOADING, NAMES, QUANTIZATIONS
from specterm.catalogue.plugins import discover
from specterm.config import (
    FORMATS,
    TRACES,
    MethodSpec,
    ModelSpec,
    PlanSpec,
    RunSpec,
    SamplingSpec,
    plan_data,
    plan_from,
)
from specterm.errors import ConfigError
from specterm.history.retention import LIMIT as HISTORY_LIMIT
from specterm.log_file import DEFAULT_LEVEL, LEVELS

DEFAULT_OUT = "specterm-report"
ENGINES = ("local", "replay")
SHELLS = ("bash", "zsh", "fish")
_CHOICES: Mapping[str, Collection[str]] = {
    "acceptance": RULES,
    "completion": SHELLS,
    "draft_quantize": DRAFT_QUANTIZATIONS,
    "dtype": DTYPES,
    "engine": ENGINES,
    "log_level": LEVELS,
    "quantize": QUANTIZATIONS,
    "trace": TRACES,
}

Group: TypeAlias = Literal["command", "model", "method", "sampling", "plan", "run"]


@dataclass(frozen=True, slots=True)
class Option:
    """One option. `group` says which spec it fills and `field` which value there; commands fill none."""

    name: str
    group: Group
    panel: str
    help: str
    annotation: Any
    default: str | None = None  # as the help shows it
    field: str = ""
    metavar: str | None = None
    parameter: Parameter | None = None

    @property
    def flag(self) -> str:
        """The command-line flag."""
        return "--" + self.name.replace("_", "-")

    @property
    def typer_annotation(self) -> Any:
        """The annotation that typer reads."""
        settings = typer.Option(
            self.flag,
            help=self.help if self.default is None else f"{self.help} (default: {self.default})",
            rich_help_panel=self.panel,
            metavar=self.metavar,
            show_default=False,
            envvar=self.variable,
            show_envvar=True,
            autocompletion=self._complete,
        )
        return Annotated[self.annotation | None, settings]

    @property
    def variable(self) -> str | None:
        """The environment variable; None for a command."""
        return None if self.group == "command" else "SPECTERM_" + self.name.upper()

    def _complete(self, incomplete: str) -> list[str]:
        """The values that begin with `incomplete`, for a shell that asks."""
        usual = () if self.parameter is None else self.parameter.choices
        words = METHODS if self.name == "method" else _CHOICES.get(self.name, usual)
        return [word for word in words if word.startswith(incomplete)]

    def check_alone(self, value: Any) -> None:
        """Check a value of the right type as far as it does not depend on others.

        Raises:
            ConfigError: it cannot be used.
        """
        if self.parameter is not None:
            self.parameter.check(value)
        if self.name in _CHOICES and value not in _CHOICES[self.name]:
            raise ConfigError(f"{self.flag} is {value!r}; it must be one of {', '.join(_CHOICES[self.name])}")
        if self.group in ("model", "plan") or self.name == "method":
            Given({self.name: value}, frozenset()).plan(None, (MethodSpec(name="naive"),))


def _shown(value: Any) -> str | None:
    """A default as the help shows it; None for what needs no word."""
    if value is None or value is False or value == () or value == "":
        return None
    if isinstance(value, tuple):
        return ",".join(v.name if isinstance(v, MethodSpec) else str(v) for v in value)
    return str(value)


def _of_struct(
    struct: type[msgspec.Struct], field: str, group: Group, panel: str, text: str, name: str = "", metavar: str = ""
) -> Option:
    hint = get_type_hints(struct)[field]
    default = next(f.default for f in msgspec.structs.fields(struct) if f.name == field)
    if hint in (int, int | None):
        return _of_parameter(Parameter(field, "int", default, text, optional=hint is not int), group, panel, text)
    annotation = {str: str, str | None: str, bool: bool}.get(hint, list[str])
    metavar = metavar or ("" if annotation is bool else "TEXT")
    return Option(name or field, group, panel, text, annotation, _shown(default), field, metavar or None)


def _of_parameter(parameter: Parameter, group: Group, panel: str, text: str) -> Option:
    """Values stay text here: the catalogue reads them and says what is wrong with them."""
    annotation: Any = {"bool": bool, "texts": list[str]}.get(parameter.kind, str)
    metavar = {"int": "INTEGER", "float": "NUMBER", "bool": None}.get(parameter.kind, "TEXT")
    metavar = "|".join(parameter.choices) or metavar
    default = _shown(parameter.default) or parameter.none_means or None
    return Option(parameter.name, group, panel, text, annotation, default, parameter.name, metavar, parameter)


def _method_parameters() -> Iterator[Option]:
    takers: dict[str, list[str]] = {}
    parameters: dict[str, Parameter] = {}
    for method in METHODS.values():
        for parameter in method.parameters:
            parameters.setdefault(parameter.name, parameter)
            takers.setdefault(parameter.name, []).append(method.name)
    for name, parameter in parameters.items():
        yield _of_parameter(parameter, "method", "Method", f"{parameter.help} ({', '.join(takers[name])})")


def _options() -> Iterator[Option]:
    """Every option, in the order of the help."""
    run, models, method, sampling, work, engine, report = (
        "Commands", "Models", "Method", "Sampling", "Workload", "Engine", "Report"
    )  # fmt: skip
    yield Option("prompt", "command", run, "Decode one prompt here; - reads standard input.", str, metavar="TEXT|-")
    yield Option("batch", "command", run, "Run every method over every prompt, without a screen.", bool)
    proves = "Prove, or refute, that every lossless rule keeps the target's law, on the given models."
    yield Option("verify", "command", run, proves, bool)
    yield Option("doctor", "command", run, "Say what this machine has, what would be used, what is missing.", bool)
    yield Option("version", "command", run, "Print the version.", bool)
    yield Option("paths", "command", run, "Print where configuration, themes, data, state and log lie.", bool)
    shell = "Print the script that completes options in a shell."
    yield Option("completion", "command", run, shell, str, metavar="|".join(SHELLS))
    yield Option("purge_history", "command", run, "Delete every stored run, after asking.", bool)
    yield Option("yes", "command", run, "With --purge-history: do not ask.", bool)

    for parameter in NAMES:
        name = parameter.label or parameter.name
        yield _of_struct(ModelSpec, parameter.name, "model", models, parameter.help, name, "NAME|DIR|ID")
    for parameter in LOADING:
        yield _of_struct(ModelSpec, parameter.name, "model", models, parameter.help)

    names = f"{', '.join(METHODS)}; several, with commas, are compared."
    yield Option("method", "method", method, names, str, MethodSpec().name, metavar="NAME[,NAME]")
    yield from _method_parameters()

    yield Option(
        "acceptance", "sampling", sampling, f"{', '.join(RULES)}.", str, SamplingSpec().acceptance, "acceptance", "NAME"
    )
    for parameter in (*SAMPLING, *(p for rule in RULES.values() for p in rule.parameters)):
        yield _of_parameter(parameter, "sampling", sampling, parameter.help)

    sources = "A built-in set (builtin, stories, code, arithmetic) or a .txt, .json or .jsonl file (repeatable)."
    yield _of_struct(PlanSpec, "prompts", "plan", work, sources, metavar="NAME|FILE")
    yield _of_struct(PlanSpec, "num_prompts", "plan", work, "Use this many prompts, spread over all sources.")
    yield _of_struct(PlanSpec, "repeats", "plan", work, "Timed repeats of each prompt.")
    yield _of_struct(PlanSpec, "warmup", "plan", work, "Untimed runs of each method first.")
    yield _of_struct(PlanSpec, "batch_size", "plan", work, "Prompts decoded together.")
    template = "A Jinja file to use instead of the model's own chat template."
    yield Option("chat_template", "run", work, template, str, metavar="FILE")
    yield Option("system", "run", work, "The system prompt of a conversation.", str, metavar="TEXT")
    yield Option("raw", "run", work, "Complete the text as it stands, whatever template the model has.", bool)

    yield _of_struct(RunSpec, "trace", "run", engine, f"How much a round records: {', '.join(TRACES)}.")
    yield Option("no_monitor", "plan", engine, "Do not read the devices' power and load.", bool, field="monitor")

    yield Option("engine", "run", engine, f"{', '.join(ENGINES)}.", str, ENGINES[0], metavar="|".join(ENGINES))
    stored = "With --engine replay: the number of a stored run, or a file that --record wrote."
    yield Option("recording", "command", engine, stored, str, metavar="RUN|FILE")
    pace = "With --engine replay: a multiple of the run's own pace; 0 shows it at once."
    yield Option("replay_speed", "run", engine, pace, str, "1, and 0 with --json or --plain", metavar="NUMBER")
    yield Option("record", "command", engine, "With --prompt: write the run's events to a file.", str, metavar="FILE")
    private = "Do not store the runs of the workbench (those of --prompt and --batch never are)."
    reuse = "Prefill the whole prompt in the workbench, also what the target has seen already."
    yield Option("no_prefix_reuse", "run", work, reuse, bool)
    yield Option("no_history", "run", engine, private, bool)
    yield _of_parameter(HISTORY_LIMIT, "run", engine, HISTORY_LIMIT.help)
    colours = "The colours of the workbench; ctrl+t changes them there."
    yield Option("theme", "run", engine, colours, str, "the last one chosen, at first dark", metavar="NAME")

    levels = "What the log tells from; prompts stand in it at debug only (--paths says where it lies)."
    yield Option("log_level", "run", engine, levels, str, DEFAULT_LEVEL, metavar="|".join(LEVELS))

    yield Option("json", "command", report, 'Print {"runs": [...]} and nothing else.', bool)
    yield Option("plain", "command", report, "Print the generated text and nothing else.", bool)
    yield Option("show_rejected", "command", report, "Show refused draft tokens too, struck through.", bool)
    yield Option("out", "command", report, "Folder for the reports of --batch.", str, DEFAULT_OUT, metavar="DIR")
    yield Option(
        "format", "plan", report, f"Reports to write, with commas: {', '.join(FORMATS)}.", str,
        ",".join(PlanSpec().formats), "formats", "NAME[,NAME]",
    )  # fmt: skip
    yield Option("dry_run", "command", report, "With --batch: check plan and prompts, say what would run, stop.", bool)


def options() -> dict[str, Option]:
    """Every option by name, those of the plug-ins that are loaded by now included.

    Raises:
        ConfigError: a plug-in's parameter has the name of an option that is not a method's.
    """
    discover()
    return _options_of(tuple(METHODS.values()))


@lru_cache(maxsize=1)
def _options_of(methods: tuple[Method, ...]) -> dict[str, Option]:
    """See `options`; `methods` are all there are."""
    made: dict[str, Option] = {}
    for option in _options():
        if option.name in made:  # only a plug-in can bring that about
            owner = next(m.name for m in reversed(methods) if any(p.name == option.name for p in m.parameters))
            raise ConfigError(
                f"the drafter {owner!r} has a parameter {option.name!r}, and {option.flag} is another option; rename it"
            )
        made[option.name] = option
    return made


def load_named(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Load the plug-ins that the command line or SPECTERM_METHOD names, so that their options can be parsed. (One that
    the configuration file names is loaded when that is read.)

    Raises:
        ConfigError: one of them cannot be used.
    """
    given = [environment.get("SPECTERM_METHOD", "")]
    for argument, following in pairwise((*arguments, "")):
        if argument == "--method":
            given.append(following)
        elif argument.startswith("--method="):
            given.append(argument.removeprefix("--method="))
    for name in ",".join(given).split(","):
        if ":" in name:
            catalogue.method(name.strip())


def signature() -> inspect.Signature:
    """The signature of the one command: typer makes its options from it."""
    plan = typer.Argument(help="With --batch: a TOML plan.", metavar="[PLAN.toml]", show_default=False)
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Signature(
        [
            inspect.Parameter("context", kind, annotation=typer.Context),
            inspect.Parameter("plan", kind, default=None, annotation=Annotated[str | None, plan]),
            *(inspect.Parameter(o.name, kind, default=None, annotation=o.typer_annotation) for o in options().values()),
        ]
    )


@dataclass(frozen=True, slots=True)
class Given:
    """What a person gave: `values` by option name, and which of them were typed (the others are the environment's)."""

    values: Mapping[str, Any]
    typed: frozenset[str]

    @classmethod
    def of(cls, context: typer.Context, values: Mapping[str, Any]) -> Given:
        """What the parsed command line holds."""
        given = {name: value for name, value in values.items() if value is not None and value != []}
        typed = frozenset(name for name in given if _source(context, name) == "COMMANDLINE")
        return cls(given, typed)

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def refuse(self, names: tuple[str, ...], why: str) -> None:
        """Raise a ConfigError if one of `names` was typed."""
        for name in names:
            if name in self.typed:
                raise ConfigError(f"{options()[name].flag} {why}")

    def without(self, *names: str) -> Given:
        """The rest."""
        return Given({name: value for name, value in self.values.items() if name not in names}, self.typed - {*names})

    def plan(self, path: str | None, methods: tuple[MethodSpec, ...], *, checked: bool = True) -> PlanSpec:
        """The plan: the environment, under the plan file at `path`, under what was typed. It is `checked` unless its
        parts are to be put together otherwise.

        Raises:
            ConfigError: the file or a value is bad, or a typed option goes with none of the methods.
        """
        typed = {name: value for name, value in self.values.items() if name in self.typed}
        ambient = {name: value for name, value in self.values.items() if name not in self.typed}
        data: dict[str, Any] = {"methods": [msgspec.to_builtins(method) for method in methods]}
        _fill(data, ambient)
        if path is not None:
            written = plan_data(Path(path))
            plan_from(written, path)
            for key, value in written.items():
                section = data.get(key)
                data[key] = {**section, **value} if isinstance(section, dict) and isinstance(value, dict) else value
        _fill(data, typed)
        data["methods"] = [{"name": m} if isinstance(m, str) else dict(m) for m in data["methods"]]
        _fill_methods(data["methods"], ambient, typed)
        plan = plan_from(data, path or "of the command line")
        if not checked:
            return plan
        plan = plan.checked()
        labels = [method.label for method in plan.methods]
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice is not None:
            raise ConfigError(f"--method names {twice!r} twice; name each setting of a method once")
        return plan


def _source(context: typer.Context, name: str) -> str:
    source = context.get_parameter_source(name)
    return "" if source is None else source.name


def _fill(data: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Write option values into plan data; parameters of methods wait until it is known which methods there are."""
    if "method" in values:
        data["methods"] = [{"name": name.strip()} for name in values["method"].split(",")]
        for method in data["methods"]:
            catalogue.method(method["name"])  # a misspelt one is told before anything else
    for name, value in values.items():
        option = options()[name]
        if option.group not in ("plan", "model", "sampling"):
            continue
        checked = option.parameter.check(value) if option.parameter is not None else value
        if option.group == "plan":
            data[option.field] = _plan_value(option, checked)
        else:
            data.setdefault(option.group, {})[option.field] = checked


def _plan_value(option: Option, value: Any) -> Any:
    match option.name:
        case "no_monitor":
            return not value
        case "format":
            return [name.strip() for name in value.split(",")]
        case _:
            return value


def _fill_methods(methods: list[dict[str, Any]], ambient: Mapping[str, Any], typed: Mapping[str, Any]) -> None:
    """Give each method the parameters that it takes: the environment's where it has none, the typed ones always.

    Raises:
        ConfigError: a typed parameter goes with none of the methods.
    """
    for name, value in (*ambient.items(), *typed.items()):
        option = options()[name]
        if option.group != "method" or option.parameter is None:
            continue
        takers = [(m, p) for m in methods for p in catalogue.method(m["name"]).parameters if p.name == name]
        if name in typed and not takers:
            raise ConfigError(f"{option.flag} does not go with --method {','.join(m['name'] for m in methods)}")
        for method, parameter in takers:
            given, own = {name: parameter.check(value)}, method.get("parameters", {})
            method["parameters"] = own | given if name in typed else given | own
