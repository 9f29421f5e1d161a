"""Methods from outside the package: each is one `Plugin` object, found by name and entered into `METHODS`, so that the
command line, plan files and panels treat it like any other.

A plug-in is named by a reference, `FILE.py:NAME` or `MODULE:NAME`, which stays its name in every spec; or an installed
package offers it as an entry point of the group `specterm.drafters`, whose name is the method's. Looking a plug-in up
runs its code.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from specterm.catalogue.methods import HEADS, METHODS, Method
from specterm.catalogue.parameter import Parameter
from specterm.errors import ConfigError, one_line

GROUP = "specterm.drafters"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_CALLERS = {Path(importlib.__file__).parent, Path(__file__).parents[1]}  # of the code in question, and not it


@dataclass(frozen=True, slots=True)
class Plugin:
    """A method and how to build its drafter: `build` takes a `DraftSetup` and returns a `Drafter`."""

    method: Method
    build: Callable[[Any], Any]


PLUGINS: dict[str, Plugin] = {}
"""The plug-ins that are loaded, by their names in `METHODS`."""

BROKEN: dict[str, ConfigError] = {}
"""The entry points that cannot be used, by name, and why."""


def find_plugin(name: str) -> None:
    """Enter the plug-in called `name` into `METHODS`, if there is one.

    Raises:
        ConfigError: it is a reference and cannot be loaded, or an entry point and broken; the text says what to mend.
    """
    if ":" in name:
        _enter(name, _referenced(name), f"--method {name}")
        return
    discover()
    if name in BROKEN:
        raise BROKEN[name]


@functools.cache
def discover() -> None:
    """Enter what installed packages offer into `METHODS`; what is wrong with one of them stands in `BROKEN`."""
    from importlib.metadata import entry_points

    for point in entry_points(group=GROUP):
        package = "an unknown package" if point.dist is None else point.dist.name
        told = f"the drafter {point.name!r} of {package}"
        try:
            try:
                found = point.load()
            except (Exception, SystemExit) as error:
                raise ConfigError(f"{told} cannot be imported: {told_with_place(error)}") from None
            if isinstance(found, Plugin) and found.method.name != point.name:
                raise ConfigError(
                    f"{told} calls its method {found.method.name!r}; give entry point and method one name"
                )
            _enter(point.name, found, told)
        except ConfigError as error:
            BROKEN[point.name] = error


def told_with_place(error: BaseException) -> str:
    """The error of somebody else's code in one line, with the file and the line that raised it."""
    text = type(error).__name__
    if (said := one_line(error)) != text:
        text += f": {said}"
    files = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    where = [(path, line) for path, line in files if path.suffix == ".py" and not _CALLERS & {*path.parents}]
    return f"{text} ({where[-1][0].name}:{where[-1][1]})" if where else text


def _referenced(reference: str) -> Any:
    """The object that a reference names."""
    place, _, attribute = reference.rpartition(":")
    if not place or not attribute:
        raise ConfigError(f"--method is {reference!r}; a drafter of your own is named FILE.py:NAME or MODULE:NAME")
    path = Path(place).expanduser().resolve() if place.endswith(".py") else None
    if path is not None and not path.is_file():
        raise ConfigError(f"--method {reference}: there is no file {place}")
    try:
        module = importlib.import_module(place) if path is None else _from_file(path)
    except (Exception, SystemExit) as error:  # the code may do whatever it likes
        missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
        if path is None and missing is not None and f"{place}.".startswith(f"{missing}."):
            raise ConfigError(
                f"--method {reference}: there is no module {missing}; install it, or name its file: FILE.py:NAME"
            ) from None
        raise ConfigError(f"--method {reference}: {place} cannot be imported: {told_with_place(error)}") from None
    if not hasattr(module, attribute):
        there = ", ".join(name for name, value in vars(module).items() if isinstance(value, Plugin))
        raise ConfigError(
            f"--method {reference}: {place} has no {attribute}; "
            + (f"it has {there}" if there else f"add {attribute} = specterm.plugins.Plugin(...)")
        )
    return getattr(module, attribute)


def _from_file(path: Path) -> ModuleType:
    """The module in a file (its path resolved), imported once."""
    name = f"specterm_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None, "its name ends with .py"
        assert spec.loader is not None, "its name ends with .py"
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _enter(name: str, found: Any, told: str) -> None:
    """Check a plug-in and enter it under `name`; `told` begins what is said of it."""
    if not isinstance(found, Plugin):
        raise ConfigError(f"{told} is of type {type(found).__name__}; it must be a specterm.plugins.Plugin")
    if not isinstance(found.method, Method) or not callable(found.build):
        raise ConfigError(f"{told}: a Plugin has a Method and a callable that builds its drafter")
    method = found.method
    if not _NAME.fullmatch(method.name):
        raise ConfigError(f"{told} calls its method {method.name!r}; use letters, digits, dots and dashes")
    if any(method.name == own for own in METHODS if own not in PLUGINS) or name in METHODS:
        raise ConfigError(f"{told} calls its method {method.name!r}, as another method is called; choose another name")
    if method.heads and method.heads not in HEADS:
        raise ConfigError(f"{told} needs heads of the kind {method.heads!r}; there are {', '.join(HEADS)}")
    _check_parameters(method, told)
    METHODS[name] = method
    PLUGINS[name] = found


def _check_parameters(method: Method, told: str) -> None:
    """Parameters must be consistent, and given in the same way as another method's of the same name: they share a flag
    of the command line."""
    kinds = {p.name: p.kind for other in METHODS.values() for p in other.parameters}
    names = [getattr(parameter, "name", "") for parameter in method.parameters]
    for parameter in method.parameters:
        if not isinstance(parameter, Parameter) or not re.fullmatch(r"[a-z][a-z0-9_]*", parameter.name):
            raise ConfigError(
                f"{told} has the parameter {parameter!r}; give Parameter objects with names in snake_case"
            )
        if names.count(parameter.name) > 1:
            raise ConfigError(f"{told} has two parameters {parameter.name!r}; keep one")
        others = (parameter.at_most, parameter.needs[0] if parameter.needs else "")
        if missing := next((other for other in others if other and other not in names), ""):
            raise ConfigError(f"{told}: its parameter {parameter.name!r} refers to {missing!r}, which it has not")
        kind = kinds.get(parameter.name, parameter.kind)
        if kind != parameter.kind and {kind, parameter.kind} & {"bool", "texts"}:
            raise ConfigError(
                f"{told} has a parameter {parameter.name!r} of kind {parameter.kind}, and other methods have one of "
                f"kind {kind}; rename it"
            )
        try:
            parameter.check(parameter.default)
        except ConfigError as error:
            raise ConfigError(f"{told}: the default of {parameter.name!r} is bad: {error}") from None
