"""Models, folders and themes that specterm reads and writes."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import specterm
from specterm.doctor.report import Line
from specterm.locations import config_file, data_folder, themes_folder


def builtin_lines() -> list[Line]:
    """Each model that ships with the package, opened as far as its tensors' shapes."""
    from specterm.catalogue.models import BUILTIN_NAMES
    from specterm.errors import ModelError
    from specterm.models.folders import find_folder

    lines = []
    for name in BUILTIN_NAMES:
        try:
            lines.append(Line(name, "ok", _model(find_folder(name, "target"))))
        except (ModelError, OSError, ValueError) as error:
            lines.append(Line(name, "missing", str(error), "reinstall specterm, or name models with --target, --draft"))
    return lines


def folder_lines() -> list[Line]:
    """The user's folders for configuration and data; neither is made."""
    return [
        describe_folder("configuration", config_file().parent),
        describe_folder("data", data_folder()),
    ]


def theme_lines() -> list[Line]:
    """The themes that ship with specterm, then the user's own."""
    shipped, broken = read_themes(_shipped_themes())
    own, broken_own = read_themes(themes_folder())
    lines = []
    if shipped:
        lines.append(Line("themes", "ok", ", ".join(shipped)))
    else:
        lines.append(Line("themes", "missing", "none found with the package", "reinstall specterm"))
    if own:
        lines.append(Line("own themes", "ok", ", ".join(own)))
    lines += [Line("theme", "note", why, "mend or remove the file") for why in (*broken, *broken_own)]
    return lines


def describe_folder(name: str, folder: Path) -> Line:
    """Whether `folder` is there, or could be made, and can be written to."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        return Line(name, "missing", f"{folder}: {existing} is no folder", f"move {existing} out of the way")
    if not os.access(existing, os.W_OK | os.X_OK):
        return Line(name, "missing", f"{folder} cannot be written", f"give yourself the right to write to {existing}")
    return Line(name, "ok", str(folder) if existing == folder else f"{folder} (made when it is first needed)")


def _model(folder: Path) -> str:
    """A model's architecture and size, from its configuration and the headers of its weights.

    Raises:
        ModelError: the configuration is missing or not JSON.
        ValueError: weights or tokenizer are missing or unreadable.
    """
    from safetensors import SafetensorError, safe_open

    from specterm.models.folders import read_config

    config = read_config(folder)
    if not (folder / "tokenizer.json").is_file():
        raise ValueError(f"{folder} has no tokenizer.json")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ValueError(f"{folder} has no weights (*.safetensors)")
    parameters = 0
    for path in weights:
        try:
            with safe_open(path, framework="np") as tensors:
                for key in tensors.keys():  # noqa: SIM118 (it is no dictionary)
                    count = 1
                    for length in tensors.get_slice(key).get_shape():
                        count *= length
                    parameters += count
        except SafetensorError as error:
            raise ValueError(f"{path} cannot be read: {error}") from None
    architecture = (config.get("architectures") or ["unknown architecture"])[0]
    size = sum(path.stat().st_size for path in weights)
    return f"{architecture}, {parameters / 1e6:.1f} M parameters, {size / 1e6:.1f} MB"


def _shipped_themes() -> Path:
    """In the wheel they lie in the package, in a checkout beside it."""
    package = Path(next(iter(specterm.__path__)))
    packaged = package / "_themes"
    return packaged if packaged.is_dir() else package.parent / "themes"


def read_themes(folder: Path) -> tuple[list[str], list[str]]:
    """The names of the themes in a folder, and what is wrong with the other files."""
    names, broken = [], []
    for path in sorted(folder.glob("*.toml")):
        try:
            name = tomllib.loads(path.read_text(encoding="utf-8")).get("name")
        except (OSError, ValueError) as error:  # TOML's and Unicode's errors are ValueErrors
            broken.append(f"{path.name} cannot be read: {error}")
            continue
        if isinstance(name, str) and name:
            names.append(name)
        else:
            broken.append(f"{path.name} has no name")
    return names, broken
