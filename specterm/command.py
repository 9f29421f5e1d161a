"""The one command: its options come from the catalogue and the specs, and what is given decides what runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import typer

from specterm.catalogue import METHODS
from specterm.cli import OpenEngine, open_workbench
from specterm.completion import completion_script, prepare_completion
from specterm.config import MethodSpec, PlanSpec, RunSpec
from specterm.console.visible import visible
from specterm.errors import ConfigError, ExitCode
from specterm.events import Event
from specterm.history.retention import DEFAULT_LIMIT, checked_limit
from specterm.locations import PROMPTS_FILE, all_places, data_folder, log_file, state_folder
from specterm.log_file import DEFAULT_LEVEL, start_log
from specterm.models.folders import local_folder
from specterm.options import DEFAULT_OUT, ENGINES, Given, load_named, signature
from specterm.settings import Settings
from specterm.version import __version__

BATCH_ONLY = ("prompts", "num_prompts", "repeats", "batch_size", "out", "format", "dry_run")
PROMPT_ONLY = ("plain", "show_rejected", "trace", "record")
CHAT_ONLY = ("chat_template", "system", "raw")
REPLAY_ONLY = ("recording", "replay_speed")


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """What the command is given besides its options."""

    open_engine: OpenEngine
    settings: Settings


def run_command(arguments: Sequence[str], open_engine: OpenEngine, settings: Settings) -> int:
    """Parse `arguments` over the values of `settings` and do what they say; returns the exit code.

    Raises:
        ConfigError: the arguments cannot be used.
        KeyboardInterrupt: the person gave up.
    """
    prepare_completion()
    load_named(arguments, os.environ)
    command = typer.main.get_command(_app())
    try:
        code = command.main(
            args=list(arguments),
            prog_name="specterm",
            standalone_mode=False,
            obj=_Surroundings(open_engine, settings),
            default_map=dict(settings.options),
        )
    except typer.Abort:
        raise KeyboardInterrupt from None
    except _usage_error() as error:
        raise ConfigError(error.format_message()) from None
    return code if isinstance(code, int) else ExitCode.OK


def _app() -> typer.Typer:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

    def specterm(**values: Any) -> int:
        context = values.pop("context")
        plan = values.pop("plan")
        return _command(context.obj, plan, Given.of(context, values))

    made = signature()
    specterm.__signature__ = made  # type: ignore[attr-defined]
    specterm.__annotations__ = {name: parameter.annotation for name, parameter in made.parameters.items()}
    app.command(
        help="A terminal workbench for speculative decoding. Without --prompt or --batch it opens the workbench.",
        epilog="An option with an environment variable can also stand in the configuration file under its name, for "
        "example  temperature = 0.5  (--paths says where). The command line beats the environment, that the file.",
    )(specterm)
    return app


def _command(surroundings: _Surroundings, plan: str | None, given: Given) -> int:
    open_engine, settings = surroundings.open_engine, surroundings.settings
    start_log(log_file(), given.values.get("log_level", DEFAULT_LEVEL))
    if "version" in given:
        print(f"specterm {__version__}")
        return ExitCode.OK
    if "doctor" in given:
        return _doctor(as_json="json" in given)
    if "paths" in given:
        for name, path in all_places().items():
            print(f"{name:<8}{path}")
        return ExitCode.OK
    if "completion" in given:
        print(completion_script(given.values["completion"]))
        return ExitCode.OK
    if "purge_history" in given:
        from specterm.console.purge import purge_history

        return purge_history(data_folder(), state_folder() / PROMPTS_FILE, ask="yes" not in given)
    if "prompt" in given or "batch" in given:
        given.refuse(("no_prefix_reuse",), "is for the workbench; --prompt and --batch prefill every prompt anyway")
    given.refuse(("yes",), "goes with --purge-history only")
    if _engine(given) == "replay":
        from specterm.replay_command import replay_command

        return replay_command(plan, given, settings)
    given.refuse(REPLAY_ONLY, "goes with --engine replay only")
    if "prompt" in given and "batch" in given:
        raise ConfigError("--prompt and --batch are both given; give one of them")
    if "verify" in given:
        given.refuse(("prompt", "batch"), "does not go with --verify")
    if "prompt" in given or "batch" in given or "verify" in given:
        settings.refuse_problems()
        given.refuse(("theme",), "goes with the workbench only")
    if "verify" in given:
        given.refuse((*BATCH_ONLY, *PROMPT_ONLY, *CHAT_ONLY, "warmup", "stop"), "does not go with --verify")
        return _verify(open_engine, plan, given)
    if "batch" in given:
        given.refuse((*PROMPT_ONLY, *CHAT_ONLY), "does not go with --batch")
        return _batch(open_engine, plan, given)
    if plan is not None:
        raise ConfigError(f"{plan!r} is not an option; a plan goes with --batch, a prompt with --prompt")
    given.refuse(BATCH_ONLY, "goes with --batch only")
    if "prompt" in given:
        return _prompt(open_engine, given)
    given.refuse(("json",), "goes with --prompt, --batch, --verify, --doctor or --engine replay")
    given.refuse(("plain", "show_rejected"), "goes with --prompt or --engine replay")
    given.refuse(("warmup",), "goes with --prompt or --batch")
    given.refuse(("record",), "goes with --prompt only")
    return _workbench(given, settings)


def _engine(given: Given) -> str:
    name: str = given.values.get("engine", ENGINES[0])
    if name not in ENGINES:
        raise ConfigError(f"--engine is {name!r}; it must be one of {', '.join(ENGINES)}")
    return name


def _doctor(*, as_json: bool) -> int:
    from specterm import doctor

    report = doctor.doctor()
    if as_json:
        print(msgspec.json.encode(report.as_dict()).decode())
    else:
        from rich.console import Console

        report.render(Console())
    return report.exit_code


def _prompt(open_engine: OpenEngine, given: Given) -> int:
    from specterm.console.prompt import Output, run_prompt

    text = _prompt_text(given.values["prompt"])
    if "json" in given and "plain" in given:
        raise ConfigError("--json and --plain are both given; give one of them")
    plan = _plan(given, None, (MethodSpec(),))
    if "plain" in given and len(plan.methods) > 1:
        raise ConfigError(f"--plain prints one text and {len(plan.methods)} methods are named; name one with --method")
    rejected = "show_rejected" in given
    trace = given.values.get("trace", RunSpec().trace)
    if rejected and trace == "counts" and "trace" not in given.typed:
        trace = "probs"
    elif rejected and trace == "counts":
        raise ConfigError("--show-rejected needs the texts that --trace counts leaves out; give --trace probs")
    _tell_unused_drafts(plan, named="draft" in given.typed)
    specs = [_in_chat(spec, given) for spec in _runs(plan, trace)]
    if "record" in given and len(specs) > 1:
        raise ConfigError(f"--record holds one run and {len(specs)} methods are named; name one with --method")
    mode = next((mode for mode in ("json", "plain") if mode in given), "colour")
    warmup = plan.warmup if len(specs) > 1 or "warmup" in given else 0
    output = Output(mode, sys.stdout, sys.stderr, rejected)
    with _recording(given) as record, open_engine(plan.monitor) as engine:
        return run_prompt(engine, specs, text, output, warmup, record)


@contextmanager
def _recording(given: Given) -> Iterator[Callable[[Event], None]]:
    """What is told of every event: the file that --record names, if it does."""
    if "record" not in given:
        yield lambda event: None
        return
    from specterm.recording import RecordingFile

    with RecordingFile(Path(given.values["record"])) as file:
        yield file.observe


def _tell_unused_drafts(plan: PlanSpec, *, named: bool) -> None:
    """Say on standard error which draft models no method of `plan` takes; `named`: also where none takes any."""
    takes = max(METHODS[method.name].max_drafts for method in plan.methods)
    unused = plan.model.drafts[takes:]
    if unused and (takes or named):
        models = "draft models" if len(unused) > 1 else "draft model"
        verb = "are" if len(unused) > 1 else "is"
        several = " and ".join(method.name for method in METHODS.values() if method.max_drafts > 1)
        methods = ", ".join(method.name for method in plan.methods)
        told = f"{models} {', '.join(unused)} {verb} not used: --method {methods} takes {takes or 'none'}"
        print(visible(f"specterm: note: {told}; {several} take several"), file=sys.stderr)


def _plan(given: Given, path: str | None, methods: tuple[MethodSpec, ...]) -> PlanSpec:
    """`Given.plan`; where that is refused and the target is no model at all, this is said, for it is wrong first."""
    try:
        return given.plan(path, methods)
    except ConfigError:
        target = given.plan(path, methods, checked=False).model.target
        if target.strip():
            local_folder(target, "target")
        raise


def _runs(plan: PlanSpec, trace: str) -> list[RunSpec]:
    return [msgspec.structs.replace(plan.run_spec(method), trace=trace).checked() for method in plan.methods]


def _in_chat(spec: RunSpec, given: Given) -> RunSpec:
    """`spec` with the conversation that was asked for.

    Raises:
        ConfigError: the template cannot be read, or what is asked for contradicts itself.
    """
    if "raw" in given:
        given.refuse(("chat_template", "system"), "does not go with --raw, which uses no template")
        return spec
    template, path = None, given.values.get("chat_template")
    if path is not None:
        try:
            template = Path(path).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise ConfigError(f"--chat-template {path} cannot be read: {why}") from None
        if not template.strip():
            raise ConfigError(f"--chat-template {path} is empty; name a Jinja file")
    system = given.values.get("system", "")
    return msgspec.structs.replace(spec, chat=True, chat_template=template, system=system)


def _prompt_text(given: str) -> str:
    """The prompt; standard input for "-", without its last newline."""
    text = given
    if sys.stdout is None:
        raise ConfigError("standard output is closed; send it to a file or a terminal")
    if given == "-":
        if sys.stdin is None:
            raise ConfigError("--prompt is - and standard input is closed; give the prompt itself")
        try:
            text = sys.stdin.read().removesuffix("\n")
        except UnicodeDecodeError as error:
            raise ConfigError(f"standard input is not {error.encoding} text (byte {error.start})") from None
    if not text.strip():
        raise ConfigError("--prompt is empty; give the text to continue")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"--prompt {text!r} is not UTF-8 text; give it in UTF-8") from None
    return text


def _batch(open_engine: OpenEngine, plan: str | None, given: Given) -> int:
    from specterm.console.batch import run_batch, show_plan

    spec = _plan(given, plan, PlanSpec().methods)
    if "dry_run" in given:
        return show_plan(spec, sys.stdout)
    out = given.values.get("out", DEFAULT_OUT)
    if not out.strip():
        raise ConfigError("--out is empty; name the folder for the reports")
    if sys.stdout is None:
        raise ConfigError("standard output is closed; send it to a file or a terminal")
    folder = Path(out)
    _tell_unused_drafts(spec, named="draft" in given.typed)
    return run_batch(lambda: open_engine(spec.monitor), spec, folder, as_json_document="json" in given)


def _verify(open_engine: OpenEngine, plan: str | None, given: Given) -> int:
    """Methods and rules are those that were typed; else every one."""
    from specterm.console.verify import run_verify
    from specterm.verify.plan import VerifySpec

    if plan is not None:
        raise ConfigError(f"{plan!r} is not an option; a plan goes with --batch")
    rules = given.values["acceptance"] if "acceptance" in given.typed else ""
    rest = given.without("acceptance") if "method" in given.typed else given.without("acceptance", "method")
    usual = rest.plan(None, (MethodSpec(),), checked=False)
    spec = VerifySpec(
        model=usual.model,
        methods=usual.methods if "method" in given.typed else (),
        rules=tuple(name.strip() for name in rules.split(",")) if rules else (),
        sampling=usual.sampling,
    )
    return run_verify(lambda: open_engine(False), spec, as_json="json" in given)


def _workbench(given: Given, settings: Settings) -> int:
    plan = _plan(given, None, (MethodSpec(),))
    if len(plan.methods) > 1:
        raise ConfigError(f"--method names {len(plan.methods)} methods; the workbench starts with one")
    spec = _in_chat(_runs(plan, given.values.get("trace", "probs"))[0], given)
    spec = msgspec.structs.replace(spec, reuse_prefix="no_prefix_reuse" not in given)
    return open_workbench(
        spec,
        history=None if "no_history" in given else data_folder(),
        history_limit=checked_limit(given.values.get("history_limit", DEFAULT_LIMIT)),
        settings=settings,
        theme=given.values.get("theme"),
    )


def _usage_error() -> type[Any]:
    """The base of the option parser's errors: typer carries click inside or imports it, depending on its version."""
    return next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
