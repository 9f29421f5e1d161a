"""`--engine replay`: a stored run again, on the terminal or in the workbench."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

from specterm.cli import open_workbench
from specterm.engine.replay import ReplayEngine
from specterm.errors import ConfigError
from specterm.events import Event
from specterm.history.archive import Archive
from specterm.locations import data_folder
from specterm.options import Given, options
from specterm.recording import read_recording
from specterm.settings import Settings

_TAKEN = (
    "engine",
    "recording",
    "replay_speed",
    "json",
    "plain",
    "show_rejected",
    "no_history",
    "history_limit",
    "no_monitor",
    "theme",
    "log_level",
)


def replay_command(plan: str | None, given: Given, settings: Settings) -> int:
    """Show the run that --recording names: in the workbench on a terminal, as text where --json, --plain or
    --show-rejected asks for it or standard output is no terminal. Returns the exit code.

    Raises:
        ConfigError: the recording cannot be read, or something was typed that a replay cannot heed.
    """
    given.refuse(
        tuple(name for name in options() if name not in _TAKEN),
        "does not go with --engine replay: a recorded run is shown as it was",
    )
    if plan is not None:
        raise ConfigError(f"{plan!r} is not an option; a plan goes with --batch")
    if "recording" not in given:
        raise ConfigError("--engine replay needs --recording, the number of a stored run or a file that --record wrote")
    engine = ReplayEngine(_events(given.values["recording"]))
    spec = engine.spec
    if len(engine.prompts) != 1:
        raise ConfigError(f"the recording holds {len(engine.prompts)} prompts; only a run of one can be replayed")
    mode = next((mode for mode in ("json", "plain") if mode in given), "colour")
    engine.speed = _speed(given, "0" if mode != "colour" else "1")
    if mode == "colour" and "show_rejected" not in given and sys.stdout is not None and sys.stdout.isatty():
        return open_workbench(
            spec,
            history=None if "no_history" in given else data_folder(),
            replay=engine,
            settings=settings,
            theme=given.values.get("theme"),
        )
    settings.refuse_problems()
    from specterm.console.prompt import Output, run_prompt

    if sys.stdout is None:
        raise ConfigError("standard output is closed; send it to a file or a terminal")
    output = Output(mode, sys.stdout, sys.stderr, "show_rejected" in given)
    return run_prompt(engine, (spec,), engine.prompts[0], output)


def _events(name: str) -> Sequence[Event]:
    path = Path(name)
    if name.isdecimal() and not path.exists():
        archive = Archive(data_folder())
        if archive.entry(int(name)).kind == "comparison":
            raise ConfigError(f"--recording is {name}, which is a comparison; open it in the history of the workbench")
        return archive.events(int(name))
    return read_recording(path)


def _speed(given: Given, usual: str) -> float | None:
    """The replay's speed; None, at once, for 0."""
    text = given.values.get("replay_speed", usual)
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not 0 <= speed < math.inf:
        raise ConfigError(f"--replay-speed is {text!r}; it must be a number of at least 0")
    return speed or None
