"""A verification in a thread of its own, and how it stands. The code is that of `--verify`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from specterm.errors import SpectermError
from specterm.tui.one_stop import OneStop
from specterm.verify.plan import VerifySpec
from specterm.verify.ports import Verifies
from specterm.verify.result import CheckResult, Verification
from specterm.verify.run import Progress, verify


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the checks are. `verification` is None until they have ended; `error` says why there is none."""

    progress: Progress | None = None
    results: tuple[CheckResult, ...] = ()
    verification: Verification | None = None
    error: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing is checked any more."""
        return self.verification is not None or self.error is not None


class Verifying:
    """The checks of `spec` on `engine`; `run` blocks, everything else may be read meanwhile."""

    def __init__(self, engine: Verifies, spec: VerifySpec, verify: Callable[..., Verification] = verify) -> None:
        self.spec = spec
        self._engine, self._verify = engine, verify
        self._stop = OneStop()
        self.standing = Standing()

    def run(self) -> None:
        """Check until the end, a failure or a cancel; the last standing says which."""
        try:
            found = self._verify(
                self._engine,
                self.spec,
                self._advance,
                keep=self._keep,
                begin=self._stop.begin,
                cancelled=self._stop.stopped,
            )
            self.standing = replace(self.standing, verification=found)
        except SpectermError as error:
            self.standing = replace(self.standing, error=str(error))

    def cancel(self) -> None:
        """Stop before the next thousand rows, or after the run that is going; the results so far are kept."""
        self._stop.stop()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._stop.stopped()

    def _advance(self, progress: Progress) -> None:
        self.standing = replace(self.standing, progress=progress)

    def _keep(self, result: CheckResult) -> None:
        self.standing = replace(self.standing, results=(*self.standing.results, result))
