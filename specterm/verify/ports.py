"""What verification asks of an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from specterm.bench.comparison import TeacherForces
from specterm.config import RunSpec, SamplingSpec
from specterm.engine.job import Engine


class Drawn(Protocol):
    """See `engine.draws.Draws`."""

    @property
    def outputs(self) -> tuple[tuple[int, ...], ...]: ...
    @property
    def drafted(self) -> int: ...
    @property
    def accepted(self) -> int: ...
    @property
    def rejected(self) -> int: ...


@runtime_checkable
class Verifies(Engine, TeacherForces, Protocol):
    """An engine whose loaded models can be asked for many rows, and for the target's own law. What it is asked fails
    with a `SpectermError`."""

    def draws(self, spec: RunSpec, prompt: str, seeds: Sequence[int], first: int | None = None) -> Drawn:
        """See `Session.draws`."""

    def beginnings(
        self, sampling: SamplingSpec, prompt: str, first: int | None, longest: int, count: int
    ) -> tuple[int, Mapping[tuple[int, ...], float]]:
        """See `Session.beginnings`."""

    def log_likelihoods(
        self, sampling: SamplingSpec, prompt: str, first: int, outputs: Sequence[tuple[int, ...]]
    ) -> list[float]:
        """See `Session.log_likelihoods`."""
