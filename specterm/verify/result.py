"""What verification finds: plain data for the terminal, for JSON and for the screen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import msgspec

from specterm.errors import ExitCode
from specterm.verify.plan import Kind

Result: TypeAlias = Literal["identical", "near_tie", "same_law", "different", "measured", "not_tested"]
"""identical: token for token; near_tie: what differs ties under the target; same_law: chance explains the differences;
different: it is refuted; measured: a lossy rule, of which only the distance is told; not_tested: see `note`."""

PROVED: tuple[Result, ...] = ("identical", "near_tie", "same_law")


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Where two outputs part. position: of the token in the output, from 0. gap: how far the logit of the token that
    speculation gave is below the target's highest there; None where tokens are sampled."""

    prompt_id: str
    position: int
    expected: int | None
    expected_text: str
    found: int | None
    found_text: str
    gap: float | None = None


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one check. Counts are of draft tokens; what was not measured is None.

    statistic, freedom, critical, p_value, rows: of the chi-square test. total_variation: over its bins, between what
    came out and the target's own law; chance_variation: what chance alone shows in so many rows.
    log_probability_change: mean over tokens of the target's log-probability (before temperature and truncation), less
    that of naive's tokens; log_probability_error: its standard error.
    """

    method: str
    acceptance: tuple[str, ...]
    check: Kind
    lossless: bool
    lossless_reason: str
    result: Result
    note: str = ""
    drafted: int | None = None
    accepted: int | None = None
    rejected: int | None = None
    difference: Difference | None = None
    statistic: float | None = None
    freedom: int | None = None
    critical: float | None = None
    p_value: float | None = None
    rows: int | None = None
    total_variation: float | None = None
    chance_variation: float | None = None
    log_probability_change: float | None = None
    log_probability_error: float | None = None
    seconds: float | None = None


def counted(begun: CheckResult, result: Result, drafted: int, accepted: int, rejected: int) -> CheckResult:
    """`begun` with counts and `result`; nothing is proved where nothing was drafted, kept or refused, and nothing is
    measured where nothing was kept."""
    note, counts = "", {"drafted": drafted, "accepted": accepted, "rejected": rejected}
    needed = {"different": (), "measured": ("drafted", "accepted")}.get(result, tuple(counts))
    lacking = next((name for name in needed if not counts[name]), None)
    if lacking is not None:
        result, note = "not_tested", f"nothing was {lacking}"
    return msgspec.structs.replace(begun, result=result, note=note, **counts)


class Models(msgspec.Struct, frozen=True, kw_only=True):
    """What was verified, as loaded."""

    target: str
    drafts: tuple[str, ...]
    heads: dict[str, str]
    dtype: str
    device: str


@dataclass(slots=True)
class Verification:
    """Every result, and how it ended."""

    results: list[CheckResult] = field(default_factory=list)
    models: Models | None = None
    complete: bool = False
    interrupted: bool = False

    def count(self, *kinds: Result) -> int:
        """How many results are of these kinds."""
        return sum(result.result in kinds for result in self.results)

    @property
    def exit_code(self) -> ExitCode:
        """INTERRUPTED; RUN_FAILED where something is refuted, or nothing at all could be tested; or OK."""
        if self.interrupted:
            return ExitCode.INTERRUPTED
        nothing = not self.count(*PROVED, "measured")
        return ExitCode.RUN_FAILED if self.count("different") or nothing else ExitCode.OK
