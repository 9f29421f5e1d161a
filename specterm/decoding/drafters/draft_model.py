"""A draft model: a small model of the target's vocabulary that drafts a chain, token by token.

With a draft temperature of 0 the chain is greedy and its children are *fixed*; otherwise each token is drawn from the
draft's warped distribution q, which stays on the device for the rule (Leviathan et al. 2023; Chen et al. 2023).

The part of a draft that was accepted is true prefix afterwards, so the next draft begins by forwarding the rest only:
the target's own token, and after full acceptance the last draft token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from specterm.decoding.drafters.draft_law import over_vocabulary
from specterm.decoding.drafters.prefix import DraftPrefix, Prefix, token_steps
from specterm.decoding.drafters.setup import DraftSetup
from specterm.decoding.ports import Admission, Block, ChainsInOne, Feedback, LanguageModel, Needs, ProposeRow, Recording
from specterm.decoding.sampling import (
    ROUND_STRIDE,
    Purpose,
    Warps,
    draw,
    likeliest,
    probabilities,
    probability_of,
    purpose_key,
    round_uniforms,
)
from specterm.decoding.stride_ports import Drafting, Step
from specterm.decoding.tree import DraftTree, Topology


class DraftModel:
    """Chains of up to `gamma` tokens from one draft model."""

    needs = Needs()

    def __init__(
        self, model: LanguageModel, prefix: Prefix, vocab_size: int, gamma: int, warps: Warps, record: Recording,
        least: float = 0.0,
    ) -> None:  # fmt: skip
        """`prefix` is the model's; `vocab_size` the target's. least: a greedy chain ends with the token at which the
        draft's probability of the whole chain falls below this; 0 for never."""
        self.max_nodes = self.max_depth = gamma
        self._model = model
        self._steps = token_steps(model)
        self._whole = model if isinstance(model, ChainsInOne) else None
        self._prefix = prefix
        self._vocab_size = vocab_size
        self._warps = warps
        self._record = record
        # Only where children are fixed: a length that depends on what was drawn would bias the output.
        self._least = least if warps.greedy else 0.0
        self._no_laws = torch.empty((1, 0, 0))
        self._written: dict[int, int] = {}  # draft tokens of the last round that stand in the cache, by row

    @classmethod
    def build(cls, setup: DraftSetup) -> DraftModel:
        """See `DRAFTERS`."""
        model, gamma = setup.drafts[0], int(setup.parameters["num_draft_tokens"])
        warps = draft_warps(setup.warps, setup.parameters["draft_temperature"])
        prefix = DraftPrefix(model, widest=gamma + 1)
        least = setup.parameters["draft_confidence"]
        return cls(model, prefix, setup.target.vocab_size, gamma, warps, setup.record, least)

    def open(self, rows: int, capacity: int) -> None:
        """Prepare the draft's cache; it may be shorter than the target's, then drafting ends earlier."""
        self._prefix.open(rows, capacity, scratch=self.max_nodes)
        self._written.clear()

    def recall(self, row: int, prompt_ids: Sequence[int]) -> tuple[int, ...]:
        """See `RecallsPrompts`."""
        own = self._prefix.recall(row, prompt_ids)
        return () if own is None else (own,)

    def admit(self, admission: Admission) -> None:
        """Prefill the prompt as far as the draft's context goes."""
        self._prefix.admit(admission.row, admission.prompt_ids, admission.first)

    def propose(self, rows: Sequence[ProposeRow]) -> DraftTree:
        """Draft a chain for each row: the pending tokens first, then one forward a token."""
        most = [min(self.max_nodes, row.limit, self._prefix.room(row.row)) for row in rows]
        drafting = [row for row, count in zip(rows, most, strict=True) if count]
        if not drafting:
            self._written = dict.fromkeys((row.row for row in rows), 0)
            return DraftTree.empty(len(rows), self._model.device)
        drawn, laws, lengths = self._draft(drafting, [count for count in most if count])
        ends = iter(lengths)
        counts = tuple(next(ends) if count else 0 for count in most)
        self._written = {row.row: max(0, count - 1) for row, count in zip(rows, counts, strict=True)}
        if len(drafting) < len(rows):
            places = torch.tensor([i for i, count in enumerate(counts) if count], device=drawn.device)
            drawn = drawn.new_zeros((len(rows), drawn.shape[1])).index_copy_(0, places, drawn)
            laws = laws.new_zeros((len(rows), *laws.shape[1:])).index_copy_(0, places, laws)
        return self._tree(drawn, laws, counts)

    def catch_up(self, feedback: Sequence[Feedback]) -> None:
        """Keep what is true of the last draft."""
        for told in feedback:
            self._prefix.learn(told, in_place=min(told.accepted, self._written[told.row]))

    def drafting(self, row: int, limit: int) -> Drafting | None:
        """See `Strider`."""
        room = self._prefix.room(row)
        most = min(self.max_nodes, limit, room)
        if not most:
            return Drafting()
        if (ahead := self._prefix.ahead(row)) is None:
            return None
        rounds = 1 + (room - most) // (1 + most)
        return Drafting((ahead,), 1, most, most, rounds=rounds, least=self._least, warps=self._warps)

    def strode(self, row: int, step: Step) -> None:
        """See `Strider`."""
        self._written[row] = max(0, len(step.tokens) - 1)
        if step.tokens:
            self._prefix.took(row)

    def release(self, row: int) -> None:
        """Forget the row."""
        self._prefix.release(row)

    def close(self) -> None:
        """Nothing to put away."""

    def _draft(self, rows: Sequence[ProposeRow], most: Sequence[int]) -> tuple[Tensor, Tensor, list[int]]:
        """Draw up to `most` tokens for each row: ids [B, N], the laws they came from [B, N, V] (when greedy logits, and
        none, V = 0, where nothing is recorded) and how many of the N are each row's. Rows with fewer go along; what
        they write beyond is scratch."""
        cache_rows = tuple(row.row for row in rows)
        if len(rows) == 1 and (alone := self._alone(rows[0], most[0])) is not None:
            return alone
        logits = self._prefix.advance(cache_rows)
        ends = self._prefix.lengths(cache_rows)
        u = None if self._warps.greedy else self._uniforms(rows, max(most))
        if u is None and not self._least and max(most) > 1:
            whole = self._chain(cache_rows, ends, logits, max(most))
            if whole is not None:
                return *whole, list(most)
        lengths, chances = list(most), [1.0] * len(rows)
        drawn: list[Tensor] = []
        laws: list[Tensor] = []
        while len(drawn) < max(lengths):
            if drawn:
                logits = self._forward(cache_rows, [end + len(drawn) - 1 for end in ends], drawn[-1])
            logits = over_vocabulary(logits, self._vocab_size)
            if u is None:
                drawn.append(likeliest(logits))
                if self._record.shows_nodes:
                    laws.append(logits)
            else:
                laws.append(probabilities(logits, self._warps))
                drawn.append(draw(laws[-1], u[:, len(drawn)]))
            if self._least and len(drawn) < max(lengths):
                for row, chance in enumerate(probability_of(logits, drawn[-1])):
                    chances[row] *= chance
                    if chances[row] < self._least:
                        lengths[row] = min(lengths[row], len(drawn))
        law = torch.stack(laws, dim=1) if laws else logits.new_empty((len(rows), len(drawn), 0))
        return torch.stack(drawn, dim=1), law, lengths

    def _alone(self, row: ProposeRow, most: int) -> tuple[Tensor, Tensor, list[int]] | None:
        """What `_draft` gives of one row's chain, where the model makes it in one piece on the host."""
        prefix = self._prefix
        if not self._warps.greedy:
            key, index = purpose_key(row.key, Purpose.DRAFT), row.round * ROUND_STRIDE
            sampled = prefix.sampled_chain(row.row, most, self._vocab_size, self._warps, key, index)
            if sampled is None:
                return None
            tokens, laws = sampled
            return _in_a_row(tokens), laws[: len(tokens)].unsqueeze(0), [len(tokens)]
        greedy = prefix.greedy_chain(row.row, most, self._least, self._vocab_size)
        if greedy is None:
            return None
        tokens, _, logits = greedy
        if not self._record.shows_nodes:
            return _in_a_row(tokens), self._no_laws, [len(tokens)]
        return _in_a_row(tokens), over_vocabulary(logits[: len(tokens)], self._vocab_size).unsqueeze(0), [len(tokens)]

    def _chain(
        self, cache_rows: tuple[int, ...], ends: Sequence[int], logits: Tensor, length: int
    ) -> tuple[Tensor, Tensor] | None:
        """What `_draft` gives of greedy chains, where the model makes them in one piece: `logits` are those after the
        roots."""
        if self._whole is None:
            return None
        first = likeliest(over_vocabulary(logits, self._vocab_size))
        block = Block(cache_rows, tuple(ends), first.unsqueeze(1), Topology.of_chain(0, self._model.device))
        found = self._whole.chain(block, length - 1, self._vocab_size)
        if found is None:
            return None
        drawn = torch.cat((first.unsqueeze(1), found[0]), dim=1)
        if not self._record.shows_nodes:
            return drawn, logits.new_empty((len(cache_rows), length, 0))
        return drawn, over_vocabulary(torch.cat((logits.unsqueeze(1), found[1]), dim=1), self._vocab_size)

    def _forward(self, cache_rows: tuple[int, ...], starts: Sequence[int], tokens: Tensor) -> Tensor:
        """Logits [B, V] after one more token of each row, int64 [B]."""
        if self._steps is not None and len(cache_rows) == 1:
            return self._steps.step(cache_rows[0], starts[0], int(tokens)).unsqueeze(0)
        root = Topology.of_chain(0, self._model.device)
        return self._model.forward(Block(cache_rows, tuple(starts), tokens.unsqueeze(1), root))[:, 0]

    def _uniforms(self, rows: Sequence[ProposeRow], steps: int) -> Tensor:
        """The random numbers of the round, [B, steps]."""
        keys, rounds = [row.key for row in rows], [row.round for row in rows]
        return round_uniforms(keys, Purpose.DRAFT, rounds, steps, self._model.device)

    def _tree(self, drawn: Tensor, laws: Tensor, counts: tuple[int, ...]) -> DraftTree:
        topology = Topology.of_chain(drawn.shape[1], drawn.device)
        greedy, record = self._warps.greedy, self._record
        confidence, alternatives = None, None
        if record.shows_nodes:
            shown = probabilities(laws, self._warps) if greedy else laws
            confidence = shown.gather(2, drawn.unsqueeze(2)).squeeze(2) if greedy else None
            if record.alternatives:
                top = shown.topk(min(record.alternatives, shown.shape[2]), dim=2)
                ends = torch.tensor(counts, device=drawn.device).unsqueeze(1)  # beyond, rows went along with others
                own = torch.arange(drawn.shape[1], device=drawn.device) < ends
                alternatives = (top.indices, top.values * own.unsqueeze(2))
        return DraftTree(
            topology,
            drawn,
            counts,
            children="fixed" if greedy else "sampled",
            q=None if greedy else laws,
            confidence=confidence,
            alternatives=alternatives,
        )


def _in_a_row(tokens: list[int]) -> Tensor:
    return torch.from_numpy(np.array([tokens], dtype=np.int64))  # sooner there than by torch itself


def draft_warps(warps: Warps, temperature: float | None) -> Warps:
    """The draft's warps: the target's, but for a draft temperature of its own. Greedy decoding drafts greedily."""
    own = warps.temperature if temperature is None or warps.greedy else float(temperature)
    return replace(warps, temperature=own)
