"""The entry point: starts quickly, turns every error into one line and an exit code, and opens the workbench.

Data goes to standard output, narration to standard error; the exit codes are those of `ExitCode`. Nothing heavy is
imported before it is known what is asked for: without options the workbench opens and even the option parser is left
alone. SPECTERM_DEBUG=1 shows tracebacks.
"""

from __future__ import annotations

import atexit
import errno
import gc
import io
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, TypeAlias

from specterm import locations
from specterm.config import RunSpec
from specterm.errors import ConfigError, ExitCode, SpectermError
from specterm.history.retention import DEFAULT_LIMIT
from specterm.log_file import DEFAULT_LEVEL, start_log
from specterm.settings import THEME, Settings, read_settings
from specterm.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from specterm.engine.job import Engine
    from specterm.engine.replay import ReplayEngine
    from specterm.telemetry.monitor import Monitor

OpenEngine: TypeAlias = "Callable[[bool], AbstractContextManager[Engine]]"

_log = logging.getLogger(__name__)
_FULL = (errno.ENOSPC, errno.EDQUOT)


def main(arguments: Sequence[str] | None = None, open_engine: OpenEngine | None = None) -> int:
    """Run the command line and return the exit code.

    `open_engine` makes the engine, given whether to monitor the devices; None makes the local one. With `arguments`
    None they are the process's own, and this may end the process itself (see `_leave`).
    """
    if arguments is not None:
        return _run(arguments, open_engine or local_engine)
    _agree_on_utf8()
    code = _run(sys.argv[1:], open_engine or local_engine)
    _leave(code)
    return code


def _run(arguments: Sequence[str], open_engine: OpenEngine) -> int:
    try:
        settings = read_settings(locations.config_file())
        if not arguments and settings.of_the_screen and not _environment_speaks():
            start_log(locations.log_file(), DEFAULT_LEVEL)
            spec, history = RunSpec(trace="probs", chat=True, reuse_prefix=True).checked(), locations.data_folder()
            return open_workbench(spec, history=history, settings=settings, theme=settings.options.get(THEME))
        from specterm.command import run_command

        code = run_command(arguments, open_engine, settings)
    except BrokenPipeError:
        # Whoever read standard output has gone: nothing more can be said there, not even by the flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.RUN_FAILED
    except KeyboardInterrupt:
        return _fail("interrupted", ExitCode.INTERRUPTED)
    except SpectermError as error:
        if error.exit_code != ExitCode.USAGE:  # bad input is no event, and may be a prompt
            _log.error("%s", error)
        _reraise_for_debugging()
        return _fail(str(error), error.exit_code)
    except Exception as error:
        _log.exception("a fault of specterm")
        _reraise_for_debugging()
        if isinstance(error, OSError) and error.errno in _FULL:
            where = error.filename or "the output"
            return _fail(f"{where} cannot be written: {error.strerror}; make room there", ExitCode.RUN_FAILED)
        text = f"{type(error).__name__}: {error} (this is a fault of specterm; SPECTERM_DEBUG=1 shows where)"
        return _fail(text, ExitCode.RUN_FAILED)
    return _fail("interrupted", code) if code == ExitCode.INTERRUPTED else code


def _environment_speaks() -> bool:
    """Whether a variable sets an option, or a shell asks for completions."""
    names = (name for name in os.environ if name.startswith(("SPECTERM_", "_SPECTERM_")))
    return any(name not in locations.VARIABLES and name != "SPECTERM_DEBUG" for name in names)


def open_workbench(
    spec: RunSpec,
    *,
    settings: Settings,
    theme: str | None = None,
    history: Path | None = None,
    history_limit: int = DEFAULT_LIMIT,
    replay: ReplayEngine | None = None,
) -> int:
    """The screen, beginning with `spec` (a checked one); returns when it is left. At most `history_limit` runs are
    stored in the folder `history`, if it is given, and prompts are remembered; with `replay` that run is shown.

    Raises:
        ConfigError: standard input or output is no terminal.
    """
    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout)):
        raise ConfigError("no terminal: use --prompt or --batch")
    gc.disable()  # until the first frame: imports make hundreds of thousands of objects and no garbage
    import signal

    from specterm.engine.local import LocalEngine
    from specterm.tui.app import SpectermApp
    from specterm.tui.memory import Memory

    with _monitor() as monitor:
        engine = replay or LocalEngine(monitor if spec.monitor else None)
        memory = Memory(locations.state_folder(), prompts=history is not None)
        app = SpectermApp(
            engine,
            monitor,
            spec,
            prompt=replay.prompts[0] if replay else "",
            history=history,
            history_limit=history_limit,
            state=locations.state_folder(),
            settings=settings,
            theme=theme,
            memory=memory,
        )
        if sys.platform != "win32":
            from specterm.tui.terminal import Terminal

            app.driver_class = Terminal
        app.call_after_refresh(gc.enable)
        if spec.monitor:
            app.call_after_refresh(monitor.start)  # its imports would hold up the first frame
        _log.info("specterm %s: the workbench opens on %s", __version__, spec.model.target)
        # Until the terminal is taken there is nothing to lose, and a half-started program has nothing to say.
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            app.run()
        finally:
            signal.signal(signal.SIGINT, before)
        return app.return_code or ExitCode.OK


@contextmanager
def local_engine(monitored: bool) -> Iterator[Engine]:
    """The engine of this machine, with a monitor of its devices if `monitored`; both end with the block."""
    from specterm.engine.local import LocalEngine

    with _monitor() as monitor:
        if monitored:
            monitor.start()
        engine = LocalEngine(monitor if monitored else None)
        try:
            yield engine
        finally:
            engine.close()


@contextmanager
def _monitor() -> Iterator[Monitor]:
    from specterm.telemetry.monitor import Monitor

    monitor = Monitor()
    try:
        yield monitor
    finally:
        monitor.stop()


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
    """End the process here, once torch was loaded.

    To take the interpreter apart then takes half a second of a person's time and more. Where the engine's thread still
    runs, because it is deep in an import or a forward pass, that would stop it inside C++ code, which aborts the
    process (CPython gh-87135).
    """
    if "torch" not in sys.modules and not _engine_runs():
        return
    if not _engine_runs():
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError):  # it is closed, its reader has gone, or its disk is full
            code = code or ExitCode.RUN_FAILED
    os._exit(code)


def _engine_runs() -> bool:
    return any(thread.name == "specterm-engine" for thread in threading.enumerate())


def _fail(text: str, code: int) -> int:
    from specterm.console.visible import visible

    print(f"specterm: error: {visible(' '.join(text.split()))}", file=sys.stderr)
    return code


def _reraise_for_debugging() -> None:
    if os.environ.get("SPECTERM_DEBUG") == "1":
        raise
