"""Apps with scripted sources, and a still picture of one."""

import os
import re
from collections.abc import Iterable

from textual.pilot import Pilot
from tui.fake_engine import CPU, GPU, FakeEngine, FakeMonitor

from specterm.config import RunSpec
from specterm.events import DeviceReading
from specterm.tui import themes
from specterm.tui.app import SpectermApp
from specterm.tui.widgets.prompt_editor import PromptEditor

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


async def settle(pilot: Pilot[None], frames: int = 2) -> None:
    """Wait until the timers have fired and everything is painted."""
    for _ in range(frames):
        await pilot.pause(0.1)
    await pilot.wait_for_animation()


async def still(app: SpectermApp, pilot: Pilot[None]) -> str:
    """The screen as SVG, with the ids that differ from process to process made equal."""
    app.query_one(PromptEditor).cursor_blink = False
    app.clear_notifications()
    await settle(pilot)
    return re.sub(r"terminal-\d+-", "terminal-", app.export_screenshot())
