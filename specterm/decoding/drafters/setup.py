"""What a drafter is built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from specterm.decoding.adaptive import AdaptiveLength
from specterm.decoding.drafters.memory import DraftMemory
from specterm.decoding.ports import Drafter, Recording, Runner
from specterm.decoding.sampling import Warps
from specterm.events import Calibration


@dataclass(frozen=True, slots=True)
class DraftSetup:
    """Everything that a drafter may build on; each takes what it needs.

    warps: the target's. parameters: the method's, checked by the catalogue. memory: what it may keep from run to run.
    costs: measured when the models were loaded; None where nobody measured. heads: the target's, by kind (see
    `catalogue.Method.heads`).
    """

    target: Runner
    drafts: tuple[Runner, ...]
    warps: Warps
    record: Recording
    parameters: Mapping[str, Any]
    memory: DraftMemory
    costs: Calibration | None = None
    heads: Mapping[str, Any] = field(default_factory=dict)


def adaptive_length(setup: DraftSetup, drafter: Drafter) -> AdaptiveLength | None:
    """What chooses the rounds' lengths for `drafter`; None where it is not asked for."""
    if not setup.parameters.get("adaptive"):
        return None
    return AdaptiveLength(drafter.max_depth, drafter.max_nodes, setup.costs, len(setup.drafts))
