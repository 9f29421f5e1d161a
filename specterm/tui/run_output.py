"""What a person takes away from the workbench: the output copied or saved, the setup copied or written."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import App

from specterm.config import Request, RunSpec, to_data
from specterm.events import Event
from specterm.tui import clipboard
from specterm.tui.widgets.visible_text import visible

if TYPE_CHECKING:
    from specterm.tui.run_events import RunEvents

_SVG = "svg"


class RunOutput:
    """Keeps the events of the last run of `app`, and hands out what is asked for. No screen or format is imported
    before that."""

    def __init__(self, app: App[None]) -> None:
        self._app = app
        self._events: RunEvents | None = None

    def start(self) -> None:
        """A run begins."""
        from specterm.tui.run_events import RunEvents

        self._events = RunEvents()

    def observe(self, event: Event) -> None:
        """Keep an event of the run."""
        if self._events is not None:
            self._events.observe(event)

    def copy(self, output: str) -> None:
        """Copy the output of the last run."""
        if output:
            clipboard.copy(self._app, output, f"{len(output)} characters")
        else:
            self._app.notify("there is no output to copy yet", severity="warning")

    def save(self) -> None:
        """Ask for a file and write the last run, or the screen, to it."""
        from specterm.tui.screens.dialogs import AskPath

        picture = self._app.export_screenshot()  # before the question covers the screen

        def write(path: str | None) -> None:
            if path is not None:
                self._app.run_worker(self._save(Path(path).expanduser(), picture), group="save")

        question = "Save the run as .txt, .md (marks tell the states) or .json (as --json), or the screen as .svg"
        self._app.push_screen(AskPath(question, "specterm-run.md"), write)

    async def _save(self, path: Path, picture: str) -> None:
        from specterm.tui.run_document import FORMATS

        suffix = path.suffix.lower().removeprefix(".")
        if suffix == _SVG:
            await self._write({path: picture})
        elif suffix not in FORMATS:
            names = ", .".join((*FORMATS, _SVG))
            self._fail(f"{path.name!r} has no known format; end the name in .{names}")
        else:
            events = await asyncio.to_thread(lambda: list(self._events or ()))
            if events:
                await self._write({path: await asyncio.to_thread(FORMATS[suffix], events)})
            else:
                self._fail("there is no run to save yet; generate one first, or save the screen as .svg")

    def take_setup(self, spec: RunSpec, request: Request) -> None:
        """Offer the setup of a run as a command line or as a plan."""
        from specterm.setup_text import command_line, plan_of, plan_text, prompts_text
        from specterm.tui.screens.dialogs import AskPath
        from specterm.tui.screens.setup import TakeSetup

        prompt = request.prompt
        line = command_line(spec, prompt)
        left = ["the turns before are left out"] if request.turns else []
        left += ["for a command line, add --chat-template with its file"] if spec.chat and spec.chat_template else []

        def take(way: str | None) -> None:
            if way == "command":
                clipboard.copy(self._app, line, "the command line")
            elif way == "plan":
                question = "Write the plan to (.toml; the prompt goes to a .jsonl file beside it)"
                self._app.push_screen(AskPath(question, "specterm-plan.toml"), write)

        def write(path: str | None) -> None:
            if path is None:
                return
            plan = Path(path).expanduser().with_suffix(".toml")
            prompts = plan.with_suffix(".jsonl")
            if not prompt.strip():
                self._fail("the prompt is empty, and a plan needs one; write it first")
                return
            files = {prompts: prompts_text(prompt), plan: plan_text(to_data(plan_of(spec, prompts.name)))}
            self._app.run_worker(self._write(files), group="save")

        self._app.push_screen(TakeSetup(line, "; ".join(left)), take)

    async def _write(self, files: dict[Path, str]) -> None:
        from specterm.report.writing import write_whole

        for path, text in files.items():
            try:
                await asyncio.to_thread(write_whole, path, text)
            except (OSError, UnicodeEncodeError) as error:
                why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                self._fail(f"{path} cannot be written: {why}")
                return
        self._app.notify(f"written to {' and '.join(str(path.resolve()) for path in files)}", markup=False)

    def _fail(self, why: str) -> None:
        self._app.notify(visible(why), title="Not saved", severity="error", markup=False)
