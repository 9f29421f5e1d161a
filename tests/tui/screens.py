"""Apps with scripted sources, and a still picture of one."""

import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable

from textual.pilot import Pilot
from textual.widgets import Input
from tui.fake_engine import CPU, GPU, FakeEngine, FakeMonitor

from specterm.config import RunSpec
from specterm.events import DeviceReading
from specterm.tui import themes
from specterm.tui.app import SpectermApp
from specterm.tui.widgets.prompt_editor import PromptEditor
from specterm.tui.widgets.settings import SettingsPanel
from specterm.tui.widgets.token_log import TokenLog

PROMPT = "Tell me a story about"


def workbench(
    engine: FakeEngine | None = None,
    *,
    readings: Iterable[DeviceReading] = (GPU, CPU),
    spec: RunSpec | None = None,
    prompt: str = PROMPT,
) -> SpectermApp:
    """The workbench with the shipped themes, and without what the machine would make different."""
    os.environ.pop("NO_COLOR", None)
    return SpectermApp(
        engine or FakeEngine(),
        FakeMonitor(*readings),
        spec or RunSpec().checked(),
        prompt=prompt,
        theme_folders=(themes.shipped_folder(),),
    )


def at_rest(app: SpectermApp) -> bool:
    """Whether the form is there and everything that the engine has put so far has been taken in and wrapped."""
    jobs = app.workbench.runs.jobs
    taken_in = not any(job.finished or job._events for job in (jobs.load, jobs.run) if job is not None)
    loaded = jobs.load is not None or not app.workbench._initial_load or bool(getattr(app._engine, "loads", True))
    return app.query_one(SettingsPanel)._built and loaded and taken_in and not app.query_one(TokenLog)._unwrapped


async def settle(pilot: Pilot[None]) -> None:
    """Wait until nothing is under way and everything is painted, however slow the machine is."""
    assert isinstance(pilot.app, SpectermApp)
    give_up = time.monotonic() + 30
    await pilot.pause()
    while pilot.app.is_running and not at_rest(pilot.app):
        assert time.monotonic() < give_up, "the app does not come to rest"
        await pilot.pause(0.02)
    await pilot.pause(0.05)  # the layout follows on the screen's own timer
    await pilot.pause()


async def comes(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    """Wait until something is so and everything is painted, however slow the machine is."""
    give_up = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up, "it does not come"
        await pilot.pause(0.02)
    await settle(pilot)


async def still(app: SpectermApp, pilot: Pilot[None]) -> str:
    """The screen as SVG, with the ids that differ from process to process made equal."""
    for box in (app.query_one(PromptEditor), *app.screen.query(Input)):
        box._pause_blink(visible=True)
    app.clear_notifications()
    await settle(pilot)
    return re.sub(r"terminal-\d+-", "terminal-", app.export_screenshot())


async def stills(app: SpectermApp, pilot: Pilot[None], *names: str) -> AsyncIterator[tuple[str, str]]:
    """The screen in each of the themes, with the theme's name."""
    for name in names:
        app.theme = name
        yield name, await still(app, pilot)
