"""One parameter of the catalogue as a labelled field that says what is wrong with its value."""

from __future__ import annotations

from dataclasses import dataclass

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Checkbox, Input, Label, Select, Static

from specterm.catalogue import Parameter, Value
from specterm.errors import ConfigError
from specterm.tui.screen_words import on_screen
from specterm.tui.widgets.visible_text import visible

_BAR = "|"


def to_text(value: Value) -> str:
    """A value as one line that `from_text` reads back."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return _BAR.join(text.replace("\\", "\\\\").replace("\n", "\\n").replace(_BAR, "\\|") for text in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def split_texts(text: str) -> tuple[str, ...]:
    r"""The texts of a line: separated by `|`; `\n`, `\t`, `\|` and `\\` are a newline, a tab, a bar and a backslash."""
    if not text:
        return ()
    found, current, escaped = [], "", False
    for character in text:
        if escaped:
            current += {"n": "\n", "t": "\t"}.get(character, character)
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == _BAR:
            found.append(current)
            current = ""
        else:
            current += character
    found.append(current)
    return tuple(found)


def from_text(parameter: Parameter, text: str) -> Value:
    """The checked value of what was typed.

    Raises:
        ConfigError: the text is no value of the parameter.
    """
    if parameter.kind != "texts":
        return parameter.check(text)
    texts = split_texts(text)
    if any(not one for one in texts):
        raise ConfigError(f"{parameter.flag} has an empty text; remove the {_BAR} beside it")
    return parameter.check(texts)


class OnOff(Checkbox):
    """A checkbox that says in words which of the two it is: Textual's own tells it by the colour of its cross alone."""

    BUTTON_INNER = " "

    def __init__(self, value: bool) -> None:
        super().__init__(value=value, compact=True)
        self._tell()

    def watch_value(self) -> None:
        """See `Checkbox`."""
        super().watch_value()
        self._tell()

    def _tell(self) -> None:
        self.BUTTON_INNER = "✓" if self.value else " "
        self.label = "on" if self.value else "off"


class ParameterField(Vertical):
    """A label and an editor for one parameter; below it, in place, what is wrong."""

    @dataclass
    class Edited(Message):
        """The text of a field changed."""

        field: ParameterField

    def __init__(self, parameter: Parameter, value: Value) -> None:
        super().__init__()
        self.parameter = parameter
        self.text = to_text(value)
        self.error: ConfigError | None = None
        self.tooltip = f"{parameter.help} ({parameter.flag}: {parameter.allowed})"

    def compose(self) -> ComposeResult:
        with Horizontal(classes="field-row"):
            yield Label(self.parameter.title, classes="field-label", markup=False)
            if self.parameter.kind == "bool":
                yield OnOff(self.text == "true")
            elif self.parameter.choices:
                choices = [(choice, choice) for choice in self.parameter.choices]
                yield Select(choices, value=self.text, allow_blank=False, compact=True)
            else:
                yield Input(self.text, placeholder=self._placeholder, compact=True)
        yield Static("", classes="field-error", markup=False)

    @property
    def _placeholder(self) -> str:
        if self.parameter.kind == "texts":
            return self.parameter.none_means or "none; a|b, \\n"
        return self.parameter.none_means or "none"

    def value(self) -> Value:
        """The value as it stands.

        Raises:
            ConfigError: what was typed is no value of the parameter.
        """
        return from_text(self.parameter, self.text)

    def check(self) -> None:
        """Check the text, and show or take away the error below the field."""
        try:
            self.value()
            self.error = None
        except ConfigError as error:
            self.error = error
        self.set_class(self.error is not None, "-invalid")
        self.query_one(".field-error", Static).update(visible(on_screen(str(self.error or ""), (self.parameter,))))

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._edited(event.value)

    @on(Checkbox.Changed)
    def _ticked(self, event: Checkbox.Changed) -> None:
        event.stop()
        self._edited("true" if event.value else "false")

    @on(Select.Changed)
    def _chosen(self, event: Select.Changed) -> None:
        event.stop()
        self._edited(str(event.value))

    def _edited(self, text: str) -> None:
        if text != self.text:
            self.text = text
            self.check()
            self.post_message(self.Edited(self))
