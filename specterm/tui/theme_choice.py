"""Which colours are in force: those asked for, those chosen last, or the default; and changing them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textual.app import App
from textual.theme import Theme

from specterm.tui import themes
from specterm.tui.memory import Memory


class ThemeChoice:
    """Registers the themes of `folders` with `app` and chooses one. `asked` is a theme that a person named; a name that
    is not known, and a file that cannot be read, are among the `problems`."""

    def __init__(self, app: App[None], folders: Sequence[Path], memory: Memory, asked: str | None) -> None:
        self._app, self._memory = app, memory
        found, self.problems = themes.load_themes(folders)
        for theme in found:
            app.register_theme(theme)
        self._names = [theme.name for theme in found]
        if asked is not None and asked not in app.available_themes:
            self.problems.append(f"--theme is {asked!r}; it must be one of {', '.join(self._names)}")
        for name in (asked, memory.theme, themes.DEFAULT):
            if name in app.available_themes:
                app.theme = name
                break

    def next(self) -> str:
        """Change to the next theme; returns its name."""
        if self._names:
            here = self._names.index(self._app.theme) if self._app.theme in self._names else -1
            self._app.theme = self._names[(here + 1) % len(self._names)]
        return self._app.theme

    def remember(self, theme: Theme) -> None:
        """The theme was changed: it is to be that of the next session."""
        self._memory.theme = theme.name
