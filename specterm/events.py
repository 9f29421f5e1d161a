"""The vocabulary of the stream: everything above the decode loop sees these events and nothing else.

A *run* decodes any number of prompts with one spec; each prompt is a *row*. Decoding goes in *rounds*: a drafter
proposes a tree of draft tokens below the row's last token (the *root*), the target judges them in one forward pass,
and the row emits the accepted path and one token of the target's own.

A node of the tree ends in one state:

* ``accepted``: judged by the target and kept;
* ``rejected``: judged by the target and refused;
* ``unused``: behind a rejection or off the taken path, never judged;
* ``cut``: accepted, but beyond an end-of-sequence token, a stop string or the length limit.

An emitted token has one origin:

* ``accepted``: a draft token that was kept;
* ``correction``: the target's token where every draft token was refused;
* ``bonus``: the target's token after a fully accepted draft;
* ``plain``: there was no draft (naive decoding, the prefill's token, a round with an empty tree).

``p`` is the target's probability of a token, ``q`` the drafter's; both are those that decided. ``confidence`` is the
drafter's own score where the rule takes the drafted tokens as given (q = 1). They are None where they are not known or
not recorded. Times are seconds on one monotonic clock, counted from the start of the run. Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, TypeAlias

NodeState: TypeAlias = Literal["accepted", "rejected", "unused", "cut"]
Origin: TypeAlias = Literal["plain", "accepted", "correction", "bonus"]
FinishReason: TypeAlias = Literal["eos", "stop", "length", "context", "cancelled", "error"]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A loaded model, as it really is (not as it was asked for).

    format_s: the number formats that were tried where "auto" had a choice, with the seconds of a few passes through the
    model's first layer in each; else None.
    """

    name: str
    path: str
    architecture: str
    runner: str  # "fused llama", "transformers"
    device: str
    device_name: str
    dtype: str
    quantization: str | None
    parameters: int
    weight_bytes: int
    vocab_size: int
    max_positions: int
    chat_template: bool
    kv_token_bytes: int | None = None  # of its KV cache, for one token of one row
    format_s: dict[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """Measured costs, in seconds: target forwards by number of tokens, and one step of each draft model.

    drafts_together_s: a step of all draft models in threads of their own, where there are several on a CPU. threads:
    how many of torch's threads computed, which is how many decode.
    """

    target_forward_s: dict[int, float]
    draft_step_s: tuple[float, ...]
    context_tokens: int
    drafts_together_s: float | None = None
    threads: int | None = None

    def forward_s(self, tokens: int) -> float:
        """The cost of a target forward of `tokens` tokens: between the calibrated widths by straight lines, beyond the
        last one by its last slope."""
        known = sorted(self.target_forward_s.items())
        if len(known) == 1:
            return known[0][1]
        for (low, low_s), (high, high_s) in pairwise(known):
            if tokens <= high or high == known[-1][0]:
                return max(low_s, low_s + (high_s - low_s) * (tokens - low) / (high - low))
        raise AssertionError("the last pair always matches")


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """A model is being loaded; `fraction` is None where it cannot be known."""

    time: float
    stage: str
    fraction: float | None


@dataclass(frozen=True, slots=True)
class Loaded:
    """The models are ready. `drafts` is in the order in which they were named.

    heads: what was loaded of each kind of `catalogue.HEADS`; head_bytes: bytes of their weights, without those
    that they share with the target.
    """

    time: float
    target: ModelInfo
    drafts: tuple[ModelInfo, ...]
    calibration: Calibration | None
    heads: dict[str, str] = field(default_factory=dict)
    head_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The first event of a run: the exact spec and the environment, as plain data. The spec's `chat` is whether the
    prompts went through a chat template, not whether they were to."""

    run_id: str
    started_at: str  # ISO 8601, UTC
    spec: dict[str, Any]
    environment: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RowStarted:
    """A prompt got a place in the batch. `seed` is the one its random numbers derive from."""

    time: float
    row: int
    slot: int
    prompt_id: str
    repeat: int
    seed: int
    prompt: str
    prompt_ids: tuple[int, ...]
    arrived_at: float
    admitted_at: float


@dataclass(frozen=True, slots=True)
class EmittedToken:
    """One token of the output. `text` is what it adds: a character split over tokens belongs to its last token, and
    text that may yet become a stop string belongs to the token that settles it."""

    id: int
    text: str
    origin: Origin
    p: float | None = None


@dataclass(frozen=True, slots=True)
class Prefilled:
    """A row's prompt went through the target. `token` is token one: it belongs to no round, and is None only when
    nothing was to be generated.

    reused_tokens: at the beginning of the prompt, of which the target had kept the keys and values; drafts_reused:
    likewise of each model that drafts from a cache of its own, None where nobody asked or the drafter cannot say.
    """

    time: float
    row: int
    prompt_tokens: int
    reused_tokens: int
    seconds: float
    device_s: float | None
    token: EmittedToken | None
    drafts_reused: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One entry of a top-k list."""

    id: int
    text: str
    probability: float


@dataclass(frozen=True, slots=True)
class Alternatives:
    """What the target and the drafter would have said after one node (or after the root), most likely first."""

    target: tuple[Candidate, ...]
    drafter: tuple[Candidate, ...] | None


@dataclass(frozen=True, slots=True)
class RowRound:
    """One row's part in a round. Node i has token `tokens[i]` and parent node `parents[i]` (-1: the root).

    `texts`, `p`, `q`, `confidence` and `sources` run parallel to `tokens`; they are None at trace level "counts", but
    for the `sources` of methods with several drafters: bit masks, in which bit d is set when drafter d proposed the
    node. `alternatives` has one entry for the root, then one a node, at trace level "alternatives" only. `emitted` ends
    with the target's own token, unless an accepted token ended the row.
    """

    row: int
    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    states: tuple[NodeState, ...]
    emitted: tuple[EmittedToken, ...]
    texts: tuple[str, ...] | None = None
    p: tuple[float | None, ...] | None = None
    q: tuple[float | None, ...] | None = None
    confidence: tuple[float | None, ...] | None = None
    sources: tuple[int, ...] | None = None
    alternatives: tuple[Alternatives, ...] | None = None

    @property
    def refused(self) -> tuple[int, ...]:
        """The nodes that the target's own token stands in place of: rejected, and no sibling of theirs was kept."""
        nodes = tuple(zip(self.parents, self.states, strict=True))
        went_on = {parent for parent, state in nodes if state in ("accepted", "cut")}
        return tuple(i for i, (parent, state) in enumerate(nodes) if state == "rejected" and parent not in went_on)


@dataclass(frozen=True, slots=True)
class Round:
    """One round of the whole batch. `time` is its end; where a few rounds were done together that is some milliseconds
    before it is told, and other events may have come since. The host seconds of its parts add up to its duration: from
    the end of the last round, or of the prefill in between.

    `verify_s` is the target's forward pass, `sampling_s` the rule's judgement up to the one copy to the host (None: it
    is part of `verify_s`), `other_s` the rest, with what those who read the last event took. `device_s` is the time the
    device was busy, where it has timers; elsewhere None.
    """

    time: float
    index: int
    draft_s: float
    verify_s: float
    other_s: float
    device_s: float | None
    rows: tuple[RowRound, ...]
    sampling_s: float | None = None

    @property
    def seconds(self) -> float:
        """Host seconds of the whole round."""
        return self.draft_s + self.verify_s + (self.sampling_s or 0.0) + self.other_s


@dataclass(frozen=True, slots=True)
class DeviceReading:
    """What one device reported. None means that it does not report it; nothing is estimated.

    `device` is "gpu:0", "gpu:1", ... or "cpu". `energy_j` is a running counter with an arbitrary start.
    `power_source` says where `power_w` comes from ("nvml instant", "nvml average", "rapl"), `scope` what it covers
    ("gpu", "module", "package", "shared gpu").
    """

    device: str
    name: str
    utilization: float | None = None  # 0 to 1
    memory_used: int | None = None  # bytes
    memory_total: int | None = None  # bytes
    power_w: float | None = None
    power_limit_w: float | None = None
    energy_j: float | None = None
    power_source: str | None = None
    scope: str | None = None
    temperature_c: float | None = None
    clock_mhz: float | None = None
    throttled: bool | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """Readings of all devices at one time."""

    time: float
    readings: tuple[DeviceReading, ...]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a person should know, and what to do about it."""

    time: float
    level: Literal["info", "warning", "error"]
    text: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class TimeShares:
    """Where the host seconds of one row went, from its arrival to its end; they add up to its latency.

    prefill_s: of its own prompt, through the target and the drafter. draft_s, verify_s, sampling_s: of the rounds that
    it took part in, in full (see `Round`). wait_s: for a place in the batch, and for the prefills of other rows.
    other_s: bookkeeping, and those who read the events.
    """

    prefill_s: float
    draft_s: float
    verify_s: float
    sampling_s: float
    other_s: float
    wait_s: float


@dataclass(frozen=True, slots=True)
class RowFinished:
    """A row ended. `text` and `token_ids` are the output; a stop string is in neither, an end-of-sequence token is in
    `token_ids` only. Tokens emitted earlier beyond `token_ids` were cut by a stop string. `shares` is None where nobody
    measured them."""

    time: float
    row: int
    reason: FinishReason
    text: str
    token_ids: tuple[int, ...]
    shares: TimeShares | None = None


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The last event of a run or of a load. `error` is one line for a person, also where a recorded run breaks off;
    `exit_code` is what it would return."""

    time: float
    reason: Literal["done", "cancelled", "failed"]
    error: str | None = None
    exit_code: int = 0


Event: TypeAlias = (
    LoadProgress | Loaded | RunStarted | RowStarted | Prefilled | Round | Sample | Notice | RowFinished | RunFinished
)
