"""Medusa: heads on the target's last hidden state predict the tokens after the next one (Cai et al. 2024).

The state at token t gives the target's own token t + 1 and, by head i, candidates for t + 2 + i. Token t + 1 is the
next root, so the state at the last accepted node, which the verifying pass computes anyway, gives head i the candidates
of depth i + 1 below it. Heads do not see one another's choice: a tree is a selection from the cartesian product of
their likeliest tokens, and a path's score is the product of its tokens' probabilities.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from specterm.decoding.drafters.budget import Budget, FixedBudget, tree_budget
from specterm.decoding.drafters.cost import median_seconds
from specterm.decoding.drafters.draft_trie import DraftTrie, to_draft_tree
from specterm.decoding.drafters.medusa_choices import read_choices
from specterm.decoding.drafters.rank_paths import FoundPaths, Path, likeliest_paths, static_paths, trie_of
from specterm.decoding.drafters.setup import DraftSetup
from specterm.decoding.host import Ranked
from specterm.decoding.ports import FINAL_NORM, Admission, Feedback, Needs, ProposeRow, Recording
from specterm.decoding.tree import DraftTree
from specterm.errors import ConfigError

_RANKS = 10  # of each head, as in the published trees
_STATIC_NODES = 24
_FADING = 0.75  # how often a head is right, against the one before it; assumed


class Heads(Protocol):
    """What is needed of the heads; `token_ids` are the target's ids of a truncated vocabulary of W tokens, or None."""

    token_ids: Tensor | None

    @property
    def heads(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def dtype(self) -> torch.dtype: ...
    def __call__(self, states: Tensor) -> Tensor: ...  # [N, hidden] -> logits [heads, N, W]


@runtime_checkable
class RanksAhead(Protocol):
    """What heads may offer where the host computes."""

    def ranked(self, states: Tensor, count: int) -> list[list[Ranked]] | None:
        """The `count` likeliest tokens of each head, the target's ids, [N][heads], from states [N, hidden]; None where
        that is not possible now."""


class Medusa:
    """Trees from the heads of the target."""

    needs = Needs(taps=(FINAL_NORM,))

    def __init__(
        self, heads: Heads, device: torch.device, budget: Budget, static: Sequence[Path], record: Recording
    ) -> None:
        """static: the tree of every round, parents first; empty for one that is chosen anew each round."""
        self.max_nodes, self.max_depth = budget.most, heads.heads
        self._heads, self._device = heads, device
        self._budget, self._static, self._record = budget, tuple(static), record
        self._states: dict[int, Tensor] = {}  # row -> [hidden], the state before the root
        self._promised: dict[int, float] = {}  # row -> the sum of the scores of its verified nodes

    @classmethod
    def build(cls, setup: DraftSetup) -> Medusa:
        """See `DRAFTERS`."""
        heads: Heads = setup.heads["medusa"]
        device, nodes, record = setup.target.device, setup.parameters["tree_nodes"], setup.record
        every = sum(_RANKS**level for level in range(1, heads.heads + 1))
        if (file := setup.parameters.get("medusa_choices")) is not None:
            if nodes is not None:
                raise ConfigError(
                    "--tree-nodes does not go with --medusa-choices, which lists the nodes; leave one out"
                )
            chosen = read_choices(pathlib.Path(file).expanduser(), heads.heads, _RANKS)
            return cls(heads, device, FixedBudget(len(chosen)), chosen, record)
        if setup.parameters["head_tree"] == "static":
            count = min(_STATIC_NODES if nodes is None else int(nodes), every)
            static = static_paths(heads.heads, _RANKS, count, fading=_FADING)
            return cls(heads, device, FixedBudget(count), static, record)
        state = torch.zeros((1, heads.hidden_size), device=device)

        def draft_s() -> float:
            return median_seconds(lambda: likeliest_tokens(heads, state, _RANKS)[1].tolist())

        adaptive = setup.parameters["adaptive"]
        budget = tree_budget(setup.costs, nodes, every, draft_s, _STATIC_NODES, adaptive=adaptive)
        return cls(heads, device, budget, (), record)

    def open(self, rows: int, capacity: int) -> None:
        """Nothing to prepare: heads have no cache."""
        self._states.clear()

    def recall(self, row: int, prompt_ids: Sequence[int]) -> tuple[int, ...]:
        """The state at the last prompt token is enough, and that token is never reused."""
        return ()

    def admit(self, admission: Admission) -> None:
        """The state at the last prompt token is the one before the first root."""
        assert admission.taps is not None, "taps are needed"
        self._states[admission.row] = admission.taps[-1]

    def propose(self, rows: Sequence[ProposeRow]) -> DraftTree:
        """One product for all rows and heads, then the likeliest paths of each row."""
        if not any(row.limit for row in rows):
            self._promised = {}
            return DraftTree.empty(len(rows), self._device)
        self._budget.begin()
        told = self._ranked(rows, max(_RANKS, self._record.alternatives))
        paths = [
            self._paths([chances[:_RANKS] for _, chances in own[: row.limit]])
            for own, row in zip(told, rows, strict=True)
        ]
        keep = self._budget.choose([own.scores() for own in paths])
        chosen = [own.first(keep) for own in paths]
        self._promised = {row.row: sum(score for _, score in own) for row, own in zip(rows, chosen, strict=True)}
        tries = [self._trie(own, heads) for own, heads in zip(chosen, told, strict=True)]
        return to_draft_tree(tries, self._device, self._record.shows_nodes)

    def catch_up(self, feedback: Sequence[Feedback]) -> None:
        """Keep the state at the last accepted node: the next root follows it."""
        for told in feedback:
            assert told.taps is not None, "taps are needed"
            if told.row in self._promised:
                self._budget.learn(self._promised[told.row], told.accepted)
            self._states[told.row] = told.taps[told.accepted]

    def release(self, row: int) -> None:
        """Forget the row."""
        self._states.pop(row, None)

    def close(self) -> None:
        """Nothing outlasts the run."""

    @torch.inference_mode()
    def _ranked(self, rows: Sequence[ProposeRow], count: int) -> list[list[Ranked]]:
        """The likeliest tokens of each head, [B][heads]."""
        states = [self._states[row.row] for row in rows]
        whole = states[0].unsqueeze(0) if len(states) == 1 else torch.stack(states)
        if isinstance(self._heads, RanksAhead) and (found := self._heads.ranked(whole, count)) is not None:
            return found
        both = likeliest_tokens(self._heads, whole, count)
        return [list(zip(*own, strict=True)) for own in zip(*(part.tolist() for part in both), strict=True)]

    def _paths(self, chances: Sequence[Sequence[float]]) -> FoundPaths:
        """Paths and scores, parents first; `chances` go as deep as the tree may be."""
        if not self._static:
            return FoundPaths(likeliest_paths(chances))
        found = []
        for path in self._static:
            if len(path) <= len(chances) and max(path) < len(chances[0]):
                score = 1.0
                for level, rank in enumerate(path):
                    score *= chances[level][rank]
                found.append((path, score))
        return FoundPaths(found)

    def _trie(
        self,
        chosen: Sequence[tuple[Path, float]],
        heads: Sequence[Ranked],
    ) -> DraftTrie:
        paths = [path for path, _ in chosen]

        def candidate(path: Path) -> tuple[int, float]:
            ids, chances = heads[len(path) - 1]
            return ids[path[-1]], chances[path[-1]]

        trie = trie_of(paths, candidate)
        if k := self._record.alternatives:  # a head says the same after every node of its depth
            said = [list(zip(ids[:k], chances[:k], strict=True)) for ids, chances in heads]
            depths = enumerate([0, *map(len, paths)], start=-1)
            trie.alternatives = {node: said[depth] for node, depth in depths if depth < len(said)}
        return trie


@torch.inference_mode()
def likeliest_tokens(heads: Heads, states: Tensor, ranks: int) -> tuple[Tensor, Tensor]:
    """From states [B, hidden] the ids and probabilities [B, heads, ranks] of each head's likeliest tokens, which are
    fewer where the vocabulary is smaller."""
    chances = heads(states.to(heads.dtype)).float().softmax(dim=-1)  # [heads, B, W]
    top = chances.topk(min(ranks, chances.shape[-1]), dim=-1)
    ids = top.indices if heads.token_ids is None else heads.token_ids[top.indices]
    return ids.transpose(0, 1), top.values.transpose(0, 1)
