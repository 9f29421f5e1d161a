"""The command line: one command whose options come from the catalogue and the specs.

Data goes to standard output, narration to standard error; every error is one line, and the exit codes are those of
`ExitCode`. Nothing heavy is imported before it is known what is asked for. SPECTERM_DEBUG=1 shows tracebacks.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import typer

from specterm.config import MethodSpec, PlanSpec, RunSpec
from specterm.errors import ConfigError, ExitCode, SpectermError
from specterm.options import DEFAULT_OUT, Given, signature
from specterm.version import __version__

if TYPE_CHECKING:
    from specterm.engine.job import Engine
    from specterm.telemetry.monitor import Monitor

OpenEngine: TypeAlias = "Callable[[bool], AbstractContextManager[Engine]]"

BATCH_ONLY = ("prompts", "num_prompts", "repeats", "batch_size", "out", "format", "dry_run")
PROMPT_ONLY = ("plain", "show_rejected", "trace")


def main(arguments: Sequence[str] | None = None, open_engine: OpenEngine | None = None) -> int:
    """Run the command line and return the exit code.

    `open_engine` makes the engine, given whether to monitor the devices; None makes the local one. With `arguments`
    None they are the process's own, and this may end the process itself (see `_leave`).
    """
    if arguments is not None:
        return _run(arguments, open_engine or local_engine)
    _agree_on_utf8()
    code = _run(None, open_engine or local_engine)
    _leave(code)
    return code


def _run(arguments: Sequence[str] | None, open_engine: OpenEngine) -> int:
    command = typer.main.get_command(_app())
    try:
        code = command.main(
            args=None if arguments is None else list(arguments),
            prog_name="specterm",
            standalone_mode=False,
            obj=open_engine,
        )
    except BrokenPipeError:
        # Whoever read standard output has gone: nothing more can be said there, not even by the flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.RUN_FAILED
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", ExitCode.INTERRUPTED)
    except SpectermError as error:
        _reraise_for_debugging()
        return _fail(str(error), error.exit_code)
    except _usage_error() as error:
        return _fail(error.format_message(), ExitCode.USAGE)
    except Exception as error:
        _reraise_for_debugging()
        text = f"{type(error).__name__}: {error} (this is a fault of specterm; SPECTERM_DEBUG=1 shows where)"
        return _fail(text, ExitCode.RUN_FAILED)
    if code == ExitCode.INTERRUPTED:
        return _fail("interrupted", ExitCode.INTERRUPTED)
    return code if isinstance(code, int) else ExitCode.OK


@contextmanager
def local_engine(monitored: bool) -> Iterator[Engine]:
    """The engine of this machine, with a monitor of its devices if `monitored`; both end with the block."""
    from specterm.engine.local import LocalEngine

    with _monitor(monitored) as monitor:
        engine = LocalEngine(monitor if monitored else None)
        try:
            yield engine
        finally:
            engine.close()


@contextmanager
def _monitor(started: bool) -> Iterator[Monitor]:
    from specterm.telemetry.monitor import Monitor

    monitor = Monitor()
    if started:
        monitor.start()
    try:
        yield monitor
    finally:
        if started:
            monitor.stop()


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
        epilog="Every option but the commands can be set as SPECTERM_<OPTION>, for example SPECTERM_TARGET.",
    )(specterm)
    return app


def _command(open_engine: OpenEngine, plan: str | None, given: Given) -> int:
    if "version" in given:
        print(f"specterm {__version__}")
        return ExitCode.OK
    if "doctor" in given:
        return _doctor(as_json="json" in given)
    if "prompt" in given and "batch" in given:
        raise ConfigError("--prompt and --batch are both given; give one of them")
    if "batch" in given:
        given.refuse(PROMPT_ONLY, "does not go with --batch")
        return _batch(open_engine, plan, given)
    if plan is not None:
        raise ConfigError(f"{plan!r} is not an option; a plan goes with --batch, a prompt with --prompt")
    given.refuse(BATCH_ONLY, "goes with --batch only")
    if "prompt" in given:
        return _prompt(open_engine, given)
    given.refuse(("json", "plain", "show_rejected", "warmup"), "goes with --prompt or --batch")
    return _workbench(given)


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
    plan = given.plan(None, (MethodSpec(),))
    if "plain" in given and len(plan.methods) > 1:
        raise ConfigError(f"--plain prints one text and {len(plan.methods)} methods are named; name one with --method")
    rejected = "show_rejected" in given
    trace = given.values.get("trace", RunSpec().trace)
    if rejected and trace == "counts" and "trace" not in given.typed:
        trace = "probs"
    elif rejected and trace == "counts":
        raise ConfigError("--show-rejected needs the texts that --trace counts leaves out; give --trace probs")
    specs = _runs(plan, trace)
    mode = next((mode for mode in ("json", "plain") if mode in given), "colour")
    warmup = plan.warmup if len(specs) > 1 or "warmup" in given else 0
    with open_engine(plan.monitor) as engine:
        return run_prompt(engine, specs, text, Output(mode, sys.stdout, sys.stderr, rejected), warmup)


def _runs(plan: PlanSpec, trace: str) -> list[RunSpec]:
    return [msgspec.structs.replace(plan.run_spec(method), trace=trace).checked() for method in plan.methods]


def _prompt_text(given: str) -> str:
    """The prompt; standard input for "-", without its last newline."""
    text = given
    if given == "-":
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

    spec = given.plan(plan, PlanSpec().methods)
    if "dry_run" in given:
        return show_plan(spec, sys.stdout)
    folder = Path(given.values.get("out", DEFAULT_OUT))
    return run_batch(lambda: open_engine(spec.monitor), spec, folder, as_json_document="json" in given)


def _workbench(given: Given) -> int:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError("no terminal: use --prompt or --batch")
    plan = given.plan(None, (MethodSpec(),))
    if len(plan.methods) > 1:
        raise ConfigError(f"--method names {len(plan.methods)} methods; the workbench starts with one")
    spec = _runs(plan, given.values.get("trace", "probs"))[0]
    from specterm.engine.local import LocalEngine
    from specterm.tui.app import SpectermApp

    with _monitor(plan.monitor) as monitor:
        app = SpectermApp(LocalEngine(monitor if plan.monitor else None), monitor, spec)
        app.run()
        return app.return_code or ExitCode.OK


def _agree_on_utf8() -> None:
    """Pipes and files carry UTF-8 with plain newlines, whatever the locale says; a terminal keeps its encoding, and
    what that cannot show is replaced."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            if stream.isatty():
                stream.reconfigure(errors="replace")
            else:
                stream.reconfigure(encoding="utf-8", errors="replace", newline="\n")
    if isinstance(sys.stdin, io.TextIOWrapper) and not sys.stdin.isatty():
        sys.stdin.reconfigure(encoding="utf-8", errors="strict")


def _leave(code: int) -> None:
    """End the process at once if the engine's thread still runs, because it is deep in an import or a forward pass.

    The interpreter's own end would stop that thread inside C++ code, which aborts the process (CPython gh-87135).
    """
    if any(thread.name == "specterm-engine" for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _fail(text: str, code: int) -> int:
    line = " ".join(text.split())
    print(f"specterm: error: {line}", file=sys.stderr)
    return code


def _reraise_for_debugging() -> None:
    if os.environ.get("SPECTERM_DEBUG") == "1":
        raise


def _usage_error() -> type[Any]:
    """The base of the option parser's errors: typer carries click inside or imports it, depending on its version."""
    return next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
