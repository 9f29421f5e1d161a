"""Method, acceptance rule and sampling: a form generated from the catalogue; it knows no method by name."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from textual import on
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Label, Select, Static

from specterm.catalogue import METHODS, RULES, SAMPLING, Value
from specterm.catalogue.plugins import discover
from specterm.config import ModelSpec, RunSpec
from specterm.errors import ConfigError
from specterm.tui.widgets.method_form import MethodForm
from specterm.tui.widgets.parameter_field import ParameterField


class SettingsPanel(VerticalScroll, can_focus=False):
    """What the next run is decoded with. Changes take effect with the next run."""

    HELP = """\
## Settings

How the next run decodes: the method with its parameters, the acceptance rule (**lossless** says that the output
follows the target's own distribution, and why), and the sampling. A value that cannot be used says so below its field,
and holds back Enter. **Tab** and **Shift+Tab** move, **Enter** opens a list.
"""

    @dataclass
    class MethodChosen(Message):
        """The next run is of this method of the catalogue."""

        method: str

    def __init__(self, spec: RunSpec, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.border_title = "Settings"
        self._spec = spec
        self._form = MethodForm(spec.method)
        self._acceptance = spec.sampling.acceptance
        self._built = False
        self._sampling_values: dict[str, Value] = msgspec.structs.asdict(spec.sampling)

    def on_mount(self) -> None:
        # The form is most of the widgets of the screen; the first frame does not wait for it.
        self.call_after_refresh(self._build)

    async def _build(self) -> None:
        discover()
        await self.mount(
            self._form,
            Horizontal(
                Label("acceptance", classes="field-label"),
                Select(self._rules(), value=self._acceptance, allow_blank=False, compact=True, id="acceptance"),
                classes="field-row",
            ),
            Static("", id="lossless"),
            Vertical(*self._new_fields(), id="sampling-fields"),
        )
        self._built = True
        self._tell()

    def use_models(self, model: ModelSpec) -> None:
        """The next run uses `model`, a checked spec; what it lacks for the method is said."""
        if model != self._spec.model:
            self._spec = msgspec.structs.replace(self._spec, model=model)
            if self._built:
                self._tell()

    def focus_first(self) -> None:
        """Go to the first field."""
        if self._built:
            self._form.focus_first()

    def _rules(self) -> list[tuple[str, str]]:
        """The rules that go with the method; the chosen one is kept if it does, else the first."""
        rules = [(rule.title, name) for name, rule in RULES.items() if rule.goes_with(self._form.method)]
        if self._acceptance not in (name for _, name in rules):
            self._acceptance = rules[0][1]
        return rules

    def _new_fields(self) -> list[ParameterField]:
        """What the rule takes, and what it leaves open of the rest."""
        rule = RULES[self._acceptance]
        shown = (*rule.parameters, *(parameter for parameter in SAMPLING if parameter.name not in rule.settles))
        defaults = {parameter.name: parameter.default for parameter in rule.parameters} | dict(rule.fills)
        fields = []
        for parameter in shown:
            value = self._sampling_values[parameter.name]
            fields.append(ParameterField(parameter, defaults.get(parameter.name) if value is None else value))
        return fields

    def spec(self) -> RunSpec:
        """The run that the form describes.

        Raises:
            ConfigError: a field holds no usable value, or two do not go together.
        """
        if not self._built:
            return self._spec.checked()
        rule = RULES[self._acceptance]
        sampling: dict[str, Value] = {p.name: None for other in RULES.values() for p in other.parameters}
        sampling |= dict(rule.settles) | {field.parameter.name: field.value() for field in self._sampling_fields()}
        return msgspec.structs.replace(
            self._spec,
            method=self._form.spec(),
            sampling=msgspec.structs.replace(self._spec.sampling, acceptance=self._acceptance, **sampling),
        ).checked()

    def _sampling_fields(self) -> list[ParameterField]:
        return list(self.query_one("#sampling-fields").query(ParameterField))

    @on(MethodForm.Changed)
    async def _method_changed(self, event: MethodForm.Changed) -> None:
        event.stop()
        judged_by, acceptance = self._acceptance, self.query_one("#acceptance", Select)
        with self.prevent(Select.Changed):
            acceptance.set_options(self._rules())
            acceptance.value = self._acceptance
        if self._acceptance != judged_by:
            await self._refill()
        self.post_message(self.MethodChosen(self._form.method))
        self._tell()

    @on(Select.Changed, "#acceptance")
    async def _rule_chosen(self, event: Select.Changed) -> None:
        event.stop()
        if event.value == self._acceptance:
            return
        self._acceptance = str(event.value)
        await self._refill()
        self._tell()

    async def _refill(self) -> None:
        with self.app.batch_update():
            holder = self.query_one("#sampling-fields", Vertical)
            await holder.remove_children()
            await holder.mount(*self._new_fields())

    @on(ParameterField.Edited)
    def _field_edited(self, event: ParameterField.Edited) -> None:
        event.stop()
        if event.field.error is None:
            self._sampling_values[event.field.parameter.name] = event.field.value()
        self._tell()

    def _tell(self) -> None:
        """Show whether the rule is lossless, and what is wrong with the whole where no field is to blame."""
        rule, method = RULES[self._acceptance], METHODS[self._form.method]
        sampling = {f.parameter.name: f.value() for f in self._sampling_fields() if f.error is None}
        lossless = rule.lossless(sampling, speculative=method.speculative)
        mark = self.query_one("#lossless", Static)
        colour, word = ("$success", "✓ lossless") if lossless else ("$warning", "✗ not lossless")
        mark.update(Content.from_markup(f"[bold {colour}]{word}[/] [$secondary]$why[/]", why=rule.reason(lossless)))
        self.query_one("#acceptance", Select).tooltip = rule.summary
        problem = ""
        if all(field.error is None for field in self.query(ParameterField)):
            try:
                self.spec()
            except ConfigError as error:
                problem = str(error)
        self._form.show_problem(problem)
