"""What is told of a round: the tokens that each row was given, the nodes of its draft and what became of them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from specterm.decoding.ports import Detokenizer, Recording
from specterm.decoding.readback import Outcome
from specterm.decoding.row import Row
from specterm.decoding.sampling import Warps, probabilities
from specterm.decoding.tree import DraftTree
from specterm.events import Alternatives, Candidate, NodeState, Origin, RowRound


class Teller:
    """Tells rounds as far as they are recorded."""

    def __init__(self, detokenizer: Detokenizer, warps: Warps, record: Recording) -> None:
        """warps: the target's."""
        self._detokenizer, self._warps, self._record = detokenizer, warps, record

    def emit(self, row: Row, outcome: Outcome, alternatives: tuple[Alternatives, ...] | None) -> RowRound:
        """Append what a row was given, and tell the round as the row saw it."""
        row.round += 1
        path = outcome.path
        own: Origin = "plain" if not outcome.tokens else "correction" if outcome.corrected else "bonus"
        origins: list[Origin] = ["accepted"] * len(path)
        texts = self._texts(row, outcome) if self._record.probs else None
        tokens = [outcome.tokens[node - 1] for node in path]
        p: Sequence[float | None] = [None] * len(path) if outcome.p is None else [outcome.p[node - 1] for node in path]
        emitted = row.emit([*tokens, outcome.next_token], [*origins, own], [*p, outcome.next_p])
        states: list[NodeState] = outcome.states
        for node in path[len(emitted) :]:
            states[node - 1] = "cut"
        if row.reason and len(emitted) <= len(path):
            # The row ended inside the draft: what was refused behind its end was simply not needed.
            above = {-1, *(node - 1 for node in path[: len(emitted) - 1])}
            states = [
                "unused" if state == "rejected" and parent not in above else state
                for state, parent in zip(states, outcome.parents, strict=True)
            ]
        recorded = texts is not None
        return RowRound(
            row.prompt.row,
            outcome.tokens,
            outcome.parents,
            tuple(states),
            emitted,
            texts=texts,
            p=outcome.p,
            q=outcome.q if recorded else None,
            confidence=outcome.confidence,
            sources=outcome.sources or ((1,) * len(outcome.tokens) if recorded else None),
            alternatives=alternatives,
        )

    @staticmethod
    def _texts(row: Row, outcome: Outcome) -> tuple[str, ...]:
        """The text of each node on its own path; to be asked before the row moves on."""
        paths: list[tuple[int, ...]] = []
        for token, parent in zip(outcome.tokens, outcome.parents, strict=True):
            paths.append((*(paths[parent] if parent >= 0 else ()), token))
        return tuple(row.text_ahead(path) for path in paths)

    def alternatives(self, tree: DraftTree, logits: Tensor) -> Sequence[tuple[Alternatives, ...] | None]:
        """The likeliest tokens of target and drafter after the root and each node, for each row; logits [B, T, V]."""
        k = self._record.alternatives
        if not k:
            return [None] * len(tree.counts)
        top = probabilities(logits, self._warps).topk(min(k, logits.shape[-1]), dim=-1)
        target = _candidates(top.indices, top.values, self._detokenizer)
        drafter = _candidates(*tree.alternatives, self._detokenizer) if tree.alternatives else [[] for _ in target]
        return [
            tuple(
                Alternatives(row_target[node], row_drafter[node] or None if node < len(row_drafter) else None)
                for node in range(count + 1)
            )
            for row_target, row_drafter, count in zip(target, drafter, tree.counts, strict=True)
        ]


def _candidates(ids: Tensor, values: Tensor, detokenizer: Detokenizer) -> list[list[tuple[Candidate, ...]]]:
    """ids and values [B, T, k] as candidates; those without probability are left out."""
    return [
        [
            tuple(Candidate(token, detokenizer.decode([token]), p) for token, p in zip(*node, strict=True) if p > 0.0)
            for node in zip(*row, strict=True)
        ]
        for row in zip(ids.tolist(), values.tolist(), strict=True)
    ]
