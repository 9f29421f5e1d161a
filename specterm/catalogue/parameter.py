"""One option of decoding: its type, its range, its default and what it means."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from specterm.errors import ConfigError

Value: TypeAlias = int | float | bool | str | tuple[str, ...] | None
Kind: TypeAlias = Literal["int", "float", "bool", "text", "texts"]

_SWITCH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def _written(bound: float) -> str:
    """A bound in full: a whole number with all its digits."""
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One option: its name in files and JSON, its flag, its range and what it means."""

    name: str
    kind: Kind
    default: Value
    help: str
    minimum: float | None = None
    maximum: float | None = None
    optional: bool = False  # None is allowed, and means what `none_means` says
    none_means: str = ""
    label: str = ""  # short name for panels
    choices: tuple[str, ...] = ()  # of a text: what it may be; none given means anything
    at_most: str = ""  # the parameter of the same method that it may not exceed
    needs: tuple[str, Value] | None = None  # where it has a value, another parameter of the method must have this one

    @property
    def flag(self) -> str:
        """The command-line flag."""
        return "--" + self.name.replace("_", "-")

    @property
    def title(self) -> str:
        """The short name that panels show."""
        return self.label or self.name.replace("_", " ")

    @property
    def allowed(self) -> str:
        """What may be given, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        noun = {"int": "a whole number", "float": "a number", "bool": "true or false", "text": "text"}.get(
            self.kind, "a list of texts"
        )
        if self.minimum is not None and self.maximum is not None:
            noun += f" from {_written(self.minimum)} to {_written(self.maximum)}"
        elif self.minimum is not None:
            noun += f" of at least {_written(self.minimum)}"
        elif self.maximum is not None:
            noun += f" of at most {_written(self.maximum)}"
        return noun

    def check(self, value: Any) -> Value:
        """`value` as this parameter's type; text is parsed.

        Raises:
            ConfigError: the value is not of the type, not finite or out of range; the text names flag, value and range.
        """
        empty = ("",) if self.kind == "text" else ("", "none")
        if value is None or (isinstance(value, str) and value.strip().lower() in empty):
            if self.optional:
                return None
            raise ConfigError(f"{self.flag} is empty; it must be {self.allowed}")
        try:
            checked = self._convert(value)
        except (TypeError, ValueError, KeyError, OverflowError):
            raise ConfigError(f"{self.flag} is {value!r}; it must be {self.allowed}") from None
        if isinstance(checked, (int, float)) and not isinstance(checked, bool):
            too_low = self.minimum is not None and checked < self.minimum
            too_high = self.maximum is not None and checked > self.maximum
            if not math.isfinite(checked) or too_low or too_high:
                raise ConfigError(f"{self.flag} is {value}; it must be {self.allowed}")
        return checked

    def _convert(self, value: Any) -> Value:
        match self.kind:
            case "int":
                if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
                    raise ValueError
                return int(value)
            case "float":
                if isinstance(value, bool):
                    raise ValueError
                return float(value)
            case "bool":
                return value if isinstance(value, bool) else _SWITCH[str(value).strip().lower()]
            case "text":
                if self.choices and value not in self.choices:
                    raise ValueError
                return str(value)
            case "texts":
                return (value,) if isinstance(value, str) else tuple(str(v) for v in value)
