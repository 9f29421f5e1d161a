"""Choosing models: by name, from those that were loaded last, or from the folders of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widget import Widget
from textual.widgets import DirectoryTree, OptionList, Static
from textual.widgets.option_list import Option

from specterm.catalogue.models import BUILTIN, BUILTIN_NAMES
from specterm.config import ModelSpec
from specterm.errors import ConfigError
from specterm.tui.screen_words import on_screen
from specterm.tui.screens.sized import SizedScreen
from specterm.tui.widgets.key_hints import KeyHints
from specterm.tui.widgets.model_folders import ModelFolders, holds_model
from specterm.tui.widgets.model_form import ModelForm, as_asked
from specterm.tui.widgets.name_field import NameField
from specterm.tui.widgets.parameter_field import ParameterField
from specterm.tui.widgets.visible_text import visible


class ModelsScreen(SizedScreen[ModelSpec | None]):
    """Closes with the models to load, a checked spec, or with None. `root` is where the folders begin."""

    CSS_PATH = "models.tcss"
    HELP = """\
## Models

**target**, **draft** 1, 2, ... and the heads each take a built-in name, a folder, or a hub id (owner/model), which is
fetched where it is not in the cache yet. **Right** takes a completion, **Down** goes to the next field. **Enter** in a
name, or **F12**, loads; the workbench stays usable meanwhile, and **Escape** there cancels. **Enter** on a built-in
name or a model's folder puts it into the field that was used last, as their lower edge says; on an earlier choice it
fills the whole form. **◆** marks a folder that holds a model; **Right** opens one, **Backspace** begins one further up.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back", id="models.back", tooltip="Keep the models as they are"),
        Binding("f12", "load", "Load", id="models.load", tooltip="Load these models"),
        Binding("f2", "go('form')", "Names", id="models.names", tooltip="Go to the names"),
        Binding("f3", "go('known')", "Known", id="models.known", tooltip="Go to built-in and earlier models"),
        Binding("f4", "go('folders')", "Folders", id="models.folders", tooltip="Go to the folders"),
    ]

    def __init__(self, spec: ModelSpec, recent: Sequence[ModelSpec], devices: Sequence[str], root: Path) -> None:
        super().__init__()
        self._spec, self._recent, self._devices, self._root = spec, tuple(recent), devices, root

    def compose(self) -> ComposeResult:
        yield Static("specterm needs a terminal of at least 60 x 18", id="too-small")
        names = (name for spec in self._recent for name in (spec.target, *spec.drafts, *spec.heads().values()))
        known = list(dict.fromkeys((BUILTIN, *BUILTIN_NAMES, *names)))
        with Horizontal(id="models-body"):
            yield ModelForm(self._spec, self._devices, known, id="form")
            with Vertical(id="sources"):
                options = OptionList(*self._options(), markup=False, compact=True, id="known")
                options.border_title = "Built-in and recent"
                yield options
                yield ModelFolders(self._root, id="folders")
        yield Static("", id="models-problem", markup=False)
        yield KeyHints()

    def on_mount(self) -> None:
        self.call_after_refresh(self.query_one(ModelForm).focus_first)

    def _options(self) -> list[Option]:
        return [
            *(Option(name, id=name) for name in (BUILTIN, *BUILTIN_NAMES)),
            *(Option(visible(_told(spec)), id=f"recent:{number}") for number, spec in enumerate(self._recent)),
        ]

    def on_descendant_focus(self) -> None:
        """Say which field a name or a folder goes into."""
        told = f"Enter fills {self.query_one(ModelForm).aim}"
        for source in ("#known", "#folders"):
            self.query_one(source, Widget).border_subtitle = told

    @on(OptionList.OptionSelected)
    async def _known_chosen(self, event: OptionList.OptionSelected) -> None:
        chosen = event.option_id or ""
        if chosen.startswith("recent:"):
            await self.query_one(ModelForm).show(self._recent[int(chosen.removeprefix("recent:"))])
        else:
            self.query_one(ModelForm).fill(chosen)

    @on(DirectoryTree.DirectorySelected)
    def _folder_chosen(self, event: DirectoryTree.DirectorySelected) -> None:
        with suppress(OSError):  # it may not be looked into
            if holds_model(event.path):  # another is only opened
                self.query_one(ModelForm).fill(str(event.path))

    @on(NameField.Edited)
    @on(ParameterField.Edited)
    def _edited(self) -> None:
        self._checked()

    def _checked(self) -> ModelSpec | None:
        """The models of the form; where they cannot be used, None, and the screen says why."""
        problem, spec = "", None
        try:
            spec = self.query_one(ModelForm).spec()
        except ConfigError as error:
            problem = visible(on_screen(str(error)))
        self.query_one("#models-problem", Static).update(problem)
        return spec

    @on(NameField.Entered)
    def action_load(self) -> None:
        """Close with what the form says."""
        if (spec := self._checked()) is not None:
            self.dismiss(spec)

    def action_back(self) -> None:
        """Close without a choice."""
        self.dismiss(None)

    def action_go(self, pane: str) -> None:
        """Go to a part of the screen."""
        if pane == "form":
            self.query_one(ModelForm).focus_first()
        else:
            self.query_one(f"#{pane}").focus()


def _told(spec: ModelSpec) -> str:
    """A spec on one line."""
    spec = as_asked(spec)
    drafts = "".join(f" + {name}" for name in spec.drafts)
    heads = "".join(f" + {kind}" for kind in spec.heads())
    weights = [spec.quantize] if spec.quantize != "none" else []
    if spec.draft_quantize != "auto":
        weights.append(f"drafts {spec.draft_quantize}")
    return " · ".join((f"{spec.target}{drafts}{heads}", spec.dtype, spec.device, *weights))
