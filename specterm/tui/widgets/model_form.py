"""The models as a form, generated from the catalogue: a field for each name, and how they are loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Input

from specterm.catalogue.models import BUILTIN, LOADING, NAMES
from specterm.config import ModelSpec
from specterm.tui.widgets.name_field import NameField
from specterm.tui.widgets.parameter_field import ParameterField


class ModelForm(VerticalScroll, can_focus=False):
    """Starts from `spec`. There is always one more field for a draft than there are drafts; they are used in order."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "app.focus_next", "Next", False, id="names.next", tooltip="To the next field"),
        Binding("up", "app.focus_previous", "Before", False, id="names.before", tooltip="To the field before"),
    ]

    def __init__(self, spec: ModelSpec, devices: Sequence[str], known: Sequence[str], *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.border_title = "Models"
        self._spec, self._known = as_asked(spec), known
        self._devices = tuple(dict.fromkeys(("auto", "cpu", *devices, spec.device)))
        self._last: NameField | None = None

    def compose(self) -> ComposeResult:
        for parameter in NAMES:
            value = getattr(self._spec, parameter.name)
            texts = (*value, "") if parameter.kind == "texts" else (value or "",)
            for number, text in enumerate(texts):
                label = f"{parameter.title} {number + 1}" if parameter.kind == "texts" else parameter.title
                yield NameField(parameter.name, label, text, self._known, parameter.help)
        for parameter in LOADING:
            if parameter.name == "device":
                parameter = dataclasses.replace(parameter, choices=self._devices)
            yield ParameterField(parameter, getattr(self._spec, parameter.name))

    def spec(self) -> ModelSpec:
        """The models that the form describes, checked.

        Raises:
            ConfigError: a field holds no usable value.
        """
        values: dict[str, Any] = {field.parameter.name: field.value() for field in self.query(ParameterField)}
        for parameter in NAMES:
            texts = [field.text for field in self.query(NameField) if field.field == parameter.name]
            if parameter.kind == "texts":
                values[parameter.name] = tuple(text for text in texts if text)
            else:
                values[parameter.name] = texts[0] or (None if parameter.optional else "")
        return ModelSpec(**values).checked()

    async def show(self, spec: ModelSpec) -> None:
        """Take over another spec."""
        self._spec, self._last = as_asked(spec), None
        self._devices = tuple(dict.fromkeys((*self._devices, spec.device)))
        await self.recompose()
        self.focus_first()

    def fill(self, name: str) -> None:
        """Put a name into the field that was used last, at first the target's."""
        field = self._last or self.query(NameField).first()
        field.text = name
        field.scroll_visible(animate=False)

    def focus_first(self) -> None:
        """Go to the target."""
        for box in self.query(Input):  # there is none yet, or none any more, where keys come fast
            box.focus()
            break

    @property
    def aim(self) -> str:
        """What `fill` fills, in a word."""
        return (self._last or self.query(NameField).first()).label

    def on_descendant_focus(self) -> None:
        focused = self.screen.focused
        field = focused.parent if focused is not None else None
        if isinstance(field, NameField):
            self._last = field

    @on(NameField.Edited)
    async def _one_more_draft(self, event: NameField.Edited) -> None:
        drafts = [field for field in self.query(NameField) if field.field == "drafts"]
        if event.field is drafts[-1] and event.field.text:
            parameter = next(p for p in NAMES if p.name == "drafts")
            label = f"{parameter.title} {len(drafts) + 1}"
            await self.mount(NameField("drafts", label, "", self._known, parameter.help), after=drafts[-1])


def as_asked(spec: ModelSpec) -> ModelSpec:
    """`spec` without what the built-in target brings along, so that another target does not inherit it."""
    if spec.target != BUILTIN:
        return spec
    heads = {kind: None for kind, name in spec.heads().items() if name == BUILTIN}
    return msgspec.structs.replace(spec, drafts=() if spec.drafts == (BUILTIN,) else spec.drafts, **heads)
