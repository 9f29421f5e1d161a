"""What strides are told and tell, see `striding`: rounds of one row that a target does in one piece."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from specterm.decoding.ports import LanguageModel
from specterm.decoding.sampling import Warps


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a model's drafts of the next rounds of a row begin with.

    pending: true tokens that are still to be written to its slots, from `start` on, `widest` at most whatever happens
    in a round. shared: its cache is the target's, which writes all true tokens but for the root.
    """

    model: LanguageModel
    start: int
    pending: Sequence[int]
    widest: int
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Lookup:
    """What the drafts of the next rounds of a row are looked up in: the text, int64, and the longest and shortest of
    its ends that are looked up, in tokens. Each token is what followed such an end the last time."""

    text: array[int]
    longest: int
    shortest: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How many paths go on and how many nodes are verified, by what is known of costs; see `CalibratedBudget`.

    right: tokens kept for each that is promised. path: see `Gate`. worths: the tokens that a level more must bring,
    behind so many. draft_s: seconds of so many levels. sizes: the numbers of nodes that are weighed, rising; pass_s:
    seconds of the target's pass over a root and so many.
    """

    right: float
    path: float
    worths: Sequence[float]
    draft_s: Sequence[float]
    pass_s: Sequence[float]
    sizes: Sequence[int]


@dataclass(frozen=True, slots=True)
class Drafting:
    """How the drafts of the next rounds of a row are made, where the drafter need not be asked.

    Without models they are looked up, if there is a `lookup`, or there are none. Otherwise each model makes beams of
    `width` paths, or where that is 1 a chain, of `depth` tokens; several models', and beams, make one tree, of which
    `most` nodes are verified, or as many as `plan` says. rounds: how many there is room for. least: see `Chains`, of
    one greedy chain. warps: what chains are drawn by.
    """

    models: Sequence[Ahead] = ()
    width: int = 1
    depth: int = 0
    most: int = 0
    tree: bool = False
    rounds: int = 1 << 30
    least: float = 0.0
    warps: Warps = Warps(temperature=0.0)
    plan: Plan | None = None
    lookup: Lookup | None = None


class Grown(NamedTuple):
    """What is known of the tree of a step: the parents of its nodes (-1: the root), bits for the models that proposed
    each, the levels that all models made, the expected rate, in tokens a second, the sum of the scores of its nodes,
    and how many true tokens of its chain each model has written."""

    parents: tuple[int, ...]
    sources: tuple[int, ...]
    levels: int
    rate: float
    promised: float
    in_place: tuple[int, ...]


class Recorded(NamedTuple):
    """What is recorded of a step: the target's probability of each node and of the token behind those that are kept,
    the drafter's where nodes were drawn by it, and its confidence where they are fixed; see `readback.Outcome`."""

    p: tuple[float, ...]
    next_p: float
    q: tuple[float, ...] | None = None
    confidence: tuple[float, ...] | None = None


class Step(NamedTuple):
    """A round of a stride: its draft tokens, the nodes that are kept, from 1, the token behind those, and the seconds
    that drafting, the target's pass and the verdict took."""

    tokens: tuple[int, ...]
    path: Sequence[int]
    next_token: int
    draft_s: float
    verify_s: float
    sampling_s: float
    grown: Grown | None = None
    recorded: Recorded | None = None

    @property
    def seconds(self) -> float:
        """Of all its parts."""
        return self.draft_s + self.verify_s + self.sampling_s


@runtime_checkable
class Strides(Protocol):
    """What a target may offer besides `Runner`, where the host computes: rounds of one row in one piece."""

    def ready(self, drafts: Sequence[LanguageModel]) -> None:
        """Make what strides without drafts, with lookups, with chains of the first of `drafts` and, where there are
        several, with trees of them all need: the first run would wait for it otherwise."""

    def stride(
        self, row: int, start: int, root: int, rounds: int, drafting: Drafting, warps: Warps, key: int, first: int,
        ends: tuple[int, ...], record: bool,
    ) -> list[Step] | None:  # fmt: skip
        """Up to `rounds` rounds by the exact rule, the first from `root` on, which goes to slot `start`. key: of the
        row's random numbers; first: the number of the first round. The last round is that which emits one of `ends`.
        record: whether probabilities are told. None where that is not possible, and nothing was done."""


@runtime_checkable
class Strider(Protocol):
    """What a drafter may offer besides `Drafter`, if what it does can be told beforehand: rounds are done without
    it."""

    def drafting(self, row: int, limit: int) -> Drafting | None:
        """How the row's next drafts are made, none deeper than `limit`; None where more than that has a say in it."""

    def strode(self, row: int, step: Step) -> None:
        """A round was done with such a draft; `catch_up` tells what was kept."""
