"""Heads that draft from the target's hidden states: their modules, and the readers of their published checkpoints.

`READERS` maps the kinds of `catalogue.HEADS` to what reads them from a folder, for a target.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from specterm.decoding.ports import Runner
from specterm.models.heads.eagle import read_eagle
from specterm.models.heads.eagle3 import read_eagle3
from specterm.models.heads.medusa import read_medusa
from specterm.models.heads.mlp import read_mlp

READERS: dict[str, Callable[[Path, Runner], Any]] = {
    "medusa": read_medusa,
    "eagle": read_eagle,
    "eagle3": read_eagle3,
    "mlp": read_mlp,
}
