"""The rules: ways to decide what is accepted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from specterm.catalogue.parameter import Parameter, Value


@dataclass(frozen=True, slots=True)
class Rule:
    """A way to decide what is accepted.

    `why` says why its output follows the target's own (warped) law, `why_not` why it does not; one of the two is empty
    where only the other ever holds. `lossless_at` is a parameter of the rule and the value at which it is lossless.
    Without drafts, and in greedy decoding, where a token is kept if it is the target's likeliest, every rule is
    lossless.
    """

    name: str
    title: str
    summary: str
    why: str
    why_not: str = ""
    lossless_at: tuple[str, Value] | None = None
    methods: tuple[str, ...] = ()  # those that it goes with; none given means all
    method_parameters: tuple[tuple[str, Value], ...] = ()  # values that a method must have where it has the parameter
    needs: str = ""  # why it does not go with the others
    parameters: tuple[Parameter, ...] = ()
    settles: Mapping[str, Value] = field(default_factory=dict)  # sampling parameters that the rule fixes
    fills: Mapping[str, Value] = field(default_factory=dict)  # what it takes where none is given
    preset_of: str = ""  # the rule whose mathematics it is, on warps of its own or where it is lossless
    ratio_test: bool = False  # a token drawn from q is kept with probability min(1, p/q)

    def goes_with(self, method: str) -> bool:
        """Whether it can judge what `method` drafts."""
        return not self.methods or method in self.methods

    def lossless(self, sampling: Mapping[str, Any], *, speculative: bool) -> bool:
        """Whether the output follows the target's law; `sampling` are the fields of a `SamplingSpec`."""
        if not self.why_not or not speculative or sampling.get("temperature") == 0.0:
            return True
        return self.lossless_at is not None and sampling.get(self.lossless_at[0]) == self.lossless_at[1]

    def reason(self, lossless: bool) -> str:
        """Why it is lossless, or why it is not."""
        return self.why if lossless else self.why_not


ACCEPTANCE_TEMPERATURE = Parameter(
    "acceptance_temperature",
    "float",
    1.0,
    "With --acceptance temperature: keep a draft token with probability min(1, (p/q)^(1/this)). 1 is lossless; above 1 "
    "more is accepted, and the output is no longer the target's.",
    minimum=1.0,
    maximum=100.0,
    label="accept temp",
)
TYPICAL_EPSILON = Parameter(
    "typical_epsilon",
    "float",
    0.09,
    "With --acceptance typical: a draft token at least this likely is always kept.",
    minimum=0.0,
    maximum=1.0,
    label="epsilon",
)
TYPICAL_DELTA = Parameter(
    "typical_delta",
    "float",
    0.3,
    "With --acceptance typical: where the target is unsure, one above this times exp(-entropy) is kept too.",
    minimum=0.0,
    maximum=1.0,
    label="delta",
)

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            "exact",
            "Exact",
            "Rejection sampling: accept with min(1, p/q), correct from the residual.",
            why="The output follows the target's own (warped) distribution exactly (Leviathan et al. 2023, theorem 1).",
            ratio_test=True,
        ),
        Rule(
            "block",
            "Block",
            "Judges a drawn chain as a whole: never accepts less than token by token, on average.",
            why="The output follows the target's own (warped) distribution exactly (Sun et al. 2024, theorem 1).",
            methods=("naive", "draft", "early-exit", "ngram", "nasd", "suffix"),
            method_parameters=(("tree_width", 1),),
            needs="block verification judges chains",
        ),
        Rule(
            "temperature",
            "Temperature",
            "The exact rule with an acceptance temperature: above 1, more is accepted than is due.",
            why="At acceptance temperature 1, in greedy decoding and without drafts it is the exact rule; the drafter "
            "may have a temperature of its own.",
            why_not="An acceptance temperature above 1 keeps draft tokens more often than the target would draw them.",
            lossless_at=(ACCEPTANCE_TEMPERATURE.name, 1.0),
            preset_of="exact",
            parameters=(ACCEPTANCE_TEMPERATURE,),
        ),
        Rule(
            "top-p",
            "Top-p",
            "The exact rule on nuclei: target and drafter are truncated by top-p alone.",
            why="The output follows the target's distribution truncated by top-p exactly.",
            settles={"top_k": None, "min_p": None},
            preset_of="exact",
            ratio_test=True,
        ),
        Rule(
            "min-p",
            "Min-p",
            "The exact rule on distributions that are truncated by min-p alone.",
            why="The output follows the target's distribution truncated by min-p exactly.",
            settles={"top_k": None, "top_p": 1.0},
            fills={"min_p": 0.1},
            preset_of="exact",
            ratio_test=True,
        ),
        Rule(
            "typical",
            "Typical",
            "Keeps draft tokens that are typical of the target: p > min(epsilon, delta exp(-entropy)).",
            why="In greedy decoding a token is kept only where it is the target's likeliest; and without drafts there "
            "is nothing to keep.",
            why_not="Whatever is likely enough is kept as if the target had drawn it (Cai et al. 2024, Medusa).",
            parameters=(TYPICAL_EPSILON, TYPICAL_DELTA),
        ),
    )
}
