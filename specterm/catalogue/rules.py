"""The rules: ways to decide what is accepted."""

from __future__ import annotations

from dataclasses import dataclass

from specterm.catalogue.parameter import Parameter


@dataclass(frozen=True, slots=True)
class Rule:
    """A way to decide what is accepted."""

    name: str
    title: str
    summary: str
    lossless: bool
    why: str
    methods: tuple[str, ...] = ()  # those that it goes with; none given means all
    parameters: tuple[Parameter, ...] = ()
    ratio_test: bool = False  # a token drawn from q is kept with probability min(1, p/q)

    def goes_with(self, method: str) -> bool:
        """Whether it can judge what `method` drafts."""
        return not self.methods or method in self.methods


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            "exact",
            "Exact",
            "Rejection sampling: accept with min(1, p/q), correct from the residual.",
            lossless=True,
            why="The output follows the target's own (warped) distribution exactly (Leviathan et al. 2023, theorem 1).",
            ratio_test=True,
        ),
    )
}
