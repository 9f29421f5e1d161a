"""The one place where the stream is counted; definitions of the figures stand at the door of the package."""

from __future__ import annotations

from typing import TypeAlias

from specterm.events import Prefilled, Round, RowRound

Figure: TypeAlias = int | float | str | list[float | None] | None

METRICS: tuple[str, ...] = (
    "ttft_s",
    "tpot_s",
    "latency_s",
    "throughput_tok_s",
    "prompt_tokens",
    "reused_tokens",
    "output_tokens",
    "total_tokens",
    "rounds",
    "target_passes",
    "drafted",
    "accepted",
    "rejected",
    "corrections",
    "bonuses",
    "tree_nodes",
    "branching_factor",
    "tree_efficiency",
    "draft_acceptance_rate",
    "mean_acceptance_length",
    "accepted_per_draft",
    "per_position_acceptance",
    "per_drafter_acceptance",
    "token_wastage",
    "overhead",
    "efficiency_gain",
    "prefill_time_s",
    "draft_time_s",
    "verify_time_s",
    "sampling_time_s",
    "other_time_s",
    "wait_time_s",
    "speedup",
    "repetition",
    "energy_j",
    "prefill_energy_j",
    "joules_per_token",
    "energy_source",
    "power_avg_w",
    "power_peak_w",
    "gpu_util_avg",
    "gpu_mem_avg",
    "gpu_temp_peak_c",
)

ROUND_TIMES = ("draft_time_s", "verify_time_s", "sampling_time_s", "other_time_s")
"""The figures that add up to the time of the rounds."""


class RowCounter:
    """Counts what happened to one row, or to all rows of a job together (then `rounds` are row-rounds)."""

    def __init__(self) -> None:
        self.prompt_tokens = 0
        self.reused_tokens = 0
        self.first_tokens = 0
        self.output_tokens = 0
        self.rounds = 0
        self.drafted_rounds = 0
        self.drafted = 0
        self.accepted = 0
        self.rejected = 0
        self.corrections = 0
        self.bonuses = 0
        self.draft_s = 0.0
        self.verify_s = 0.0
        self.sampling_s: float | None = None
        self.other_s = 0.0
        self._expanded_nodes = 0
        self._branched = False
        self._accepted_at: list[int] = []
        self._by_drafter: list[tuple[int, int]] = []  # (drafted, accepted)

    def prefill(self, event: Prefilled) -> None:
        """Count a prefill and the token that it carries."""
        self.prompt_tokens += event.prompt_tokens
        self.reused_tokens += event.reused_tokens
        if event.token is not None:
            self.first_tokens += 1
            self.output_tokens += 1

    def time_round(self, event: Round) -> None:
        """Count the seconds of a round."""
        self.draft_s += event.draft_s
        self.verify_s += event.verify_s
        if event.sampling_s is not None:
            self.sampling_s = (self.sampling_s or 0.0) + event.sampling_s
        self.other_s += event.other_s

    def round(self, row: RowRound) -> None:
        """Count a row's part in a round. Parents come before their children."""
        self.rounds += 1
        self.output_tokens += len(row.emitted)
        for token in row.emitted:
            self.corrections += token.origin == "correction"
            self.bonuses += token.origin == "bonus"
        if not row.tokens:
            return
        self.drafted_rounds += 1
        self.drafted += len(row.tokens)
        expanded = len(set(row.parents))
        self._expanded_nodes += expanded
        self._branched = self._branched or expanded < len(row.tokens)
        depths: list[int] = []
        for node, (parent, state) in enumerate(zip(row.parents, row.states, strict=True)):
            depth = 0 if parent < 0 else depths[parent] + 1
            depths.append(depth)
            if depth == len(self._accepted_at):
                self._accepted_at.append(0)
            accepted = state == "accepted"
            self.accepted += accepted
            self._accepted_at[depth] += accepted
            self.rejected += state == "rejected"
            if row.sources is not None:
                self._credit(row.sources[node], accepted)

    def _credit(self, mask: int, accepted: bool) -> None:
        while len(self._by_drafter) < mask.bit_length():
            self._by_drafter.append((0, 0))
        for drafter, (drafted, kept) in enumerate(self._by_drafter):
            if mask >> drafter & 1:
                self._by_drafter[drafter] = (drafted + 1, kept + accepted)

    def cut(self, tokens: int) -> None:
        """Take back `tokens` emitted tokens that a stop string cut from the output."""
        self.output_tokens -= tokens

    def figures(self, ttft_s: float | None, latency_s: float | None) -> dict[str, Figure]:
        """Every figure; those that counts and these two times do not settle are None."""
        tokens = self.output_tokens
        rate = ratio(self.accepted, self.drafted)
        per_draft = ratio(self.accepted, self.drafted_rounds)
        passes = self.rounds + self.first_tokens
        told: dict[str, Figure] = {
            "ttft_s": ttft_s,
            "tpot_s": None if ttft_s is None or latency_s is None else ratio(latency_s - ttft_s, tokens - 1),
            "latency_s": latency_s,
            "throughput_tok_s": ratio(tokens, latency_s) if tokens else None,
            "prompt_tokens": self.prompt_tokens,
            "reused_tokens": self.reused_tokens,
            "output_tokens": tokens,
            "total_tokens": self.prompt_tokens + tokens,
            "rounds": self.rounds,
            "target_passes": passes,
            "drafted": self.drafted,
            "accepted": self.accepted,
            "rejected": self.rejected,
            "corrections": self.corrections,
            "bonuses": self.bonuses,
            "draft_acceptance_rate": rate,
            "mean_acceptance_length": ratio(max(tokens - self.first_tokens, 0), self.rounds),
            "accepted_per_draft": None if per_draft is None else 1 + per_draft,
            "per_position_acceptance": [n / self.drafted_rounds for n in self._accepted_at] or None,
            "per_drafter_acceptance": [ratio(kept, drafted) for drafted, kept in self._by_drafter] or None,
            "token_wastage": None if rate is None else 1 - rate,
            "efficiency_gain": 1 - passes / tokens if tokens else None,
            "draft_time_s": self.draft_s,
            "verify_time_s": self.verify_s,
            "sampling_time_s": self.sampling_s,
            "other_time_s": self.other_s,
        }
        if self._branched:
            told["tree_nodes"] = ratio(self.drafted, self.drafted_rounds)
            told["branching_factor"] = ratio(self.drafted, self._expanded_nodes)
            told["tree_efficiency"] = rate
        return {name: told.get(name) for name in METRICS}


def ratio(numerator: float, denominator: float | None) -> float | None:
    """The quotient; None where the denominator is not above zero or not known."""
    return numerator / denominator if denominator is not None and denominator > 0 else None
