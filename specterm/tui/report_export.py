"""The report of a comparison, written from its screen."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from textual.screen import Screen

from specterm.errors import SpectermError
from specterm.report.document import Document
from specterm.report.writing import prepare_folder, write_reports
from specterm.tui.screens.dialogs import AskPath
from specterm.tui.widgets.visible_text import visible


def export_report(screen: Screen[None], document: Document, formats: Sequence[str]) -> None:
    """Ask for a folder over `screen` and write the report into it, in each of `formats`."""

    async def write(folder: Path) -> None:
        try:
            await asyncio.to_thread(prepare_folder, folder)
            paths = await asyncio.to_thread(write_reports, document, folder, formats)
        except SpectermError as error:
            screen.notify(visible(str(error)), title="Export", severity="error", markup=False)
            return
        written = ", ".join(path.name for path in paths)
        screen.notify(visible(f"wrote {written} into {folder.resolve()}"), title="Export", markup=False)

    def answered(path: str | None) -> None:
        if path is not None:
            screen.run_worker(write(Path(path).expanduser()), group="export", exclusive=True)

    question = f"Write the report ({', '.join(formats)}) into the folder"
    screen.app.push_screen(AskPath(question, "specterm-compare"), answered)
