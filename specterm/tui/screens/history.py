"""The stored runs: list, filter, reopen, compare, export, delete."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.css.query import NoMatches
from textual.widgets import DataTable, Input, Static

from specterm.errors import SpectermError
from specterm.history.archive import Archive, Entry, Standing
from specterm.history.export import export
from specterm.history.query import Query
from specterm.tui.head_line import head_line
from specterm.tui.run_history import StoredRun
from specterm.tui.screens.dialogs import AskPath, Confirm
from specterm.tui.screens.sized import SizedScreen
from specterm.tui.widgets.key_hints import KeyHints
from specterm.tui.widgets.run_table import RunTable, described, when
from specterm.tui.widgets.visible_text import visible

PAGE = 100
RUNNING_INTERVAL_S = 2.0
FIRST_LIST_S = 0.5
"""How long a slow disk may hold up keys that were typed ahead."""
_AHEAD = 20  # rows before the end of the list at which more are fetched
_COMPARED = 2


class HistoryScreen(SizedScreen[StoredRun | None]):
    """Closes with the run to show in the workbench, or with None. The database is read and changed off this thread;
    `forget` is told the prompts that go with deleted runs, and None where everything goes."""

    AUTO_FOCUS = "#history-runs"  # from the first key on: in the filter, d would be a letter
    CSS_PATH = "history.tcss"
    HELP = """\
## History

Every run and comparison of the workbench with all its events, newest first: ✓ done, ◌ cancelled, ✗ failed, … running,
! interrupted (its process was killed). **Enter** shows a run in the workbench as it was, **p** at its own pace; a
conversation can be continued there. A comparison opens as its race and verdict, and is not measured again.
**Space** marks; **c** compares two marked runs. **/** filters by what stands in prompts and outputs, and by
`method:draft`, `model:llama`, `state:failed`. **e** writes a run to a file, **d** deletes the marked ones or the one
under the cursor, with their prompts, **P** all of them, **h** stops and starts storing. Runs lie on this machine only;
beyond `history-limit` of the configuration the oldest go.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+o", "clear_filter", "Clear filter", id="history.clear", tooltip="List every run again"),
        # Without a filter the second binding of the key takes it.
        Binding("escape,ctrl+o", "back", "Back", id="history.back", tooltip="Go back to the workbench"),
        Binding("slash", "filter", "Filter", id="history.filter", tooltip="Filter and search the runs"),
        Binding("p", "play", "Play", id="history.play", tooltip="Show the run in the workbench at its own pace"),
        Binding("space", "mark", "Mark", id="history.mark", tooltip="Mark a run to compare or delete"),
        Binding("c", "compare", "Compare", id="history.compare", tooltip="Compare the two marked runs"),
        Binding("e", "export", "Export", id="history.export", tooltip="Write the run to a file"),
        Binding("d", "delete", "Delete", id="history.delete", tooltip="Delete the marked runs, or this one"),
        Binding("P", "purge", "Purge", id="history.purge", tooltip="Delete every stored run"),
        Binding("h", "toggle_storing", "On/off", id="history.storing", tooltip="Store the next runs, or do not"),
    ]

    def __init__(self, archive: Archive, forget: Callable[[Collection[str] | None], None]) -> None:
        super().__init__()
        self._archive, self._forget = archive, forget
        self._table = RunTable(id="history-runs")
        self._standing: Standing | None = None
        self._more = False

    def compose(self) -> ComposeResult:
        yield Static("specterm needs a terminal of at least 60 x 18", id="too-small")
        yield Static("History", id="history-head")
        yield Input(placeholder="/ filters: words, method:draft, model:..., state:failed", id="history-filter")
        yield self._table
        yield Static("", id="history-empty")
        yield Static("", id="history-entry")
        yield KeyHints()

    def on_mount(self) -> None:
        self._again = self.set_interval(RUNNING_INTERVAL_S, self._reload_running, pause=True)
        self._listed = asyncio.Event()
        self.call_after_refresh(self._list_first)

    # The list

    @property
    def _query(self) -> Query:
        return Query.parse(self.query_one(Input).value)

    async def _list_first(self) -> None:
        """Fill the list, and let the keys behind the one that opened this screen wait for it: they are meant for it."""
        self._reload()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._listed.wait(), FIRST_LIST_S)

    def _reload(self) -> None:
        self._run(self._list_or_say, exclusive=True)

    async def _list_or_say(self) -> None:
        try:
            await self._list()
        except SpectermError as error:
            self._table.show(())
            self._standing = None
            self.query_one("#history-head", Static).update(head_line("History", "it cannot be read"))
            self.query_one("#history-empty", Static).update(Text(visible(str(error))))
            self.add_class("-empty")
            self.refresh_bindings()
        finally:
            self._listed.set()

    def _reload_running(self) -> None:
        """Bring the list up to date while a run is going and nobody has moved far down."""
        self._again.pause()
        if self.is_current and len(self._table.entries) <= PAGE:
            self._reload()

    async def _list(self) -> None:
        """Read the first page anew."""
        query = self._query
        self._standing = await asyncio.to_thread(self._archive.standing, query)
        entries = await asyncio.to_thread(self._archive.entries, query, limit=PAGE)
        self._more = len(entries) == PAGE
        self._table.show(entries)
        self._tell()
        if any(entry.state == "running" for entry in entries):
            self._again.reset()
            self._again.resume()

    async def _list_more(self) -> None:
        last = self._table.entries[-1].id
        older = await asyncio.to_thread(self._archive.entries, self._query, before=last, limit=PAGE)
        self._more = len(older) == PAGE
        self._table.extend(older)

    def on_data_table_row_highlighted(self, message: DataTable.RowHighlighted) -> None:
        self._tell_entry()
        if self._more and message.cursor_row >= len(self._table.entries) - _AHEAD:
            self._more = False
            self._run(self._list_more)

    def on_input_changed(self) -> None:
        self._reload()

    def on_input_submitted(self) -> None:
        self._table.focus()

    def _tell(self) -> None:
        """Say how the history stands, and what an empty list means."""
        standing, line = self._standing, self.query_one(Input).value.strip()
        if standing is None:
            return
        size = f"{standing.bytes / 1e6:.1f} MB"
        runs = f"{standing.runs:,} runs" if standing.runs != 1 else "1 run"
        parts = [f"{standing.matching:,} of {runs}" if line else runs, size]
        parts.append("new runs are stored" if standing.recording else "OFF: new runs are not stored")
        self.query_one("#history-head", Static).update(head_line("History", *parts))
        why = "no run matches the filter; Escape clears it" if line else "no runs are stored yet"
        if not line and not standing.recording:
            why += "; h stores the next ones"
        self.query_one("#history-empty", Static).update(why)
        self.set_class(not self._table.entries, "-empty")
        self._tell_entry()
        self.refresh_bindings()

    def _tell_entry(self) -> None:
        """The run under the cursor in full."""
        entry = self._table.current
        self.query_one("#history-entry", Static).update("" if entry is None else described(entry))

    # Actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What takes runs is offered where there are some."""
        table, standing = self._table, self._standing
        filtering = any(box.has_focus for box in self.query(Input))
        match action:
            case "clear_filter":
                return filtering or any(box.value for box in self.query(Input))
            case "play" | "mark" | "export":
                return table.current is not None
            case "compare" | "delete":
                return table.current is not None or bool(table.marked)
            case "filter":  # it may be typed ahead
                return not filtering and (standing is None or standing.runs > 0)
            case "purge":
                return standing is not None and standing.runs > 0
            case "toggle_storing":
                return standing is not None
        return True

    def action_clear_filter(self) -> None:
        """List every run again."""
        self.query_one(Input).value = ""
        self._table.focus()

    def action_back(self) -> None:
        """Go back to the workbench."""
        self.dismiss(None)

    def action_filter(self) -> None:
        """Go to the filter, at once: what is typed behind the key is meant for it."""
        self.set_focus(self.query_one(Input))

    def on_data_table_row_selected(self) -> None:
        self._open(None)

    def action_play(self) -> None:
        """Show the run at its own pace."""
        self._open(1.0)

    def _open(self, speed: float | None) -> None:
        if (entry := self._table.current) is not None:
            read = self._show_comparison if entry.kind == "comparison" else self._show_run
            self._run(partial(read, entry, speed), exclusive=True)

    async def _show_run(self, entry: Entry, speed: float | None) -> None:
        found = await asyncio.to_thread(self._archive.events, entry.id)
        if found:
            self.dismiss(StoredRun(entry, found, speed, await asyncio.to_thread(self._archive.turns, entry.id)))
        else:
            self._say(f"run {entry.id} has no events: it was interrupted before the first")

    async def _show_comparison(self, entry: Entry, _speed: float | None) -> None:
        from specterm.tui.measurement import StoredMeasurement
        from specterm.tui.screens.race import RaceScreen

        found = await asyncio.to_thread(self._archive.comparison, entry.id)
        self.app.push_screen(RaceScreen(StoredMeasurement(found), title=f"run {entry.id}, {when(entry)}"))

    def action_mark(self) -> None:
        """Mark or unmark the run under the cursor, and go on to the next."""
        self._table.toggle_mark()

    def action_compare(self) -> None:
        """Compare the two marked runs."""
        marked = self._table.marked
        if len(marked) != _COMPARED:
            self._say(f"{len(marked)} runs are marked; mark two with Space to compare them")
            return
        first, second = (marked[run] for run in sorted(marked))
        if "comparison" in (first.kind, second.kind):
            self._say("a comparison is marked, and runs can be compared only; Enter shows what it found")
            return

        async def read() -> None:
            from specterm.tui.screens.run_comparison import RunComparison

            stored = [(entry, await asyncio.to_thread(self._archive.events, entry.id)) for entry in (first, second)]
            self.app.push_screen(RunComparison(*stored))

        self._run(read, exclusive=True)

    def action_export(self) -> None:
        """Ask for a file and write the run to it."""
        if (entry := self._table.current) is None:
            return

        def write(path: str | None) -> None:
            if path is not None:
                self._run(partial(self._export, entry.id, Path(path).expanduser()))

        formats = ".json, .md, .txt, or .jsonl for --engine replay"
        if entry.kind == "comparison":
            formats = "the report: .json, .csv, .md or .html"
        question = f"Write run {entry.id} to ({formats})"
        self.app.push_screen(AskPath(question, f"specterm-run-{entry.id}.json"), write)

    async def _export(self, run: int, path: Path) -> None:
        await asyncio.to_thread(export, self._archive, run, path)
        self.notify(f"run {run} written to {path.resolve()}", markup=False)

    def action_delete(self) -> None:
        """Delete the marked runs, or the one under the cursor, after a question."""
        current = self._table.current
        runs = list(self._table.marked) or ([] if current is None else [current.id])
        if runs:
            what = f"run {runs[0]}" if len(runs) == 1 else f"the {len(runs)} marked runs"
            question = f"Delete {what}? The prompts go too, also from what Up recalls, unless another run has them."
            self._ask(question, partial(self._delete, runs))

    async def _delete(self, runs: list[int]) -> None:
        self._forget(await asyncio.to_thread(self._archive.delete, runs))

    def action_purge(self) -> None:
        """Delete every run, after a question."""
        runs = self._standing.runs if self._standing else 0
        question = (
            f"Delete every stored run ({runs:,}), whatever the filter shows, and the remembered prompts? They cannot "
        )
        self._ask(question + "be brought back.", self._purge)

    async def _purge(self) -> None:
        await asyncio.to_thread(self._archive.purge)
        self._forget(None)

    def _ask(self, question: str, change: Callable[[], Awaitable[object]]) -> None:
        async def changed() -> None:
            await change()
            self._table.marked.clear()
            await self._list()

        self.app.push_screen(Confirm(question), lambda yes: self._run(changed) if yes else None)

    def action_toggle_storing(self) -> None:
        """Store runs from the next one on, or do not."""
        assert self._standing is not None
        storing = self._standing.recording

        async def toggle() -> None:
            await asyncio.to_thread(self._archive.set_recording, not storing)
            await self._list()
            self._say("the next runs are not stored" if storing else "the next runs are stored")

        self._run(toggle)

    def _run(self, work: Callable[[], Awaitable[None]], *, exclusive: bool = False) -> None:
        """Do `work` beside the screen; what the database has against it is said and leaves the screen usable."""

        async def guarded() -> None:
            try:
                await work()
            except SpectermError as error:
                self._say(str(error), failed=True)
                await self._list_or_say()  # another program may have deleted what was asked for
            except NoMatches:
                if self.display:  # otherwise the screen is on its way out, and its widgets went first
                    raise

        self.run_worker(guarded(), group="history", exclusive=exclusive)

    def _say(self, text: str, *, failed: bool = False) -> None:
        severity = "error" if failed else "information"
        self.notify(visible(text), title="History", severity=severity, markup=False)  # type: ignore[arg-type]
