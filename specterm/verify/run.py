"""Every check, one after the other, on an engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from specterm import catalogue
from specterm.bench.watching import Watched, watch
from specterm.config import to_data
from specterm.engine.job import Job
from specterm.events import Event, Loaded
from specterm.verify.law import LawChecks
from specterm.verify.outputs import OutputChecks
from specterm.verify.plan import Check, VerifySpec, checks, law_checks, pairs
from specterm.verify.ports import Verifies
from specterm.verify.result import CheckResult, Models, Verification


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` checks of `total`, and of the next one the `share` that is done."""

    done: int
    total: int
    doing: str
    share: float = 0.0


def verify(
    engine: Verifies,
    spec: VerifySpec,
    progress: Callable[[Progress], None],
    keep: Callable[[CheckResult], None] = lambda result: None,
    observe: Callable[[Event], None] = lambda event: None,
    begin: Callable[[Job], None] = lambda job: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Verification:
    """Load the models of `spec` and run its checks; `keep` gets each result as it comes, `observe` the events of the
    load. An interrupt, or `cancelled` becoming true, ends it with the results there are; `begin` gets the load's job.

    Raises:
        ConfigError: see `checks`.
        SpectermError: the models cannot be loaded, or a run fails.
    """
    verification = Verification()
    runs = pairs(spec)  # what cannot be is told before anything is loaded
    job = engine.load(runs[0].model)
    begin(job)
    loading = watch(job, observe)
    if loading.interrupted:
        verification.interrupted = True
        return verification
    loading.raise_failure()
    verification.models = _models(loading)
    found = checks(spec, verification.models.dtype)
    tests = _Tests(engine, found, verification.models.dtype)
    try:
        for done, check in enumerate(found):
            doing = f"{check.spec.method.label}, {', '.join(check.rules)}: {check.kind}"
            tell = _Teller(Progress(done, len(found), doing), progress, cancelled)
            tell(0.0)
            verification.results.append(tests.result(check, tell))
            keep(verification.results[-1])
        verification.complete = True
        progress(Progress(len(found), len(found), "done"))
    except KeyboardInterrupt:
        verification.interrupted = True
    return verification


@dataclass(frozen=True, slots=True)
class _Teller:
    """Tells the share that is done of a check, and ends it where that was asked for."""

    at: Progress
    progress: Callable[[Progress], None]
    cancelled: Callable[[], bool]

    def __call__(self, share: float) -> None:
        self.progress(replace(self.at, share=share))
        if self.cancelled():
            raise KeyboardInterrupt


class _Tests:
    """The checks with what they share."""

    def __init__(self, engine: Verifies, found: list[Check], dtype: str) -> None:
        self._outputs = OutputChecks(engine, dtype)
        self._laws = LawChecks(engine, law_checks(found), dtype)

    def result(self, check: Check, tell: Callable[[float], None]) -> CheckResult:
        """Run one check."""
        began = time.perf_counter()
        begun = _begun(check)
        if check.untested:
            return msgspec.structs.replace(begun, note=check.untested)
        self._laws.tell = tell
        match check.kind:
            case "greedy":
                result = self._outputs.greedy(check.spec, begun)
            case "seeds":
                result = self._outputs.seeds(check.spec, begun)
            case "law":
                result = self._laws.law(check.spec, check.others, begun)
            case "distance":
                result = self._laws.distance(check.spec, begun)
        return msgspec.structs.replace(result, seconds=time.perf_counter() - began)


def _begun(check: Check) -> CheckResult:
    """A result without one."""
    rule = catalogue.rule(check.rules[0])
    lossless = bool(catalogue.lossless(to_data(check.spec)))
    return CheckResult(
        method=check.spec.method.label,
        acceptance=check.rules,
        check=check.kind,
        lossless=lossless,
        lossless_reason=rule.reason(lossless),
        result="not_tested",
    )


def _models(loading: Watched) -> Models:
    loaded = next(event for event in loading.events if isinstance(event, Loaded))
    return Models(
        target=loaded.target.name,
        drafts=tuple(draft.name for draft in loaded.drafts),
        heads=dict(loaded.heads),
        dtype=loaded.target.dtype,
        device=loaded.target.device_name or loaded.target.device,
    )
