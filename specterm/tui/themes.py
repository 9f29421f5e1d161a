"""Colour themes: TOML files that ship with the package, and those in the user's configuration folder."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from textual.color import Color, ColorParseError
from textual.theme import Theme

from specterm.errors import ConfigError

COLORS = (
    "primary",
    "secondary",
    "accent",
    "foreground",
    "background",
    "surface",
    "panel",
    "success",
    "warning",
    "error",
)
VARIABLES = (
    "token-accepted",
    "token-rejected",
    "token-bonus",
    "token-correction",
    "token-draft",
    "power-low",
    "power-mid",
    "power-high",
)
DEFAULT = "dark"

_DARK_VARIABLES = dict(
    zip(
        VARIABLES,
        ("#5fd787", "#ff8787", "#5fd7ff", "#ffd75f", "#a8a8b8", "#5fd787", "#ffd75f", "#ff8787"),
        strict=True,
    )
)
_LIGHT_VARIABLES = dict(
    zip(
        VARIABLES,
        ("#006b2d", "#b3002d", "#005f9e", "#7a4d00", "#5f5f6b", "#006b2d", "#7a4d00", "#b3002d"),
        strict=True,
    )
)


def variable_defaults(dark: bool) -> dict[str, str]:
    """The colours of tokens and power for themes that do not name them."""
    return dict(_DARK_VARIABLES if dark else _LIGHT_VARIABLES)


def shipped_folder() -> Path:
    """Where the shipped themes lie: in the installed package, or at the root of a checkout."""
    package = Path(__file__).parent.parent
    packaged = package / "_themes"
    return packaged if packaged.is_dir() else package.parent / "themes"


def read_theme(path: Path) -> Theme:
    """The theme in a TOML file.

    Raises:
        ConfigError: the file cannot be read, or a key or colour in it is bad; the text names the file and the key.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path.name} cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} is not valid TOML: {error}") from None
    name, dark, variables = data.pop("name", None), data.pop("dark", True), data.pop("variables", {})
    if not isinstance(name, str) or not name.strip():
        raise ConfigError(f"{path.name}: name is {name!r}; it must be a text")
    if not isinstance(dark, bool):
        raise ConfigError(f"{path.name}: dark is {dark!r}; it must be true or false")
    if not isinstance(variables, dict):
        raise ConfigError(f"{path.name}: variables is {variables!r}; it must be a table of colours")
    for key in ("author", "description"):
        data.pop(key, None)
    _check_colors(path, data, COLORS, "")
    _check_colors(path, variables, None, "variables.")
    if "primary" not in data:
        raise ConfigError(f"{path.name}: primary is missing; it must be a colour")
    return Theme(name=name, dark=dark, variables={**variable_defaults(dark), **variables}, **data)


def _check_colors(path: Path, data: dict[str, Any], known: Iterable[str] | None, prefix: str) -> None:
    for key, value in data.items():
        if known is not None and key not in known:
            raise ConfigError(f"{path.name}: {prefix}{key} is unknown; known are {', '.join(known)}")
        try:
            Color.parse(value)
        except (ColorParseError, TypeError, AttributeError):
            raise ConfigError(
                f'{path.name}: {prefix}{key} is {value!r}; it must be a colour such as "#5fd787"'
            ) from None


def load_themes(folders: Iterable[Path]) -> tuple[list[Theme], list[str]]:
    """The themes of all `*.toml` files in `folders`, and what is wrong with those that had to be skipped.

    A later folder's theme replaces one of the same name. Folders that do not exist are skipped.
    """
    themes: dict[str, Theme] = {}
    problems: list[str] = []
    for folder in folders:
        for path in sorted(folder.glob("*.toml")):
            try:
                theme = read_theme(path)
            except ConfigError as error:
                problems.append(str(error))
            else:
                themes[theme.name] = theme
    return list(themes.values()), problems
