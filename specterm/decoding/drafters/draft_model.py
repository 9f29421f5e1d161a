"""A draft model: a small model of the target's vocabulary that drafts a chain, token by token.

With a draft temperature of 0 the chain is greedy and its children are *fixed*; otherwise each token is drawn from the
draft's warped distribution q, which stays on the device for the rule (Leviathan et al. 2023; Chen et al. 2023).

The drafter keeps, for each row, how many tokens of the true prefix its KV cache holds and which true tokens it has not
seen. Drafting writes on after them; the part of a draft that was accepted is then true prefix, so only the rest (the
target's own token, and after full acceptance the last draft token) is forwarded at the start of the next draft.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from specterm.decoding.acceptance.exact import ROUND_STRIDE
from specterm.decoding.ports import Block, ProposeRow, Recording, Runner
from specterm.decoding.prefill import prefill
from specterm.decoding.sampling import Purpose, Warps, draw, probabilities, purpose_keys, uniforms
from specterm.decoding.tree import DraftTree, Topology


@dataclass(slots=True)
class _Seen:
    """What the draft's cache holds of one row: `length` true tokens, then what the last draft wrote.

    `pending` are true tokens that are not in the cache. `drafted` is None while no draft is out; else the pending
    tokens have been forwarded, and after them so many draft tokens.
    """

    length: int
    pending: list[int]
    drafted: int | None = None


class DraftModel:
    """Chains of up to `gamma` tokens from one draft model."""

    def __init__(self, runner: Runner, vocab_size: int, gamma: int, warps: Warps, record: Recording) -> None:
        self.max_nodes = gamma
        self._runner = runner
        self._vocab_size = vocab_size
        self._warps = warps
        self._record = record
        self._seen: dict[int, _Seen] = {}

    @classmethod
    def build(
        cls, target: Runner, drafts: Sequence[Runner], warps: Warps, record: Recording, parameters: Mapping[str, Any]
    ) -> DraftModel:
        """See `DRAFTERS`. The draft's warps are the target's, but for a draft temperature of its own."""
        own = parameters["draft_temperature"]
        temperature = warps.temperature if own is None or warps.greedy else float(own)
        draft_warps = Warps(temperature, warps.top_k, warps.top_p, warps.min_p)
        return cls(drafts[0], target.vocab_size, int(parameters["num_draft_tokens"]), draft_warps, record)

    def open(self, rows: int, capacity: int) -> None:
        """Prepare the draft's cache; it may be shorter than the target's, then drafting ends earlier."""
        longest = min(capacity, self._runner.max_positions)
        self._runner.allocate(rows, longest + 2 * self.max_nodes + 2)
        self._seen.clear()

    def admit(self, row: int, prompt_ids: Tensor, first: int) -> None:
        """Prefill the prompt as far as the draft's context goes."""
        fits = min(len(prompt_ids), self._runner.max_positions)
        prefill(self._runner, row, prompt_ids[:fits])
        self._seen[row] = _Seen(fits, [*prompt_ids[fits:].tolist(), first])

    def propose(self, rows: Sequence[ProposeRow]) -> DraftTree:
        """Draft a chain for each row: the pending tokens first, then one forward a token."""
        counts = tuple(self._depth(row) for row in rows)
        drafting = [row for row, count in zip(rows, counts, strict=True) if count]
        if not drafting:
            return DraftTree.empty(len(rows), self._runner.device)
        drawn, laws = self._draft(drafting, max(counts))
        for row, count in zip(rows, counts, strict=True):
            self._seen[row.row].drafted = count - 1 if count else None
        if len(drafting) < len(rows):
            places = torch.tensor([i for i, count in enumerate(counts) if count], device=drawn.device)
            drawn = drawn.new_zeros((len(rows), drawn.shape[1])).index_copy_(0, places, drawn)
            laws = laws.new_zeros((len(rows), *laws.shape[1:])).index_copy_(0, places, laws)
        return self._tree(drawn, laws, counts)

    def catch_up(self, rows: Sequence[int], emitted: Sequence[Sequence[int]], accepted: Sequence[int]) -> None:
        """Keep what is true of the last draft; the rest of what was emitted is pending."""
        for row, tokens, kept in zip(rows, emitted, accepted, strict=True):
            seen = self._seen[row]
            if seen.drafted is None:
                seen.pending.extend(tokens)
                continue
            in_cache = min(kept, seen.drafted)
            seen.length += len(seen.pending) + in_cache
            seen.pending = list(tokens[in_cache:])
            seen.drafted = None

    def release(self, row: int) -> None:
        """Forget the row."""
        self._seen.pop(row, None)

    def _depth(self, row: ProposeRow) -> int:
        """How many tokens to draft: no more than useful, and none beyond the draft's own context."""
        seen = self._seen[row.row]
        room = self._runner.max_positions - seen.length - len(seen.pending) + 1
        return max(0, min(self.max_nodes, row.limit, room))

    def _draft(self, rows: Sequence[ProposeRow], steps: int) -> tuple[Tensor, Tensor]:
        """Forward what is pending and draw `steps` tokens: ids [B, steps], and the laws they came from [B, steps, V]
        (logits when greedy). Rows with fewer useful steps go along; what they write beyond is scratch."""
        runner, device = self._runner, self._runner.device
        seen = [self._seen[row.row] for row in rows]
        for row, s in zip(rows, seen, strict=True):
            if (late := len(s.pending) - self.max_nodes - 1) > 0:  # after a pause: more than a round's worth
                prefill(runner, row.row, torch.tensor(s.pending[:late]), s.length)
                s.length += late
                del s.pending[:late]
        cache_rows = tuple(row.row for row in rows)
        width = max(len(s.pending) for s in seen)
        ids = torch.tensor([s.pending + [0] * (width - len(s.pending)) for s in seen], device=device)
        block = Block(cache_rows, tuple(s.length for s in seen), ids, Topology.of_chain(width - 1, device))
        logits = runner.forward(block, last=[len(s.pending) - 1 for s in seen])[:, 0]
        ends = tuple(s.length + len(s.pending) for s in seen)

        keys = purpose_keys([row.key for row in rows], Purpose.DRAFT, device)
        rounds = torch.tensor([[row.round] for row in rows], device=device) * ROUND_STRIDE
        drawn: list[Tensor] = []
        laws: list[Tensor] = []
        for step in range(steps):
            if step:
                starts = tuple(end + step - 1 for end in ends)
                block = Block(cache_rows, starts, drawn[-1].unsqueeze(1), Topology.of_chain(0, device))
                logits = runner.forward(block)[:, 0]
            logits = self._fit(logits)
            if self._warps.greedy:
                laws.append(logits)
                drawn.append(logits.argmax(dim=-1))
            else:
                laws.append(probabilities(logits, self._warps))
                drawn.append(draw(laws[-1], uniforms(keys, rounds + step).squeeze(1)))
        return torch.stack(drawn, dim=1), torch.stack(laws, dim=1)

    def _fit(self, logits: Tensor) -> Tensor:
        """Logits over the target's vocabulary, where embeddings are padded to different sizes."""
        missing = self._vocab_size - logits.shape[-1]
        if missing > 0:
            return torch.nn.functional.pad(logits, (0, missing), value=float("-inf"))
        return logits[..., : self._vocab_size]

    def _tree(self, drawn: Tensor, laws: Tensor, counts: tuple[int, ...]) -> DraftTree:
        topology = Topology.of_chain(drawn.shape[1], drawn.device)
        greedy, record = self._warps.greedy, self._record
        confidence, alternatives = None, None
        if record.probs or record.alternatives:
            shown = probabilities(laws, self._warps) if greedy else laws
            confidence = shown.gather(2, drawn.unsqueeze(2)).squeeze(2) if greedy else None
            if record.alternatives:
                top = shown.topk(min(record.alternatives, shown.shape[2]), dim=2)
                alternatives = (top.indices, top.values)
        return DraftTree(
            topology,
            drawn,
            counts,
            children="fixed" if greedy else "sampled",
            q=None if greedy else laws,
            confidence=confidence,
            alternatives=alternatives,
        )
