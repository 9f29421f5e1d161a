"""One or several draft models whose chains (sequential) or beams (tree) merge into one tree for one masked target pass.

Nothing is judged twice: the target draws one token at each node of the merged tree, so a tree of several drafters is as
lossless as a chain of one (Miao et al. 2024, SpecInfer, arXiv 2305.09781, merges token trees likewise). Judging several
sampled chains separately and keeping the longest would bias the output.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from specterm.decoding.drafters.beams import Level, grow
from specterm.decoding.drafters.budget import Budget, CalibratedBudget, FixedBudget
from specterm.decoding.drafters.candidates import Candidates
from specterm.decoding.drafters.draft_trie import to_draft_tree
from specterm.decoding.drafters.prefix import DraftPrefix
from specterm.decoding.drafters.setup import DraftSetup
from specterm.decoding.ports import Feedback, Needs, ProposeRow, Runner
from specterm.decoding.tree import DraftTree

_MOST_NODES = 64


class MultiDraft:
    """Beams of `width` paths and `depth` levels from each of several draft models."""

    needs = Needs()

    def __init__(
        self, runners: Sequence[Runner], vocab_size: int, width: int, depth: int, budget: Budget, record: bool
    ) -> None:
        """`record`: whether confidences are wanted."""
        self.max_nodes = budget.most
        self._runners = tuple(runners)
        self._prefixes = tuple(DraftPrefix(runner, widest=depth + 1) for runner in runners)
        self._vocab_size = vocab_size
        self._width, self._depth = width, depth
        self._budget = budget
        self._record = record
        self._chains: dict[tuple[int, int], list[int]] = {}  # (drafter, row) -> what a chain drafter left in its cache
        self._promised: dict[int, float] = {}  # row -> the sum of the scores of its verified nodes

    @classmethod
    def build_sequential(cls, setup: DraftSetup) -> MultiDraft:
        """Greedy chains of `num_draft_tokens` from every draft model; all of them are verified."""
        gamma, drafters = int(setup.parameters["num_draft_tokens"]), len(setup.drafts)
        return cls._build(setup, 1, gamma, FixedBudget(gamma * drafters))

    @classmethod
    def build_tree(cls, setup: DraftSetup) -> MultiDraft:
        """Beams of `tree_width` x `tree_depth`, of which `tree_nodes` are verified, by calibration where it is None."""
        width, depth = int(setup.parameters["tree_width"]), int(setup.parameters["tree_depth"])
        nodes = setup.parameters["tree_nodes"]
        drafters = len(setup.drafts)
        every = drafters * (width + (depth - 1) * width * width)
        if nodes is not None:
            return cls._build(setup, width, depth, FixedBudget(min(int(nodes), every)))
        if setup.costs is None:
            return cls._build(setup, width, depth, FixedBudget(min(width * depth, every)))
        draft_s = depth * sum(setup.costs.draft_step_s[:drafters])
        return cls._build(setup, width, depth, CalibratedBudget(setup.costs, draft_s, min(_MOST_NODES, every)))

    @classmethod
    def _build(cls, setup: DraftSetup, width: int, depth: int, budget: Budget) -> MultiDraft:
        record = setup.record.probs or setup.record.alternatives > 0
        return cls(setup.drafts, setup.target.vocab_size, width, depth, budget, record)

    def open(self, rows: int, capacity: int) -> None:
        """Prepare every drafter's cache."""
        for prefix in self._prefixes:
            prefix.open(rows, capacity, scratch=self._width * self._depth)
        self._chains.clear()

    def admit(self, row: int, prompt_ids: Tensor, first: int, taps: Tensor | None) -> None:
        """Prefill the prompt with every drafter."""
        for prefix in self._prefixes:
            prefix.admit(row, prompt_ids, first)

    def propose(self, rows: Sequence[ProposeRow]) -> DraftTree:
        """Let every drafter grow its candidates, merge them, and keep the most promising."""
        self._chains.clear()
        merged = [Candidates() for _ in rows]
        for drafter, (runner, prefix) in enumerate(zip(self._runners, self._prefixes, strict=True)):
            depths = [min(self._depth, row.limit, prefix.room(row.row)) for row in rows]
            drafting = [i for i, depth in enumerate(depths) if depth]
            if not drafting:
                continue
            cache_rows = [rows[i].row for i in drafting]
            levels = grow(runner, prefix, cache_rows, self._width, max(depths), self._vocab_size)
            host = [_host(level) for level in levels]
            for place, i in enumerate(drafting):
                path = _merge(merged[i], [[part[place] for part in level] for level in host], depths[i], drafter)
                if self._width == 1:
                    self._chains[drafter, rows[i].row] = path[:-1]  # the last one was never forwarded
        ranked = [candidates.ranked() for candidates in merged]
        scores = [[c.nodes[i].score for i in order] for c, order in zip(merged, ranked, strict=True)]
        keep = min(self.max_nodes, self._budget.choose(scores)) if any(ranked) else 0
        self._promised = {row.row: sum(own[:keep]) for row, own in zip(rows, scores, strict=True)}
        kept = [c.pruned(order[:keep]) for c, order in zip(merged, ranked, strict=True)]
        return to_draft_tree(kept, self._runners[0].device, self._record)

    def catch_up(self, feedback: Sequence[Feedback]) -> None:
        """A chain drafter keeps what it wrote of the true text, but for the next root; beams are forwarded again."""
        for told in feedback:
            self._budget.learn(self._promised[told.row], told.accepted)
            for drafter, prefix in enumerate(self._prefixes):
                written = self._chains.get((drafter, told.row), [])
                in_place = 0
                for mine, true in zip(written, told.emitted[:-1], strict=False):
                    if mine != true:
                        break
                    in_place += 1
                prefix.learn(told, in_place)

    def release(self, row: int) -> None:
        """Forget the row."""
        for prefix in self._prefixes:
            prefix.release(row)

    def close(self) -> None:
        """Nothing outlasts the run."""


def _host(
    level: Level,
) -> tuple[list[list[list[int]]], list[list[list[float]]], list[list[list[float]]], list[list[int]]]:
    return level.tokens.tolist(), level.confidence.tolist(), level.score.tolist(), level.chosen.tolist()


def _merge(merged: Candidates, levels: Sequence[Sequence[list]], depth: int, drafter: int) -> list[int]:  # type: ignore[type-arg]
    """Add one drafter's candidates, down to `depth`; returns the tokens of its likeliest path."""
    paths = [-1]  # the nodes of the paths that went on
    likeliest = []
    for tokens, confidence, score, chosen in levels[:depth]:
        added = [
            merged.add(path, token, own, whole, drafter)
            for path, *candidates in zip(paths, tokens, confidence, score, strict=True)
            for token, own, whole in zip(*candidates, strict=True)
        ]
        paths = [added[i] for i in chosen]
        likeliest.append(merged.nodes[paths[0]].token)
    return likeliest
