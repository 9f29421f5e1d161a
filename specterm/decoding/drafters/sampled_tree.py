"""A tree of fixed shape whose tokens are drawn from the draft models' distributions, siblings without replacement.

Each drafter draws the children of a node one after the other from its law there, every one from what the earlier ones
left (Chen et al. 2024, Sequoia, arXiv 2402.12374); the laws stay on the device for the multi-candidate rule. No node is
dropped, merged or moved by what was drawn: the same token from two drafters is two nodes. Where a tree must be less
deep than it is, at the end of a row, its shape ends there; that is settled before the draws, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from specterm.decoding.drafters.draft_law import inexhaustible_law, over_vocabulary
from specterm.decoding.drafters.multi_draft import MultiDraft
from specterm.decoding.drafters.prefix import DraftPrefix
from specterm.decoding.drafters.sampled_shape import SampledShape, sampled_shape
from specterm.decoding.drafters.setup import DraftSetup
from specterm.decoding.ports import Admission, Block, Drafter, Feedback, Needs, ProposeRow, Recording, Runner
from specterm.decoding.sampling import ROUND_STRIDE, Purpose, Warps, draw, purpose_keys, uniforms
from specterm.decoding.tree import DraftTree, Topology


def build_tree(setup: DraftSetup) -> Drafter:
    """The method `tree`: the likeliest tokens, or sampled ones where that is asked for and decoding is not greedy."""
    if setup.parameters["tree_children"] == "sampled" and not setup.warps.greedy:
        return SampledTree.build(setup)
    return MultiDraft.build_tree(setup)


class SampledTree:
    """Sampled trees from one or several draft models."""

    needs = Needs()

    def __init__(
        self, runners: Sequence[Runner], vocab_size: int, shape: SampledShape, warps: Warps, record: Recording
    ) -> None:
        """`warps`: the target's, temperature above 0; the drafters draw by the same."""
        self.max_nodes, self.max_depth = shape.nodes, max(shape.depths)
        self._runners = tuple(runners)
        self._prefixes = tuple(DraftPrefix(runner, widest=max(shape.depths) + 1) for runner in runners)
        self._vocab_size, self._shape = vocab_size, shape
        self._warps, self._record = warps, record
        self._chain = shape.parents == tuple(range(-1, shape.nodes - 1))
        self._forwarded = 0  # depth of the nodes that the last draft left in the caches

    @classmethod
    def build(cls, setup: DraftSetup) -> SampledTree:
        """`tree_nodes` nodes, or `tree_width` x `tree_depth`: not by measured costs, on which no draw may depend."""
        width, depth = int(setup.parameters["tree_width"]), int(setup.parameters["tree_depth"])
        nodes = setup.parameters["tree_nodes"] or width * depth
        shape = sampled_shape(len(setup.drafts), width, depth, int(nodes), setup.target.device)
        return cls(setup.drafts, setup.target.vocab_size, shape, setup.warps, setup.record)

    def open(self, rows: int, capacity: int) -> None:
        """Prepare every drafter's cache."""
        for prefix in self._prefixes:
            prefix.open(rows, capacity, scratch=self._shape.nodes)

    def recall(self, row: int, prompt_ids: Sequence[int]) -> tuple[int, ...]:
        """See `RecallsPrompts`."""
        recalled = (prefix.recall(row, prompt_ids) for prefix in self._prefixes)
        return tuple(own for own in recalled if own is not None)

    def admit(self, admission: Admission) -> None:
        """Prefill the prompt with every drafter."""
        for prefix in self._prefixes:
            prefix.admit(admission.row, admission.prompt_ids, admission.first)

    def propose(self, rows: Sequence[ProposeRow]) -> DraftTree:
        """Let every drafter draw its part of the tree, level by level."""
        device, shape = self._runners[0].device, self._shape
        # How deep each drafter's part of each row is: [drafter][row].
        limits = [
            [min(len(draws), row.limit, prefix.room(row.row)) for row in rows]
            for draws, prefix in zip(shape.draws, self._prefixes, strict=True)
        ]
        kept = [shape.cut(own) for own in zip(*limits, strict=True)]
        if not any(kept):
            return DraftTree.empty(len(rows), device)
        tokens = torch.zeros((len(rows), shape.nodes), dtype=torch.int64, device=device)
        laws = torch.zeros((len(rows), shape.laws, self._vocab_size), device=device)
        nodes = torch.arange(shape.nodes, device=device)
        rounds = torch.tensor([[row.round] for row in rows], device=device) * ROUND_STRIDE
        u = uniforms(purpose_keys([row.key for row in rows], Purpose.DRAFT, device), rounds + nodes)
        for drafter, depths in enumerate(limits):
            drafting = [i for i, depth in enumerate(depths) if depth]
            if not drafting:
                continue
            cache_rows = [rows[i].row for i in drafting]
            drawn, drawn_from = self._grow(drafter, cache_rows, max(depths), u[drafting], tokens[drafting])
            tokens[drafting] = drawn
            first = shape.draws[drafter][0].laws[0]
            laws[drafting, first : first + drawn_from.shape[1]] = drawn_from.to(laws.dtype)
        return self._tree(tokens, laws, kept)

    def catch_up(self, feedback: Sequence[Feedback]) -> None:
        """What a single drafter wrote of a chain stays as far as it is true; branches are forwarded again."""
        for told in feedback:
            for prefix in self._prefixes:
                prefix.learn(told, in_place=min(told.accepted, self._forwarded))

    def release(self, row: int) -> None:
        """Forget the row."""
        for prefix in self._prefixes:
            prefix.release(row)

    def close(self) -> None:
        """Nothing outlasts the run."""

    def _grow(
        self, drafter: int, cache_rows: Sequence[int], depth: int, u: Tensor, tokens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One drafter's part: `tokens` [B, N] with its nodes filled in, and its laws [B, L, V] down to `depth`. Rows
        that end earlier go along; what they write beyond is scratch."""
        runner, prefix = self._runners[drafter], self._prefixes[drafter]
        logits = prefix.advance(cache_rows).unsqueeze(1)
        # The root is in the cache already: it is node 0 of the scratch tree.
        starts = tuple(length - 1 for length in prefix.lengths(cache_rows))
        laws: list[Tensor] = []
        for level, draws in enumerate(self._shape.draws[drafter][:depth], start=1):
            laws.append(inexhaustible_law(over_vocabulary(logits, self._vocab_size), self._warps))
            left = laws[-1].clone()
            for places, nodes in draws.ranks:
                taken = draw(left[:, places], u[:, nodes])
                tokens[:, nodes] = taken
                left[:, places] = left[:, places].scatter(2, taken.unsqueeze(2), 0.0)
            if level < depth:
                first = draws.scratch.size - len(draws.inner)
                logits = runner.forward(
                    Block(tuple(cache_rows), starts, tokens[:, draws.inner], draws.scratch, first=first)
                )
        self._forwarded = depth - 1 if self._chain else 0
        return tokens, torch.cat(laws, dim=1)

    def _tree(self, tokens: Tensor, laws: Tensor, kept: Sequence[Sequence[int]]) -> DraftTree:
        """The nodes `kept` of each row, as a tree."""
        device, shape = tokens.device, self._shape
        same = len(set(kept)) == 1
        nodes = max(map(len, kept))
        depth = max(shape.depths[own[-1]] for own in kept if own)
        parts = [self._part(own, nodes) for own in (kept[:1] if same else kept)]
        index, parents, law_of, law_after = torch.tensor(parts, dtype=torch.int64, device=device).unbind(1)
        several = len(self._runners) > 1
        masks = torch.tensor([1 << drafter for drafter in shape.drafters], device=device)
        return DraftTree(
            Topology.of_chain(nodes, device) if self._chain else Topology.of_parents(parents, depth),
            tokens.gather(1, index.expand(len(tokens), -1)),
            tuple(len(own) for own in kept),
            children="without replacement",
            q=laws,
            law_of=law_of,
            most_children=shape.most_children,
            sources=masks[index].expand(len(tokens), -1) if several and self._record.shows_nodes else None,
            alternatives=self._alternatives(laws, law_after) if self._record.alternatives else None,
        )

    def _part(self, kept: Sequence[int], nodes: int) -> tuple[list[int], ...]:
        """Of one row, padded to `nodes`: the kept nodes, their parents in their own numbering, the laws that they were
        drawn from, and the laws of their own children, -1 for a leaf."""
        shape, number = self._shape, {-1: -1} | {node: i for i, node in enumerate(kept)}
        expanded = {shape.parents[node] for node in kept}
        columns = (
            (kept, 0),
            ([number[shape.parents[node]] for node in kept], -1),
            ([shape.law_of[node] for node in kept], 0),
            ([shape.law_after[node + 1] if node in expanded else -1 for node in kept], -1),
        )
        return tuple([*column, *[fill] * (nodes - len(kept))] for column, fill in columns)

    def _alternatives(self, laws: Tensor, law_after: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest tokens after the root and each node that was expanded; elsewhere without probability."""
        top = laws.topk(min(self._record.alternatives, laws.shape[2]), dim=2)
        root = torch.full_like(law_after[:, :1], self._shape.law_after[0])
        law = torch.cat([root, law_after], dim=1).expand(len(laws), -1)
        rows = torch.arange(len(laws), device=laws.device).unsqueeze(1)
        ids, chances = top.indices[rows, law.clamp(min=0)], top.values[rows, law.clamp(min=0)]
        return ids, chances * (law >= 0).unsqueeze(2)
