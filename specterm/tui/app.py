"""The application: engine, monitor, themes and keys belong to it, and what works on every screen."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any, ClassVar

from platformdirs import user_downloads_path
from textual import events
from textual.app import App
from textual.binding import BindingType
from textual.filter import LineFilter
from textual.screen import Screen, SystemModalScreen
from textual.theme import Theme

from specterm.config import RunSpec
from specterm.engine.job import Engine
from specterm.history.retention import DEFAULT_LIMIT
from specterm.locations import themes_folder
from specterm.settings import Settings
from specterm.tui import keys, themes
from specterm.tui.key_order import KeyOrder
from specterm.tui.keymap import resolve
from specterm.tui.memory import Memory
from specterm.tui.palette import Actions
from specterm.tui.ports import Drawn, MonitorLike
from specterm.tui.safe_lines import SafeLines
from specterm.tui.screens.workbench import WorkbenchScreen
from specterm.tui.theme_choice import ThemeChoice
from specterm.tui.widgets.visible_text import visible_lines

WIDE, TALL = 110, 30
"""Cells from which every pane of the workbench is in sight."""
_TOAST_EDGES = 3  # cells of a line that hold no text
_TOAST_LINES = 2  # those below a title in a small terminal
CLOSE_TIMEOUT_S = 0.8
LOAD_CLOSE_TIMEOUT_S = 0.1
PROBLEMS_TIMEOUT_S = 15.0
TURN_S = 0.0005
"""A thread that waits for the interpreter gets it after so long: Python's 5 ms are several rounds of a small model."""

_log = logging.getLogger(__name__)


class SpectermApp(App[None]):
    """The workbench over an engine and a monitor; `spec`, a checked one, is what its settings start from.

    The app loads the spec's models when it starts (unless `initial_load` is False) and closes the engine when it ends.
    The monitor is started and stopped by whoever made it. Themes are read from `theme_folders`, by default the shipped
    ones and the user's; `theme` names one, else the last one chosen counts that `memory` knows. `settings` bring the
    keymap, and what is wrong with them is told. At most `history_limit` runs are stored in the folder `history`, if
    one is given; a `ReplayEngine` plays its run at once.
    """

    TITLE = "specterm"
    CSS_PATH: ClassVar = ["app.tcss", "screens/workbench.tcss"]  # read at once, not when the first frame is due
    COMMANDS = App.COMMANDS | {Actions}
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny-width"), (60, "-narrow"), (80, "-medium"), (WIDE, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-tiny-height"), (18, "-short"), (TALL, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [*keys.OF_APP]

    def __init__(
        self,
        engine: Engine,
        monitor: MonitorLike,
        spec: RunSpec,
        *,
        prompt: str = "",
        initial_load: bool = True,
        theme_folders: Sequence[Path] | None = None,
        history: Path | None = None,
        history_limit: int = DEFAULT_LIMIT,
        state: Path | None = None,
        settings: Settings | None = None,
        theme: str | None = None,
        memory: Memory | None = None,
    ) -> None:
        super().__init__()
        self._safe_lines = SafeLines()
        self._key_order = KeyOrder(self)
        self._engine = engine
        self._settings = settings or Settings()
        memory = memory or Memory()
        folders = (themes.shipped_folder(), themes_folder()) if theme_folders is None else theme_folders
        self._themes = ThemeChoice(self, folders, memory, theme)
        self.workbench = WorkbenchScreen(
            self,
            engine,
            monitor,
            spec,
            prompt=prompt,
            initial_load=initial_load,
            history=history,
            history_limit=history_limit,
            state=state,
            memory=memory,
        )

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return themes.variable_defaults(self.current_theme.dark)

    def get_default_screen(self) -> Screen[None]:
        return self.workbench

    def on_mount(self) -> None:
        sys.setswitchinterval(TURN_S)
        self.theme_changed_signal.subscribe(self, self._redraw)
        self._tell_problems("Themes", self._themes.problems)
        self.keymap, problems = resolve(self._settings.keymap)
        self.set_keymap(self.keymap)
        self._tell_problems("Configuration", [*self._settings.problems, *problems])

    def on_ready(self, event: events.Ready) -> None:
        """Let keys through from now on."""
        self._key_order.begin(event)

    def _tell_problems(self, title: str, problems: Sequence[str]) -> None:
        if problems:
            _log.warning("%s: %s", title, "; ".join(problems))
            self.notify("\n".join(problems), title=title, severity="warning", timeout=PROBLEMS_TIMEOUT_S, markup=False)

    def get_line_filters(self) -> Sequence[LineFilter]:
        return [*super().get_line_filters(), self._safe_lines]

    def notify(self, message: str, *, title: str = "", **options: Any) -> None:
        """As in `App`; what would steer the terminal is made visible. In a small terminal the title takes no line from
        a message that needs three."""
        small = self.size.width < WIDE or self.size.height < TALL
        if title and small and len(wrap(message, max(1, self.size.width - _TOAST_EDGES))) > _TOAST_LINES:
            title, message = "", f"{title}: {message}"
        super().notify("\n".join(visible_lines(message)), title=title, **options)

    def deliver_screenshot(
        self, filename: str | None = None, path: str | None = None, time_format: str | None = None
    ) -> str | None:
        """Save a picture of the screen among the downloads, or here where there is no folder for those."""
        if path is None and not user_downloads_path().is_dir():
            path = str(Path.cwd())
        return super().deliver_screenshot(filename, path, time_format)

    async def on_event(self, event: events.Event) -> None:
        """Take note that somebody is there, and let keys through one after the other."""
        if isinstance(event, events.InputEvent):
            self.workbench.idling.stir()
        if not isinstance(event, (events.Key, events.Paste)) or event.is_forwarded:
            await super().on_event(event)
        elif self._key_order.admit(event):
            first = self.focused or self.screen
            await super().on_event(event)
            self._key_order.follow(event, first)

    def refresh_css(self, animate: bool = True) -> None:
        """As in `App`, which leaves out the command palette where it is open."""
        super().refresh_css(animate)
        if self.screen_stack and isinstance(self.screen, SystemModalScreen):
            self.stylesheet.update(self.screen, animate=animate)

    def action_next_theme(self) -> None:
        """Change to the next theme."""
        self.notify(f"theme {self._themes.next()}", timeout=2)

    def _redraw(self, theme: Theme) -> None:
        """Draw again what holds resolved colours, once the new ones are in force; and remember the theme."""
        self._themes.remember(theme)
        for screen in self.screen_stack:
            for widget in screen.query("*"):
                if isinstance(widget, Drawn):
                    self.call_after_refresh(widget.draw)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Escape closes the help where it is open."""
        return action != "close_help" or bool(self.screen.query_children("HelpPanel"))

    def action_toggle_help(self) -> None:
        """Show help; page on where it is longer than its place; at its end, hide it."""
        if not self.screen.query_children("HelpPanel"):
            self.action_show_help_panel()
            self.screen.refresh_bindings()
        elif (text := self.screen.query_one("#widget-help")).scroll_offset.y < text.max_scroll_y:
            text.scroll_page_down(animate=False)
        else:
            self.action_close_help()

    def action_close_help(self) -> None:
        """Hide the help."""
        # Not waited for here: what is being removed may wait for the app in turn.
        self.run_worker(self._remove_help(self.screen), group="help")

    async def _remove_help(self, screen: Screen[object]) -> None:
        await screen.query_children("HelpPanel").remove()
        screen.refresh_bindings()

    async def action_quit(self) -> None:
        """Cancel what runs, close the engine off the screen's thread, and leave; what takes long is not waited for."""
        runs = self.workbench.runs
        runs.close()
        closer = threading.Thread(target=self._engine.close, name="specterm-close", daemon=True)
        closer.start()
        # A load may be deep in an import or a file, and leaves nothing behind that needs an end.
        loading = runs.jobs.run is None and runs.jobs.load is not None
        await asyncio.to_thread(closer.join, LOAD_CLOSE_TIMEOUT_S if loading else CLOSE_TIMEOUT_S)
        runs.jobs.drain()  # the history wants the last events
        await asyncio.to_thread(runs.history.close)
        self.exit()
