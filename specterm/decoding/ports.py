"""What the decode loop needs from outside, as protocols, and the data that passes between them.

B is the number of rows that take part, T the tokens of each in a forward (root + nodes), V the target's vocabulary.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from specterm.decoding.sampling import Warps
from specterm.decoding.tree import DraftTree, Topology
from specterm.decoding.verdict import HostVerdict, Verdict


@dataclass(frozen=True, slots=True)
class Block:
    """The new tokens of one forward pass.

    rows: cache rows, one for each of B; starts: the committed length of each, on the host; ids: int64 [B, T]. Tokens
    are nodes first, first + 1, ... of `topology`, whose earlier nodes earlier passes have written. Node n of row b has
    slot starts[b] + n and position starts[b] + depth(n), and sees the slots before starts[b] and the nodes that
    `topology` shows it.
    """

    rows: tuple[int, ...]
    starts: tuple[int, ...]
    ids: Tensor
    topology: Topology
    first: int = 0

    @property
    def width(self) -> int:
        """T, the tokens of each row."""
        return self.ids.shape[1]

    @property
    def end(self) -> int:
        """One past the last slot that is written or read."""
        return max(self.starts) + self.first + self.width


FINAL_NORM = -1
"""The tap behind the final norm."""


class LanguageModel(Protocol):
    """What gives logits after tokens, and keeps their keys and values in slots."""

    vocab_size: int
    max_positions: int
    device: torch.device

    def forward(self, block: Block, last: Sequence[int] | None = None) -> Tensor:
        """Logits after the tokens of `block`: [B, T, V], or [B, 1, V] of token last[b] of each row."""


@runtime_checkable
class TokenSteps(Protocol):
    """What a model with a slot cache may offer besides `LanguageModel`: one row's chains at less cost."""

    def step(self, row: int, position: int, token: int) -> Tensor:
        """Write one token of cache row `row` to the slot of its position; the logits after it, [V]."""


@runtime_checkable
class ChainsInOne(Protocol):
    """What a model may offer besides `LanguageModel`: a whole chain as one piece of work for its device."""

    def chain(self, block: Block, steps: int, vocab_size: int) -> tuple[Tensor, Tensor] | None:
        """`steps` forward passes, over `block` (one token of each row) and then over the likeliest of the first
        `vocab_size` tokens each time. Those tokens, int64 [B, steps], and the logits, [B, steps, V]; None where that is
        not possible now, and nothing was done."""


@runtime_checkable
class Chains(Protocol):
    """What a model with a slot cache may offer besides `LanguageModel`: one row's chain in one piece, where the host
    computes. Both write `tokens` to the slots from `start` on, and behind them up to `most` tokens, but for the last of
    those. Both give None where that is not possible now, and nothing was done."""

    def greedy_chain(
        self, row: int, start: int, tokens: Sequence[int], most: int, least: float, vocab_size: int
    ) -> tuple[list[int], list[float], Tensor] | None:
        """Each is the likeliest of the first `vocab_size`. The chain ends with the token at which the product of their
        probabilities falls below `least`. Those tokens, their probabilities by the plain softmax, and, until the next
        call, a tensor whose first rows are the logits that they are the likeliest of, [.., V]."""

    def sampled_chain(
        self, row: int, start: int, tokens: Sequence[int], most: int, vocab_size: int, warps: Warps, key: int,
        index: int,
    ) -> tuple[list[int], Tensor] | None:  # fmt: skip
        """Each is drawn from the warped law, by the random numbers of `key`, a purpose's, from `index` on. Those
        tokens, and, until the next call, a tensor whose first rows are the laws, over the target's vocabulary of
        `vocab_size`, [.., vocab_size]."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Which paths of a beam are worth a level more: see `Budget.paths`. right: how many nodes are kept for each that is
    promised; worths: the tokens that each further level must bring; path: the part of it that each path must."""

    right: float
    worths: tuple[float, ...]
    path: float


@dataclass(frozen=True, slots=True)
class Beam:
    """What was grown of one row, level by level; ranks and found: as was asked for, or all tokens. paths: how many each
    level is below; chosen: which of its candidates, `ranks` of each path, go on; tokens, confidence:
    [level][path * found + place], the likeliest first, and their probabilities after the path."""

    ranks: int
    found: int
    paths: list[int]
    chosen: list[list[int]]
    tokens: list[list[int]]
    confidence: list[list[float]]


@runtime_checkable
class Beams(Protocol):
    """What a model with a slot cache may offer besides `LanguageModel`: one row's beams in one piece, where the host
    computes."""

    def beam(
        self, row: int, start: int, tokens: Sequence[int], ranks: int, depth: int, found: int, vocab_size: int,
        gate: Gate | None,
    ) -> Beam | None:  # fmt: skip
        """Write `tokens` to the slots from `start` on, and nodes behind them. At each of up to `depth` levels `found`
        of the first `vocab_size` tokens, the likeliest, are told of behind each path, and the `ranks` likeliest paths
        go on, or as many as `gate` lets. None where that is not possible now, and nothing was done."""


class Runner(LanguageModel, Protocol):
    """A model with a slot KV cache. Rollback is not advancing a length: the caller keeps the lengths."""

    hidden_size: int
    layers: int
    dtype: torch.dtype

    def head_weight(self) -> Tensor:
        """The weight of the language-model head, [V, hidden]."""

    def through_head(self, states: Tensor) -> Tensor:
        """`states`, [..., hidden], times the transposed weight of the language-model head, [..., V]."""

    def embedding_weight(self) -> Tensor:
        """The table of token embeddings, [V, hidden], before any scaling that the model applies."""

    def kv_token_bytes(self) -> int | None:
        """Bytes that the cache takes for one token of one row; None before the first forward pass."""

    def allocate(self, rows: int, capacity: int) -> None:
        """Make room for `rows` sequences of `capacity` slots each; keeps the cache when it is already large enough, and
        what is in it as far as it fits."""

    def release(self) -> None:
        """Give the cache's memory back, and forget what is in it; `allocate` comes first again."""

    def kept(self) -> Sequence[Hashable]:
        """What the first slots of cache row 0 hold, as `keep` was told, as far as nothing was written there since."""

    def keep(self, contents: Sequence[Hashable]) -> None:
        """A sequence ended that leaves `contents` in the first slots of cache row 0, one for each: its tokens."""

    def forward_tapped(
        self, block: Block, taps: Sequence[int], last: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """`forward`, and the hidden states at `taps` of every token, one after the other: [B, T, len(taps) * hidden].

        Tap i is the residual stream that enters layer i (0: the embeddings); `FINAL_NORM` is the output of the final
        norm, which the language-model head reads.
        """

    def early_exit(self, layers: int) -> LanguageModel:
        """The first `layers` layers (1 to all but one), the final norm and the head as a model of their own. It shares
        the cache: it reads and writes the slots of its layers, and leaves those of the others alone.

        Raises:
            ModelError: this architecture cannot be left early.
        """

    def remark(self) -> str | None:
        """Why its passes are slower than they could be; None where they are not, as far as it knows."""

    def compact(self, rows: Sequence[int], starts: Sequence[int], path: Tensor) -> None:
        """Move the KV of an accepted branch together: slot starts[b] + path[b, d] goes to starts[b] + d.

        path: int64 [B, D + 1], node indices from the root down; entries beyond the accepted ones are harmless.
        """


@dataclass(frozen=True, slots=True)
class Recording:
    """What is recorded besides tokens and states: probabilities, and how many alternatives at each node (0: none)."""

    probs: bool = False
    alternatives: int = 0

    @property
    def shows_nodes(self) -> bool:
        """Whether anything is recorded of a node."""
        return self.probs or self.alternatives > 0


@dataclass(frozen=True, slots=True)
class ProposeRow:
    """What a drafter is told of one row: its cache row, how deep its tree may be (0: it gets none, and no time should
    be spent on it), the key of its random numbers and the number of its round."""

    row: int
    limit: int
    key: int
    round: int


@dataclass(frozen=True, slots=True)
class Needs:
    """What a drafter wants from the target's passes: the ids of its `top_k` likeliest tokens (0: none), and its hidden
    states at `taps` (see `Runner.forward_tapped`)."""

    top_k: int = 0
    taps: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Admission:
    """A prompt that took cache row `row`: prompt_ids, int64 [L], on the host; `first` is its first emitted token, the
    next root.

    taps: [L, F], the target's hidden states at every prompt token, but for those at the beginning that a drafter
    which `RecallsPrompts` can do without. top_ids: the ids of the target's likeliest tokens after the prompt, the
    likeliest first. Each is None unless the drafter needs it.
    """

    row: int
    prompt_ids: Tensor
    first: int
    taps: Tensor | None = None
    top_ids: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Feedback:
    """What one row really emitted in a round: `accepted` draft tokens, then the target's own token.

    top_ids: the ids of the target's likeliest tokens after the root and after each accepted node, accepted + 1 lists
    with the likeliest first. taps: [accepted + 1, F], the target's hidden states at the same tokens. Each is None
    unless the drafter needs it.
    """

    row: int
    emitted: tuple[int, ...]
    accepted: int
    top_ids: tuple[tuple[int, ...], ...] | None = None
    taps: Tensor | None = None


class Drafter(Protocol):
    """Proposes trees. What it writes to its own cache while drafting is scratch; `catch_up` tells what was kept."""

    max_nodes: int
    max_depth: int
    needs: Needs

    def open(self, rows: int, capacity: int) -> None:
        """Prepare for `rows` sequences of at most `capacity` tokens."""

    def admit(self, admission: Admission) -> None:
        """A prompt took a row."""

    def propose(self, rows: Sequence[ProposeRow]) -> DraftTree:
        """A tree for each row, none deeper than its limit. Depths are decided before anything is sampled."""

    def catch_up(self, feedback: Sequence[Feedback]) -> None:
        """Learn what each row that goes on really emitted."""

    def release(self, row: int) -> None:
        """The row's sequence ended."""

    def close(self) -> None:
        """The run ended, well or not; what is to outlast it is put away."""


@runtime_checkable
class RecallsPrompts(Protocol):
    """What a drafter may offer besides `Drafter`: what it made of the beginning of a prompt in an earlier run is still
    there. A drafter that needs taps and does not offer this is given those of every prompt token."""

    def recall(self, row: int, prompt_ids: Sequence[int]) -> tuple[int, ...]:
        """A prompt is about to take `row`, and what is still there of it is to be used. Of each model that has a cache
        of its own, how many tokens at the beginning of the prompt it need not forward again, nor be given taps of;
        empty where no model has to see the prompt."""


@dataclass(frozen=True, slots=True)
class Judging:
    """What a rule is told besides trees and logits: the warps of the target, the rows' random keys, the absolute
    position of each root, the number of each row's round, and whether p and q are to be recorded."""

    warps: Warps
    keys: tuple[int, ...]
    positions: tuple[int, ...]
    rounds: tuple[int, ...]
    record: bool


class Rule(Protocol):
    """Decides which path of a tree is kept and which token follows it."""

    def verify(self, tree: DraftTree, logits: Tensor, judging: Judging) -> Verdict | HostVerdict:
        """Judge `tree` by the target's `logits` [B, N + 1, V] after the root and after every node."""


class Detokenizer(Protocol):
    """Turns token ids into text."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, without special tokens; an incomplete character shows as U+FFFD."""

    def piece(self, token: int) -> str | None:
        """What a token adds to any text whose last character is complete; None where that depends on the text, or is
        not known."""
