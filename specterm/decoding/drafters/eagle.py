"""EAGLE: a one-layer model that continues the target's features drafts a tree.

From the feature of a token and the token that was drawn after it, the model makes the next feature, and that gives
candidates for the token to follow; below the root it lives on its own features. After each round the pairs of what was
emitted are forwarded again with the target's true features, so its cache never holds a guess. EAGLE-1 and 2 read the
last hidden state, EAGLE-3 states of three depths: that is the model's business (Li et al. 2024 and 2025, arXiv
2401.15077, 2406.16858, 2503.01840). The dynamic tree is EAGLE-2's, of products of the drafter's probabilities without
temperature; the static one, EAGLE-1's, has the same ranks in every round. Either is given before the target judges
it, so its children are fixed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from specterm.decoding.drafters.beams import add_levels, grow, grow_ranks, of_paths, rank_tries
from specterm.decoding.drafters.budget import Budget, FixedBudget, tree_budget
from specterm.decoding.drafters.candidates import Candidates, worth_verifying
from specterm.decoding.drafters.cost import median_seconds
from specterm.decoding.drafters.draft_trie import DraftTrie, to_draft_tree
from specterm.decoding.drafters.feature_prefix import FeatureModel, FeaturePrefix
from specterm.decoding.drafters.host_beams import beam_levels
from specterm.decoding.drafters.levels import ForwardLevel, Levels, Step
from specterm.decoding.drafters.rank_paths import Path, static_paths
from specterm.decoding.drafters.setup import DraftSetup
from specterm.decoding.ports import Admission, Block, Feedback, Needs, ProposeRow, Recording
from specterm.decoding.tree import DraftTree, Topology

_NODES = 24  # where nobody measured
_FADING = 1.0  # it sees what it drafted before, so the depth tells little; assumed


class Eagle:
    """Trees of `width` paths or ranks and `depth` levels from an EAGLE model."""

    def __init__(
        self,
        model: FeatureModel,
        width: int,
        depth: int,
        budget: Budget,
        static: Sequence[Path],
        record: Recording,
    ) -> None:
        """static: the tree of every round, parents first; empty for one that is chosen anew each round."""
        self.max_nodes = budget.most
        self.needs = Needs(taps=model.taps)
        self._model = model
        self._width, self.max_depth = width, depth
        self._budget, self._static, self._record = budget, tuple(static), record
        self._prefix = FeaturePrefix(model, widest=depth + 1)
        self._promised: dict[int, float] = {}  # row -> the tokens that its verified nodes promise

    @classmethod
    def build_eagle(cls, setup: DraftSetup) -> Eagle:
        """EAGLE-1 and 2; see `DRAFTERS`."""
        return cls._build(setup, setup.heads["eagle"])

    @classmethod
    def build_eagle3(cls, setup: DraftSetup) -> Eagle:
        """EAGLE-3; see `DRAFTERS`."""
        return cls._build(setup, setup.heads["eagle3"])

    @classmethod
    def _build(cls, setup: DraftSetup, model: FeatureModel) -> Eagle:
        vocab = setup.target.vocab_size if model.token_ids is None else len(model.token_ids)
        width, depth = min(int(setup.parameters["tree_width"]), vocab), int(setup.parameters["tree_depth"])
        nodes = setup.parameters["tree_nodes"]
        if setup.parameters["head_tree"] == "static":
            static = static_paths(depth, width, _NODES if nodes is None else int(nodes), fading=_FADING)
            return cls(model, width, depth, FixedBudget(len(static)), static, setup.record)
        every = width + (depth - 1) * width * width
        budget = tree_budget(
            setup.costs,
            nodes,
            every,
            lambda: depth * _forward_s(model, width),
            _NODES,
            levels=depth,
            adaptive=setup.parameters["adaptive"],
        )
        return cls(model, width, depth, budget, (), setup.record)

    def open(self, rows: int, capacity: int) -> None:
        """Prepare the model's cache."""
        self._prefix.open(rows, capacity, scratch=max(self._width * self.max_depth, len(self._static)))
        self._promised.clear()

    def recall(self, row: int, prompt_ids: Sequence[int]) -> tuple[int, ...]:
        """See `RecallsPrompts`."""
        return (self._prefix.recall(row, prompt_ids) or 0,)

    @torch.inference_mode()
    def admit(self, admission: Admission) -> None:
        """Prefill the pairs of the prompt."""
        assert admission.taps is not None, "taps are needed"
        self._prefix.admit(admission.row, admission.prompt_ids, admission.first, admission.taps)

    @torch.inference_mode()
    def propose(self, rows: Sequence[ProposeRow]) -> DraftTree:
        """Bring the model up to date with the target's features, and grow a tree for each row on its own ones."""
        self._budget.begin()
        depths = [min(self.max_depth, row.limit, self._prefix.room(row.row)) for row in rows]
        drafting = [row.row for row, depth in zip(rows, depths, strict=True) if depth]
        found: dict[int, tuple[DraftTrie, float]] = {}
        if drafting:
            wanted = [depth for depth in depths if depth]
            levels = self._beam(drafting, wanted)
            grown = self._grow(drafting, wanted) if levels is None else self._worth(levels, wanted)
            found = dict(zip(drafting, grown, strict=True))
        self._promised = {row: promised for row, (_, promised) in found.items()}
        tries = [found[row.row][0] if row.row in found else DraftTrie() for row in rows]
        return to_draft_tree(tries, self._model.device, self._record.shows_nodes)

    @torch.inference_mode()
    def catch_up(self, feedback: Sequence[Feedback]) -> None:
        """Keep the target's features of what was emitted, for the next draft."""
        for told in feedback:
            assert told.taps is not None, "taps are needed"
            if told.row in self._promised:
                self._budget.learn(self._promised.pop(told.row), told.accepted)
            self._prefix.learn(told.row, told.emitted, told.taps)

    def release(self, row: int) -> None:
        """Forget the row."""
        self._prefix.release(row)
        self._promised.pop(row, None)

    def close(self) -> None:
        """Nothing outlasts the run."""

    def _beam(self, rows: Sequence[int], depths: Sequence[int]) -> Levels | None:
        """What `grow` would give, where the model grows one row's levels in one piece."""
        if self._static or len(rows) > 1:
            return None
        gate, shown = self._budget.gate(depths[0] - 1), self._record.alternatives
        beam = self._prefix.beam(rows[0], self._width, depths[0], max(self._width, shown), gate)
        if beam is None:
            return None
        self._budget.grew(len(beam.paths) - 1)
        return beam_levels(beam, shown)

    def _grow(self, rows: Sequence[int], depths: Sequence[int]) -> Sequence[tuple[DraftTrie, float]]:
        """The tree of each row, no deeper than its own of `depths`, and the tokens it promises."""
        token_ids, shown, paths = self._model.token_ids, self._record.alternatives, self._budget.paths
        logits, feature = self._prefix.advance(rows)
        # The pair of the root is in the cache already: it is node 0 of the scratch tree.
        starts = [length - 1 for length in self._prefix.lengths(rows)]
        forward_level, depth = self._forward_level(rows, starts, feature.unsqueeze(1)), max(depths)
        if self._static:
            levels = grow_ranks(logits, forward_level, self._static, depth, token_ids=token_ids, shown=shown)
            return [(trie, 0.0) for trie in rank_tries(self._static, levels, depths)]  # its budget learns nothing
        levels = grow(logits, forward_level, self._width, depth, paths=paths, token_ids=token_ids, shown=shown)
        return self._worth(levels, depths)

    def _worth(self, levels: Levels, depths: Sequence[int]) -> Sequence[tuple[DraftTrie, float]]:
        """The part of what was grown that is worth verifying, and the tokens it promises."""
        merged = [Candidates() for _ in depths]
        add_levels(merged, levels, depths)
        return worth_verifying(merged, self._budget)

    def _forward_level(self, rows: Sequence[int], starts: Sequence[int], feature: Tensor) -> ForwardLevel:
        """Forwards levels on the model's own features, beginning with that of the root, [B, 1, H]."""
        features = feature

        def forward(step: Step) -> Tensor:
            nonlocal features
            of_parents = of_paths(features, step.went_on)
            logits, features = self._model.forward(step.block(rows, starts), of_parents)
            return logits

        return forward


@torch.inference_mode()
def _forward_s(model: FeatureModel, width: int) -> float:
    """Median seconds of a forward of one level of one row, behind what the cache has kept."""
    start = len(model.kept())
    model.allocate(1, start + width)
    ids = torch.zeros((1, width), dtype=torch.int64, device=model.device)
    block = Block((0,), (start,), ids, Topology.of_chain(width - 1, model.device))
    features = torch.zeros((1, width, model.hidden_size), dtype=model.dtype, device=model.device)
    return median_seconds(lambda: model.forward(block, features)[0].softmax(dim=-1).topk(width).values.tolist())
