"""One or several draft models whose chains (sequential) or beams (tree) merge into one tree for one masked target pass.

Nothing is judged twice: the target draws one token at each node of the merged tree, so a tree of several drafters is as
lossless as a chain of one (Miao et al. 2024, SpecInfer, arXiv 2305.09781, merges token trees likewise). Judging several
sampled chains separately and keeping the longest would bias the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from specterm.decoding.drafters.beams import add_levels, grow, scratch_forward, within
from specterm.decoding.drafters.budget import Budget, FixedBudget, tree_budget
from specterm.decoding.drafters.candidates import Candidates, worth_verifying
from specterm.decoding.drafters.draft_trie import to_draft_tree
from specterm.decoding.drafters.host_beams import beam_levels, chain_levels
from specterm.decoding.drafters.levels import Levels
from specterm.decoding.drafters.prefix import DraftPrefix, Prefix
from specterm.decoding.drafters.setup import DraftSetup
from specterm.decoding.drafters.side_by_side import SideBySide, side_by_side, step_seconds
from specterm.decoding.ports import Admission, Feedback, LanguageModel, Needs, ProposeRow, Recording
from specterm.decoding.stride_ports import Drafting, Step
from specterm.decoding.tree import DraftTree


class MultiDraft:
    """Beams of `width` paths and `depth` levels from each of several draft models."""

    needs = Needs()

    def __init__(
        self,
        models: Sequence[LanguageModel],
        prefixes: Sequence[Prefix],
        vocab_size: int,
        width: int,
        depth: int,
        budget: Budget,
        record: Recording,
        together: SideBySide,
    ) -> None:
        """`prefixes` are the models'; `vocab_size` is the target's; `together` runs the drafters."""
        self.max_nodes = budget.most
        self._models, self._prefixes = tuple(models), tuple(prefixes)
        self._vocab_size = vocab_size
        self._width, self.max_depth = width, depth
        self._budget = budget
        self._record = record
        self._together = together
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
        nodes, costs = setup.parameters["tree_nodes"], setup.costs
        drafters = len(setup.drafts)
        every = drafters * (width + (depth - 1) * width * width)

        def draft_s() -> float:
            assert costs is not None
            return depth * step_seconds(costs)

        adaptive = setup.parameters["adaptive"]
        budget = tree_budget(
            costs, nodes, every, draft_s, unmeasured=width * depth, levels=depth * drafters, adaptive=adaptive
        )
        return cls._build(setup, width, depth, budget)

    @classmethod
    def _build(cls, setup: DraftSetup, width: int, depth: int, budget: Budget) -> MultiDraft:
        together = side_by_side([draft.device for draft in setup.drafts], setup.costs)
        prefixes = [DraftPrefix(runner, widest=depth + 1) for runner in setup.drafts]
        return cls(setup.drafts, prefixes, setup.target.vocab_size, width, depth, budget, setup.record, together)

    def open(self, rows: int, capacity: int) -> None:
        """Prepare every drafter's cache."""
        for prefix in self._prefixes:
            prefix.open(rows, capacity, scratch=self._width * self.max_depth)
        self._chains.clear()

    def recall(self, row: int, prompt_ids: Sequence[int]) -> tuple[int, ...]:
        """See `RecallsPrompts`."""
        recalled = (prefix.recall(row, prompt_ids) for prefix in self._prefixes)
        return tuple(own for own in recalled if own is not None)

    def admit(self, admission: Admission) -> None:
        """Prefill the prompt with every drafter."""
        for prefix in self._prefixes:
            prefix.admit(admission.row, admission.prompt_ids, admission.first)

    def propose(self, rows: Sequence[ProposeRow]) -> DraftTree:
        """Let every drafter grow its candidates, merge them, and keep the most promising."""
        self._chains.clear()
        self._budget.begin(len(self._models))
        merged = [Candidates() for _ in rows]
        depths = [[min(self.max_depth, row.limit, prefix.room(row.row)) for row in rows] for prefix in self._prefixes]
        drafting = [[i for i, depth in enumerate(own) if depth] for own in depths]
        work = [
            partial(self._grow, drafter, [rows[i].row for i in places], max(depths[drafter]))
            for drafter, places in enumerate(drafting)
            if places
        ]
        grown = iter(self._together.run(work))
        for drafter, places in enumerate(drafting):
            if not places:
                continue
            own_depths = [depths[drafter][i] for i in places]
            paths = add_levels([merged[i] for i in places], next(grown), own_depths, drafter)
            if self._width == 1:
                for i, path in zip(places, paths, strict=True):
                    self._chains[drafter, rows[i].row] = path[:-1]  # the last one was never forwarded
        tries, promised = zip(*worth_verifying(merged, self._budget), strict=True)
        self._promised = {row.row: tokens for row, tokens in zip(rows, promised, strict=True)}
        return to_draft_tree(tries, self._models[0].device, self._record.shows_nodes)

    def _grow(self, drafter: int, cache_rows: Sequence[int], depth: int) -> Levels:
        """One drafter's part of a round; it touches nothing of the others."""
        model, prefix = self._models[drafter], self._prefixes[drafter]
        if self._width == 1 and len(cache_rows) == 1:
            chain = prefix.greedy_chain(cache_rows[0], depth, 0.0, self._vocab_size)
            if chain is not None:
                self._budget.grew(len(chain[0]) - 1)
                return chain_levels(*chain, self._record.alternatives)
        if len(cache_rows) == 1:
            gate, shown = self._budget.gate(depth - 1), self._record.alternatives
            beam = prefix.beam(cache_rows[0], self._width, depth, max(self._width, shown), self._vocab_size, gate)
            if beam is not None:
                self._budget.grew(len(beam.paths) - 1)
                return beam_levels(beam, shown)
        logits = within(prefix.advance(cache_rows), self._vocab_size)
        # The root is in the cache already: it is node 0 of the scratch tree.
        starts = [length - 1 for length in prefix.lengths(cache_rows)]
        forward_level = scratch_forward(model, cache_rows, starts, self._vocab_size)
        return grow(
            logits,
            forward_level,
            self._width,
            depth,
            paths=self._budget.paths,
            shown=self._record.alternatives,
        )

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

    def drafting(self, row: int, limit: int) -> Drafting | None:
        """See `Strider`."""
        rooms = [prefix.room(row) for prefix in self._prefixes]
        depths = {min(self.max_depth, limit, room) for room in rooms}
        room, depth = min(rooms), max(depths)
        if not depth:
            return Drafting()
        if not self._together.in_turn or len(depths) > 1:
            return None
        models = [ahead for prefix in self._prefixes if (ahead := prefix.ahead(row)) is not None]
        if len(models) < len(self._prefixes):
            return None
        plan, rounds = self._budget.plan(depth * len(models)), 1 + (room - depth) // (1 + depth)
        return Drafting(models, self._width, depth, self.max_nodes, True, rounds, plan=plan)

    def strode(self, row: int, step: Step) -> None:
        """See `Strider`."""
        grown = step.grown
        self._chains.clear()
        if grown is None:
            self._promised[row] = 0.0
            return
        kept = [step.tokens[node - 1] for node in step.path]
        for drafter, (prefix, in_place) in enumerate(zip(self._prefixes, grown.in_place, strict=True)):
            prefix.took(row)
            self._chains[drafter, row] = kept[:in_place]
        self._promised[row] = grown.promised
        self._budget.strode(grown, step.draft_s, len(step.tokens), step.verify_s + step.sampling_s)

    def release(self, row: int) -> None:
        """Forget the row."""
        for prefix in self._prefixes:
            prefix.release(row)

    def close(self) -> None:
        """Nothing outlasts the run."""
        self._together.close()
