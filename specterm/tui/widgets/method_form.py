"""A method and its parameters: a form generated from the catalogue; it knows no method by name."""

from __future__ import annotations

from dataclasses import dataclass

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Label, Select, Static

from specterm.catalogue import METHODS, Value
from specterm.config import MethodSpec
from specterm.tui.screen_words import SETTINGS, advised
from specterm.tui.widgets.parameter_field import ParameterField


class MethodForm(Vertical):
    """One method with its settings. What was typed for a parameter is kept when the method changes."""

    @dataclass
    class Changed(Message):
        """Another method was chosen, or a setting edited."""

        form: MethodForm

    def __init__(self, method: MethodSpec) -> None:
        super().__init__()
        self.method = method.name if method.name in METHODS else next(iter(METHODS))
        self._values: dict[str, Value] = dict(method.parameters)

    def compose(self) -> ComposeResult:
        titles = [(entry.title, name) for name, entry in METHODS.items()]
        with Horizontal(classes="field-row"):
            yield Label("method", classes="field-label")
            yield Select(titles, value=self.method, allow_blank=False, compact=True, id="method")
        yield Static("", id="method-error", classes="field-error", markup=False)
        yield Vertical(*self._new_fields(), id="method-fields")

    def on_mount(self) -> None:
        self._tell()

    def focus_first(self) -> None:
        """Go to the first field."""
        self.query_one("#method", Select).focus()

    def spec(self) -> MethodSpec:
        """The method that the form describes, each value checked by itself.

        Raises:
            ConfigError: a field holds no usable value.
        """
        fields = self.query_one("#method-fields").query(ParameterField)
        return MethodSpec(name=self.method, parameters={field.parameter.name: field.value() for field in fields})

    def show_problem(self, text: str) -> None:
        """Say what is wrong with the whole where no field is to blame; "" takes it away."""
        self.query_one("#method-error", Static).update(advised(text, here=SETTINGS))
        self.set_class(bool(text), "-invalid")

    @property
    def complete(self) -> bool:
        """Whether every field holds a value that can be used."""
        return all(field.error is None for field in self.query(ParameterField))

    def _new_fields(self) -> list[ParameterField]:
        return [
            ParameterField(parameter, self._values.get(parameter.name, parameter.default))
            for parameter in METHODS[self.method].parameters
        ]

    @on(Select.Changed, "#method")
    async def _method_chosen(self, event: Select.Changed) -> None:
        event.stop()
        if event.value == self.method:
            return
        self.method = str(event.value)
        with self.app.batch_update():
            fields = self.query_one("#method-fields", Vertical)
            await fields.remove_children()
            await fields.mount(*self._new_fields())
        self._tell()
        self.post_message(self.Changed(self))

    @on(ParameterField.Edited)
    def _field_edited(self, event: ParameterField.Edited) -> None:
        event.stop()
        field = event.field
        if field.error is None:
            self._values[field.parameter.name] = field.value()
        self.post_message(self.Changed(self))

    def _tell(self) -> None:
        self.query_one("#method", Select).tooltip = METHODS[self.method].summary
