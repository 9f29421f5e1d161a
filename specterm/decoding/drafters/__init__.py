"""The ways to draft, one file a family; `DRAFTERS` maps the catalogue's names to their builders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from specterm.decoding.drafters.draft_model import DraftModel
from specterm.decoding.drafters.naive import Naive
from specterm.decoding.ports import Drafter, Recording, Runner
from specterm.decoding.sampling import Warps

Builder = Callable[[Runner, Sequence[Runner], Warps, Recording, Mapping[str, Any]], Drafter]

DRAFTERS: dict[str, Builder] = {"naive": Naive.build, "draft": DraftModel.build}
"""Each builder takes the target, the draft models, the target's warps, what to record and the method's
parameters."""
