"""The configuration file: a value for any option that is no command, under the option's name, and `[keymap]`.

What stands there counts where neither the command line nor the environment says anything. What is wrong with the file
is kept as text and not raised: the workbench opens nevertheless and says so, a headless run refuses.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specterm.errors import ConfigError

if TYPE_CHECKING:
    from specterm.options import Option

KEYMAP = "keymap"
THEME = "theme"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a configuration file says. `options` are checked values by option name, `keymap` keys by the id of a
    binding, `problems` a line for each thing that had to be left out."""

    options: Mapping[str, Any] = field(default_factory=dict)
    keymap: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def of_the_screen(self) -> bool:
        """Whether nothing in them concerns a run, so that the option parser is not needed."""
        return set(self.options) <= {THEME}

    def refuse_problems(self) -> None:
        """Raise a ConfigError for the first problem, if there is one."""
        if self.problems:
            raise ConfigError(self.problems[0])


def read_settings(path: Path) -> Settings:
    """The settings in a TOML file; a file that does not exist has none. Nothing heavy is imported for one that names
    only a theme and keys."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        return Settings(problems=(f"the configuration {path} cannot be read: {error.strerror or error}",))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return Settings(problems=(f"the configuration {path} is not valid TOML: {error}",))
    problems: list[str] = []
    keymap = _keymap(data.pop(KEYMAP, {}), problems)
    options = _options(data, problems)
    return Settings(options, keymap, tuple(f"the configuration {path}: {problem}" for problem in problems))


def _keymap(found: Any, problems: list[str]) -> dict[str, str]:
    if not isinstance(found, dict):
        problems.append(f'keymap is {found!r}; it must be a table such as [keymap] with "app.quit" = "ctrl+x"')
        return {}
    keymap = {}
    for name, keys in found.items():
        if isinstance(keys, str) and all(key.strip() for key in keys.split(",")):
            keymap[name] = ",".join(key.strip() for key in keys.split(","))
        else:
            problems.append(
                f'keymap: {name} is {keys!r}; it must be keys with commas between them, such as "f9,ctrl+x"; '
                "quote an id that has a dot in it"
            )
    return keymap


def _options(data: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    found = {}
    for key, value in sorted(data.items(), key=lambda item: item[0] != "method"):  # a plug-in brings options of its own
        name = key.replace("-", "_")
        try:
            if name in found:
                raise ConfigError(f"{key} stands there twice; keep one of {key.replace('_', '-')} and {name}")
            found[name] = _theme(value) if name == THEME else _option_value(key, name, value)
        except ConfigError as error:
            problems.append(str(error))
    return found


def _theme(value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"theme is {value!r}; it must be the name of a theme, as a text")
    return value


def _option_value(key: str, name: str, value: Any) -> Any:
    from specterm.options import options

    option = options().get(name)
    if option is None:
        raise ConfigError(f"{key} is unknown; it must be an option of specterm --help without its dashes, or [keymap]")
    if option.group == "command":
        raise ConfigError(f"{key} is a command; give {option.flag} on the command line")
    try:
        return _checked(key, option, value)
    except ConfigError as error:
        raise ConfigError(str(error).replace(option.flag, key, 1)) from None


def _checked(key: str, option: Option, value: Any) -> Any:
    """`value` as the option parser wants it, found to be good as far as it can be seen alone."""
    if option.annotation is bool:
        if not isinstance(value, bool):
            raise ConfigError(f"{key} is {value!r}; it must be true or false")
        return value
    if option.annotation == list[str]:
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(text, str) for text in values):
            raise ConfigError(f"{key} is {value!r}; it must be a list of texts")
        value = values
    elif isinstance(value, (bool, dict, list)) or (option.parameter is None and not isinstance(value, str)):
        raise ConfigError(f"{key} is {value!r}; it must be {_allowed(option)}")
    option.check_alone(value)
    return value if isinstance(value, list) else str(value)


def _allowed(option: Option) -> str:
    return "a text" if option.parameter is None else option.parameter.allowed
