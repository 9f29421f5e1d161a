"""What is done to the target's logits before the warps: a bias, penalties, and no end before its time.

The order is Hugging Face's, with the OpenAI penalties behind the repetition penalty as in vLLM: logit bias, repetition,
frequency, presence, least length; then temperature and truncation. Penalties depend on what was generated before, so
at each node of a draft tree they are computed on that node's hypothetical prefix: the row so far and the path down to
the node. That makes every lossless rule lossless with them too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from specterm.decoding.tree import DraftTree


@dataclass(frozen=True, slots=True)
class Processing:
    """How logits are changed; by default they are not.

    repetition: logits of the tokens of prompt and output are divided by it where positive, multiplied where negative
    (Keskar et al. 2019, CTRL, section 4.1). presence is taken off the logit of each token of the output, frequency once
    for each time it occurs there. bias: token ids and what is added to their logits. min_tokens: no end-of-sequence
    token comes before the output has this many.
    """

    repetition: float = 1.0
    presence: float = 0.0
    frequency: float = 0.0
    bias: tuple[tuple[int, float], ...] = ()
    min_tokens: int = 0

    @property
    def penalizes(self) -> bool:
        """Whether what was generated matters."""
        return self.repetition != 1.0 or self.presence != 0.0 or self.frequency != 0.0


class LogitsProcessor:
    """Applies a `Processing` to the logits of rows, and remembers what each row has by its slot."""

    def __init__(self, processing: Processing, rows: int, vocab_size: int, eos: Sequence[int], device: torch.device):
        self._how = processing
        self._eos = torch.tensor(sorted(eos), dtype=torch.int64, device=device)
        self._outputs = [0] * rows  # tokens emitted, by slot
        kept = (rows, vocab_size) if processing.penalizes else (0, vocab_size)
        self._prompted = torch.zeros(kept, dtype=torch.bool, device=device)
        self._counts = torch.zeros(kept, dtype=torch.float32, device=device)
        self._bias = torch.zeros(vocab_size, dtype=torch.float32, device=device) if processing.bias else None
        if self._bias is not None:
            ids, values = zip(*processing.bias, strict=True)
            self._bias.index_put_((torch.tensor(ids, device=device),), torch.tensor(values, device=device), True)

    def admit(self, slot: int, prompt_ids: Sequence[int]) -> None:
        """A prompt took a slot."""
        self._outputs[slot] = 0
        if self._how.penalizes:
            self._counts[slot] = 0.0
            self._prompted[slot] = False
            self._prompted[slot, torch.tensor(prompt_ids, device=self._prompted.device)] = True

    def emitted(self, slot: int, tokens: Sequence[int]) -> None:
        """A row went on."""
        self._outputs[slot] += len(tokens)
        if self._how.penalizes:
            ids = torch.tensor(tokens, dtype=torch.int64, device=self._counts.device)
            self._counts[slot].index_add_(0, ids, torch.ones_like(ids, dtype=torch.float32))

    def __call__(self, logits: Tensor, slots: Sequence[int], tree: DraftTree) -> Tensor:
        """The logits to warp, [B, T, V], in float32 or float64.

        logits: [B, T, V], after the last token of each of the rows `slots`, and after each node of `tree`.
        """
        scores = logits if logits.dtype == torch.float64 else logits.float()
        if self._bias is not None:
            scores = scores + self._bias
        if self._how.penalizes:
            scores = self._penalized(scores, slots, tree)
        return self._prolonged(scores, slots, tree) if self._how.min_tokens else scores

    def _penalized(self, scores: Tensor, slots: Sequence[int], tree: DraftTree) -> Tensor:
        how, rows = self._how, torch.tensor(slots, device=scores.device)
        counts = self._counts[rows].unsqueeze(1).repeat(1, scores.shape[1], 1)
        counts.scatter_add_(2, tree.tokens.unsqueeze(1).expand(-1, scores.shape[1], -1), _on_path(tree))
        occurs = counts > 0.0
        if how.repetition != 1.0:
            seen = occurs | self._prompted[rows].unsqueeze(1)
            scores = torch.where(
                seen, torch.where(scores < 0.0, scores * how.repetition, scores / how.repetition), scores
            )
        return scores - how.frequency * counts - how.presence * occurs

    def _prolonged(self, scores: Tensor, slots: Sequence[int], tree: DraftTree) -> Tensor:
        outputs = torch.tensor([[self._outputs[slot]] for slot in slots], device=scores.device)
        early = outputs + tree.topology.depth < self._how.min_tokens
        ends = torch.zeros(scores.shape[2], dtype=torch.bool, device=scores.device).index_fill_(0, self._eos, True)
        return scores.masked_fill(early.unsqueeze(2) & ends, float("-inf"))


def _on_path(tree: DraftTree) -> Tensor:
    """1 where a draft node is on the path down to a node, itself included: float32 [B, T, N]."""
    visible, size = tree.topology.visible, tree.topology.size
    if visible is None:
        visible = torch.ones((1, size, size), dtype=torch.bool, device=tree.tokens.device).tril()
    return visible[:, :, 1:].to(torch.float32).expand(len(tree.tokens), -1, -1)
