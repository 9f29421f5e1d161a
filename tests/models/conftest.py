"""Tiny models, saved once a session for each architecture, and copies of their folders to spoil."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import save_pair

Pair = tuple[Path, Path]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Models this small only wait for each other's threads."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def saved_pair(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pair]:
    """The folders of a target and its draft, by kind. Tests that change a folder copy it first."""

    @cache
    def save(kind: str) -> Pair:
        return save_pair(kind, tmp_path_factory.mktemp(kind))

    return save


@pytest.fixture
def spoiled(saved_pair: Callable[[str], Pair], tmp_path: Path) -> Callable[..., Path]:
    """A copy of a target's folder with other entries in its config.json (None: the entry is taken out)."""

    def copy(kind: str = "llama", **entries: Any) -> Path:
        folder = tmp_path / f"{kind}-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(saved_pair(kind)[0], folder)
        config = json.loads((folder / "config.json").read_text()) | entries
        (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
        return folder

    return copy
