"""From what a person typed to a folder with a model: built-in names, folders, hub ids."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

from specterm.catalogue.models import BUILTIN_NAMES
from specterm.errors import ModelError, one_line
from specterm.models.progress import Report, download_bar, unreported

BUILTIN_FOLDER = Path(__file__).parent / "builtin"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_HEAD_FILES = ["config.json", "medusa_lm_head.*", "*.safetensors", "*.safetensors.index.json", "*.bin"]
_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.py", "*.bin"]


def find_folder(name: str, role: Literal["target", "draft"], report: Report = unreported) -> Path:
    """The folder of the model called `name`: "builtin" (by role) or "builtin/...", a folder, or a hub id.

    A hub id is fetched into the Hugging Face cache where it is not there yet; `report` is told of that.

    Raises:
        ModelError: there is no such model; the text says what was tried.
    """
    folder = local_folder(name, role)
    return folder if folder is not None else _with_config(_from_hub(name, _HUB_FILES, report), name)


def local_folder(name: str, role: Literal["target", "draft"]) -> Path | None:
    """The folder of the model called `name`, None for a hub id, which is not looked up.

    Raises:
        ModelError: it is no hub id, and there is no such model.
    """
    if name == "builtin":
        return BUILTIN_FOLDER / role
    if name.startswith("builtin/"):
        if name not in BUILTIN_NAMES:
            raise ModelError(f"there is no built-in model {name!r}; there are {', '.join(BUILTIN_NAMES)}")
        return BUILTIN_FOLDER / name.removeprefix("builtin/")
    folder = _here(name, "model folder", "a model is a folder with config.json, weights and a tokenizer")
    return None if folder is None else _with_config(folder, name)


def _with_config(folder: Path, name: str) -> Path:
    if not (folder / "config.json").is_file():
        raise ModelError(f"the folder {name} holds no model: it has no config.json")
    return folder


def find_heads(name: str, kind: str, report: Report = unreported) -> Path:
    """The folder of the heads called `name`: "builtin" (by `kind`), a folder, or a hub id.

    Raises:
        ModelError: there are no such heads; the text says what was tried.
    """
    if name == "builtin":
        return BUILTIN_FOLDER / kind
    if name.startswith("builtin/"):
        raise ModelError(f"there are no built-in heads {name!r}; 'builtin' names those of the built-in target")
    folder = _here(name, "folder of heads", "heads are a folder with their weights")
    return folder if folder is not None else _from_hub(name, _HEAD_FILES, report)


def _here(name: str, noun: str, shape: str) -> Path | None:
    """The folder that `name` is; None for a hub id."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ModelError(f"{name} is a file; {shape}")
    if name.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(name):
        raise ModelError(f"there is no {noun} {name}; name a folder, a hub id (owner/model) or 'builtin'")
    return None


def _from_hub(name: str, files: list[str], report: Report) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        bar = download_bar(report, f"fetching {name}")
        return Path(snapshot_download(name, allow_patterns=files, tqdm_class=bar))
    except LocalEntryNotFoundError:
        raise ModelError(f"{name} is not a folder here, and the model hub cannot be reached to fetch it") from None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ModelError(f"{name} could not be fetched from the model hub: {one_line(error)}") from None


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model folder.

    Raises:
        ModelError: it is missing or not JSON.
    """
    return read_json(folder / "config.json")


def eos_ids(folder: Path, config: dict[str, Any]) -> frozenset[int]:
    """The end-of-sequence ids: of generation_config.json, else of config.json."""
    path = folder / "generation_config.json"
    found = read_json(path).get("eos_token_id") if path.is_file() else None
    if found is None:
        found = config.get("eos_token_id")
    if found is None:
        return frozenset()
    return frozenset(found if isinstance(found, list) else [found])


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ModelError: the file cannot be read, or holds something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise ModelError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(data, dict):
        raise ModelError(f"{path} holds no JSON object")
    return data
