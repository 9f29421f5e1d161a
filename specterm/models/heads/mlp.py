"""The MLP speculator (Wertheimer et al. 2024, arXiv 2404.19124): the module and its published layout.

A small recurrence that begins from the target's hidden state behind its final norm at token t, and reads the token
after it: s_0 is the hidden state (with `scale_input` normalised to a root mean square of sqrt(1/2)), and level i, which
has read token t + 1 + i, makes

    s_{i+1} = GELU(norm_i(a * proj_i(s_i) + b * emb_i(token)))    logits of token t + 2 + i = head_i(s_{i+1})

with a = 2^(-1/(2n)) and b = sqrt((1 - a^2) * inner / 2) for n levels of width `inner`: by the last level the state and
the tokens weigh the same. norm is a root-mean-square norm with weight and bias.

Layout: config.json with `emb_dim`, `inner_dim` (0: as emb_dim), `n_predict`, `vocab_size`, `tie_weights`,
`scale_input`; tensors `speculator.{emb,proj,ln,head}.{level}.weight` and `speculator.ln.{level}.bias`. With
`tie_weights` all levels share one embedding, norm and head, and those after the first one projection; then the first
of each is read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specterm.decoding.ports import Runner
from specterm.errors import ModelError
from specterm.models.compiled.matrix import CompiledMatrix
from specterm.models.folders import read_config
from specterm.models.heads.checkpoint import Checkpoint
from specterm.models.heads.compiled_mlp import CompiledMlp, padded
from specterm.models.heads.head_layer import Linear
from specterm.models.norm import RmsNorm
from specterm.models.products import PackedLinear, for_drafting, may_hold

FILES = ("model.safetensors", "pytorch_model.bin")
_WANTED = "the target and the config need"
_EPS = 1e-6


class MLPSpeculator(nn.Module):
    """The speculator of one target. Where fewer weights of a kind are given than levels, the last one goes on serving.

    emb: [V, inner] each; proj: [inner, hidden], then [inner, inner]; norm: weight and bias, [2, inner]; head:
    [V, inner].
    """

    emb: Sequence[Tensor]
    proj: Sequence[Tensor]
    norm: Sequence[Tensor]
    head: Sequence[Tensor]

    def __init__(
        self,
        levels: int,
        emb: Sequence[Tensor],
        proj: Sequence[Tensor],
        norm: Sequence[Tensor],
        head: Sequence[Tensor],
        scale_input: bool,
    ) -> None:
        super().__init__()
        self.levels, self.scale_input = levels, scale_input
        for name, weights in {"emb": emb, "proj": proj, "norm": norm, "head": head}.items():
            setattr(self, name, nn.ParameterList(nn.Parameter(weight, requires_grad=False) for weight in weights))
        self._linear: Linear = F.linear
        self._norms: list[RmsNorm] = []  # of the levels, as far as weights are packed
        self._first_norm: RmsNorm | None = None
        self._compiled: list[CompiledMlp | None] = []  # of the levels, where they are packed
        self.packed_bytes = 0
        """What packed weights take, which are parameters no more."""
        self._state_weight = 0.5 ** (0.5 / levels)
        self._token_weight = math.sqrt((1.0 - self._state_weight**2) * self.inner_size / 2.0)

    @staticmethod
    def untrained(embedding: Tensor, lm_head: Tensor, inner: int, levels: int) -> MLPSpeculator:
        """A tied one with scaled input for a target of these weights, [V, hidden], in float32; inner <= hidden.

        Its tokens stand to one another as the target's do, along the main directions of the target's weights, and its
        states are the target's along those of the head: from random weights its loss falls more slowly.
        """
        emb, head = (weight.detach().float().cpu() for weight in (embedding, lm_head))
        proj = [_directions(head, inner).T.contiguous(), torch.eye(inner)]
        emb, head = (weight @ _directions(weight, inner) for weight in (emb, head))
        emb, head = (weight * (inner**-0.5 / weight.std()) for weight in (emb, head))
        norm = torch.stack([torch.ones(inner), torch.zeros(inner)])
        return MLPSpeculator(levels, [emb], proj, [norm], [head], scale_input=True)

    @property
    def hidden_size(self) -> int:
        """The width of the hidden states that it begins from."""
        return int(self.proj[0].shape[1])

    @property
    def inner_size(self) -> int:
        """The width of its own states."""
        return int(self.proj[0].shape[0])

    @property
    def vocab_size(self) -> int:
        """V."""
        return int(self.head[0].shape[0])

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the weights."""
        return self.norm[0].dtype

    def pack(self, *, eight_bits: bool = False) -> None:
        """See `FeatureHeads`."""
        if self.norm[0].device.type != "cpu" or self.dtype not in (torch.float32, torch.bfloat16):
            return
        pack = for_drafting(self.head[0].detach().float(), eight_bits)
        if pack is None or not all(may_hold(pack, weight.float()) for weight in (*self.proj, *self.head)):
            return
        self.float()
        packed = PackedLinear(pack)
        proj, head = ([packed.pack(weight.detach()) for weight in own] for own in (self.proj, self.head))
        del self.proj, self.head
        self.proj, self.head, self._linear = proj, head, packed
        self._norms = [RmsNorm(norm[0].detach(), _EPS) for norm in self.norm]
        self._first_norm = RmsNorm(torch.full((self.hidden_size,), math.sqrt(0.5)), _EPS)
        self.packed_bytes = packed.nbytes
        tables = [padded(emb.detach()) for emb in self.emb]
        self._compiled = [self._compile(level, packed, tables) for level in range(self.levels)]
        if None not in self._compiled:  # the tables are held in the place of the embeddings
            del self.emb
            self.emb = [table[:, : self.inner_size] for table in tables]
            self.packed_bytes += sum(table.nbytes for table in tables)

    def _compile(self, level: int, packed: PackedLinear, tables: Sequence[Tensor]) -> CompiledMlp | None:
        """A level in one call, where that is possible."""
        _, proj, norm, head = self._weights(level)
        first, last = packed.product(proj), packed.product(head)
        if not isinstance(first, CompiledMatrix) or not isinstance(last, CompiledMatrix):
            return None
        weights, emb = (self._state_weight, self._token_weight), tables[min(level, len(tables) - 1)]
        return CompiledMlp(first, last, emb, norm.detach(), weights, _EPS)

    def _weights(self, level: int) -> tuple[Tensor, ...]:
        """emb, proj, norm and head of a level."""
        kinds = self.emb, self.proj, self.norm, self.head
        return tuple(weights[min(level, len(weights) - 1)] for weights in kinds)

    def begin(self, hidden: Tensor) -> Tensor:
        """The first state from the target's, [..., hidden]."""
        if not self.scale_input:
            return hidden
        if self._first_norm is not None:
            return self._first_norm(hidden)
        return F.rms_norm(hidden, hidden.shape[-1:], eps=_EPS) / math.sqrt(2.0)

    def forward(self, states: Tensor, ids: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """Read one more token at `level`, from 0: states [..., S] and the tokens after them, int64 [...], give logits
        [..., V] of the next ones and the states [..., inner] of the next level."""
        compiled = self._compiled[level] if self._compiled else None
        if compiled is not None and ids.numel() <= compiled.most_states:
            return compiled(states, ids)
        emb, proj, norm, head = self._weights(level)
        mixed = self._state_weight * self._linear(states, proj) + self._token_weight * F.embedding(ids, emb)
        if self._norms:
            normed = self._norms[min(level, len(self._norms) - 1)](mixed)
        else:
            normed = F.rms_norm(mixed, mixed.shape[-1:], norm[0], _EPS)
        states = F.gelu(normed + norm[1])
        return self._linear(states, head), states

    def published(self) -> dict[str, Tensor]:
        """The tensors under their published names."""
        kinds = {"emb": self.emb, "proj": self.proj, "head": self.head}
        tensors = {
            f"speculator.{kind}.{level}.weight": weight
            for kind, weights in kinds.items()
            for level, weight in enumerate(weights)
        }
        for level, norm in enumerate(self.norm):
            tensors |= {f"speculator.ln.{level}.weight": norm[0], f"speculator.ln.{level}.bias": norm[1]}
        return tensors


def _directions(weight: Tensor, count: int) -> Tensor:
    """The `count` directions, [hidden, count], in which the rows of `weight` [V, hidden] are largest."""
    directions: Tensor = torch.linalg.eigh(weight.T @ weight).eigenvectors[:, -count:]
    return directions


def read_mlp(folder: Path, target: Runner) -> MLPSpeculator:
    """The speculator in `folder`, for `target`, on its device and in its number format.

    Raises:
        ModelError: a file is missing or broken, or a size or tensor does not fit the target; the text names it.
    """
    file = Checkpoint.read(folder, FILES, "MLP speculator").renamed(lambda name: name.removeprefix("speculator."))
    config = read_config(folder)
    hidden, vocab = target.hidden_size, target.vocab_size
    for key, ours in (("emb_dim", hidden), ("vocab_size", vocab)):
        if (theirs := config.get(key, ours)) != ours:
            raise ModelError(f"{key} of the MLP speculator in {folder} is {theirs}; the target's is {ours}")
    levels, inner = _size(config, "n_predict", folder), _size(config, "inner_dim", folder, zero_means=hidden)
    tied = bool(config.get("tie_weights"))

    def read(kind: str, count: int, *shapes: tuple[int, ...]) -> list[Tensor]:
        wanted = [shapes[min(level, len(shapes) - 1)] for level in range(count)]
        return [file.get(f"{kind}.{level}.weight", shape, _WANTED) for level, shape in enumerate(wanted)]

    alike = 1 if tied else levels
    emb, head = read("emb", alike, (vocab, inner)), read("head", alike, (vocab, inner))
    proj = read("proj", min(2, levels) if tied else levels, (inner, hidden), (inner, inner))
    biases = [file.get(f"ln.{level}.bias", (inner,), _WANTED) for level in range(alike)]
    norm = [torch.stack(pair) for pair in zip(read("ln", alike, (inner,)), biases, strict=True)]
    speculator = MLPSpeculator(levels, emb, proj, norm, head, scale_input=bool(config.get("scale_input")))
    return speculator.to(target.device, target.dtype)


def _size(config: dict[str, Any], key: str, folder: Path, zero_means: int = 0) -> int:
    value = config.get(key, zero_means) or zero_means
    if not isinstance(value, int) or value < 1:
        raise ModelError(f"config.json in {folder} says that {key} is {config.get(key)!r}; it must be a number above 0")
    return value
