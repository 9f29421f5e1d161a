"""The folders of this machine as a tree, with those that hold a model marked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import DirectoryTree
from textual.widgets.directory_tree import DirEntry
from textual.widgets.tree import TreeNode

from specterm.tui.widgets.visible_text import visible

_MARK = "◆ "


class ModelFolders(DirectoryTree):
    """Folders only; one with a config.json is marked."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("backspace", "up", "Up", id="folders.up", tooltip="Begin one folder further up"),
    ]

    def __init__(self, path: Path, *, id: str | None = None) -> None:  # noqa: A002
        self._models: set[Path] = set()
        super().__init__(path, id=id)
        self.border_title = "Folders"

    def filter_paths(self, paths: Iterable[Path]) -> Iterable[Path]:
        """Runs in the tree's own thread, which may ask the disk."""
        for path in paths:
            try:
                if path.name.startswith(".") or not path.is_dir():
                    continue
                if (path / "config.json").is_file():
                    self._models.add(path)
            except OSError:  # a folder that may not be looked into
                continue
            yield path

    def render_label(self, node: TreeNode[DirEntry], base_style: Style, style: Style) -> Text:
        """The folder's name, marked where it holds a model."""
        data = node.data
        if data is None:
            return Text("")
        name = visible(data.path.name or str(data.path))
        mark = _MARK if data.path in self._models else "▾ " if node.is_expanded else "▸ "
        return Text(mark + name, style, no_wrap=True)

    def action_up(self) -> None:
        """Begin the tree one folder further up."""
        self.path = Path(self.path).resolve().parent
