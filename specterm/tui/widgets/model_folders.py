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


def holds_model(path: Path) -> bool:
    """Whether a folder looks like a model or heads.

    Raises:
        OSError: it may not be looked into.
    """
    return (path / "config.json").is_file()


class ModelFolders(DirectoryTree):
    """Folders only; one with a config.json is marked."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right", "open", "Open", id="folders.open", tooltip="Show what is in the folder"),
        Binding("left", "close", "Close", id="folders.close", tooltip="Hide what is in the folder", show=False),
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
                if holds_model(path):
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

    def action_open(self) -> None:
        """Show what is in the folder under the cursor."""
        if self.cursor_node is not None:
            self.cursor_node.expand()

    def action_close(self) -> None:
        """Hide what is in the folder under the cursor; where nothing is shown, go to the one that it is in."""
        if self.cursor_node is not None and self.cursor_node.is_expanded:
            self.cursor_node.collapse()
        else:
            self.action_cursor_parent()

    def action_up(self) -> None:
        """Begin the tree one folder further up."""
        self.path = Path(self.path).resolve().parent
