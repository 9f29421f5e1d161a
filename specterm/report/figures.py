"""How figures are called and written for people, on the console and in Markdown alike."""

from __future__ import annotations

from dataclasses import dataclass

from specterm.metrics import Figure

NOT_MEASURED = "n/a"
_MAX_DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Column:
    """One figure for people: a value times `scale`, with `digits` decimals and a unit."""

    key: str
    title: str
    unit: str = ""
    scale: float = 1.0
    digits: int = 2

    def number(self, value: float) -> str:
        """The value without its unit; small values keep two significant digits."""
        return f"{value * self.scale:,.{self._decimals(value)}f}"

    def _decimals(self, value: float) -> int:
        scaled, decimals = abs(value * self.scale), self.digits
        while decimals and scaled and scaled < 10 ** (1 - decimals) and decimals < _MAX_DECIMALS:
            decimals += 1
        return decimals

    def text(self, value: Figure) -> str:
        """The value with its unit; "n/a" where it was not measured."""
        if value is None:
            return NOT_MEASURED
        if isinstance(value, str):
            return value
        if isinstance(value, list):
            return " ".join(NOT_MEASURED if v is None else self.number(v) for v in value) + self._suffix
        if isinstance(value, int):
            return f"{value:,}" + self._suffix
        return self.number(value) + self._suffix

    def spread(self, mean: float | None, std: float | None) -> str:
        """A mean and its standard deviation, without the unit; "n/a" where there is no mean."""
        if mean is None:
            return NOT_MEASURED
        deviation = "" if std is None else f" ± {std * self.scale:,.{self._decimals(mean)}f}"
        return self.number(mean) + deviation

    @property
    def _suffix(self) -> str:
        return "" if not self.unit else self.unit if self.unit == "×" else " " + self.unit

    @property
    def heading(self) -> str:
        """Title and unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


SUMMARY_KEYS = (
    "speedup",
    "throughput_tok_s",
    "ttft_s",
    "tpot_s",
    "draft_acceptance_rate",
    "mean_acceptance_length",
    "joules_per_token",
)
"""The figures that decide between configurations."""

COLUMNS: tuple[Column, ...] = (
    Column("speedup", "speedup", "×"),
    Column("throughput_tok_s", "throughput", "tok/s", digits=1),
    Column("ttft_s", "TTFT", "ms", 1e3, 1),
    Column("tpot_s", "TPOT", "ms", 1e3),
    Column("latency_s", "latency", "s", digits=3),
    Column("prompt_tokens", "prompt tokens", digits=0),
    Column("output_tokens", "output tokens", digits=0),
    Column("rounds", "rounds", digits=0),
    Column("drafted", "drafted", digits=0),
    Column("accepted", "accepted", digits=0),
    Column("rejected", "rejected", digits=0),
    Column("draft_acceptance_rate", "draft acceptance rate", "%", 100, 1),
    Column("mean_acceptance_length", "mean acceptance length"),
    Column("per_position_acceptance", "per-position acceptance", "%", 100, 0),
    Column("tree_efficiency", "tree efficiency", "%", 100, 1),
    Column("token_wastage", "token wastage", "%", 100, 1),
    Column("overhead", "overhead", "×"),
    Column("efficiency_gain", "efficiency gain", "%", 100, 1),
    Column("prefill_time_s", "prefill", "s", digits=3),
    Column("draft_time_s", "drafting", "s", digits=3),
    Column("verify_time_s", "verifying", "s", digits=3),
    Column("sampling_time_s", "sampling", "s", digits=3),
    Column("other_time_s", "bookkeeping", "s", digits=3),
    Column("wait_time_s", "waiting", "s", digits=3),
    Column("repetition", "repetition", "%", 100, 1),
    Column("joules_per_token", "energy per token", "J", digits=3),
    Column("power_avg_w", "mean power", "W", digits=1),
    Column("gpu_temp_peak_c", "peak temperature", "°C", digits=0),
)
