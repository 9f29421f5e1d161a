"""Medusa heads (Cai et al. 2024, arXiv 2401.10774): the module, and the two layouts in which they are published.

Head i reads x, the target's hidden state at token t behind the final norm, and predicts token t + 2 + i (the target's
own head predicts t + 1): logits = lm_head_i(r(x)), where every layer of r is x + SiLU(W x + b).

Layouts: `medusa_lm_head.pt` or `.safetensors` with `{head}.{layer}.linear.weight` and `{head}.{layers}.weight`; and
the one converted for vLLM with `blocks.{head}.layers.{layer}.weight` and `lm_heads.{head}.weight`. How many heads and
layers there are is read from the tensors: published configs are wrong about it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specterm.decoding.host import Ranked
from specterm.decoding.ports import Runner
from specterm.errors import ModelError
from specterm.models.compiled.matrix import CompiledMatrix
from specterm.models.heads.checkpoint import Checkpoint
from specterm.models.heads.compiled_medusa import CompiledMedusa
from specterm.models.products import Packing, Product, for_drafting, may_hold, unscaled

FILES = ("medusa_lm_head.safetensors", "medusa_lm_head.pt", "model.safetensors", "pytorch_model.bin")
_PREFIX = re.compile(r"^medusa_heads?\.")
_PUBLISHED = re.compile(r"(\d+)\.(\d+)\.linear\.weight")
_CONVERTED = re.compile(r"blocks\.(\d+)\.layers\.(\d+)\.weight")
_LANES = 16
"""Widths are multiples of the widest vectors."""


class _Packed:
    """The products of heads that decode on a CPU: what reads the target's state is one of all heads, the others are one
    a head."""

    def __init__(self, pack: Packing, weight: Tensor, lm_heads: Tensor) -> None:
        """weight, lm_heads: see `MedusaHeads`; `pack` `may_hold` them."""
        self._first = unscaled(pack(weight[0].flatten(0, 1), None))
        self._further = [[unscaled(pack(own, None)) for own in layer] for layer in weight[1:]]
        self._last = [unscaled(pack(own, None)) for own in lm_heads]
        self.nbytes = sum(p.nbytes for p in (self._first, *chain(*self._further), *self._last))

    def compiled(self, biases: Tensor) -> CompiledMedusa | None:
        """The same in one call, where all products are compiled alike."""
        whole = [self._first, *chain(*self._further), *self._last]
        matrices = [product for product in whole if isinstance(product, CompiledMatrix)]
        if len(matrices) < len(whole) or len({matrix.kind for matrix in matrices}) > 1 or biases.shape[2] % _LANES:
            return None
        heads = len(self._last)
        first, rest, last = matrices[0], matrices[1:-heads], matrices[-heads:]
        layers = [rest[begin : begin + heads] for begin in range(0, len(rest), heads)]
        return CompiledMedusa(first, layers, last, biases)

    def __call__(self, states: Tensor, biases: Tensor) -> Tensor:
        """See `MedusaHeads.forward`."""
        heads = len(self._last)
        y = self._first(states).view(-1, heads, states.shape[1])
        x = states.unsqueeze(1) + F.silu(y.add_(biases[0]))  # [N, heads, hidden]
        for products, bias in zip(self._further, biases[1:], strict=True):
            x = x + F.silu(self._by_head(products, x).transpose(0, 1) + bias)
        return self._by_head(self._last, x)

    @staticmethod
    def _by_head(products: Sequence[Product], x: Tensor) -> Tensor:
        """x[:, i], [N, hidden], through product i: [heads, N, out]."""
        return torch.stack([product(x[:, i]) for i, product in enumerate(products)])


class MedusaHeads(nn.Module):
    """All heads of one target, stacked, so that one batched product serves every head and row.

    weight: [layers, heads, hidden, hidden]; bias: [layers, heads, hidden]; lm_heads: [heads, W, hidden], where W is the
    size of the vocabulary or of `token_ids`, int64 [W], the target's ids of a truncated one.
    """

    token_ids: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor, lm_heads: Tensor, token_ids: Tensor | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.lm_heads = nn.Parameter(lm_heads, requires_grad=False)
        self.register_buffer("token_ids", token_ids)
        self._packed: _Packed | None = None
        self._compiled: CompiledMedusa | None = None
        self._names: list[int] | None = None  # token_ids, for the host

    @staticmethod
    def untrained(lm_head: Tensor, heads: int, layers: int = 1) -> MedusaHeads:
        """Heads that predict what the target's own head, [V, hidden], predicts for the next token: W and b are 0."""
        hidden = lm_head.shape[1]
        return MedusaHeads(
            lm_head.new_zeros((layers, heads, hidden, hidden)),
            lm_head.new_zeros((layers, heads, hidden)),
            lm_head.expand(heads, -1, -1).clone(),
        )

    @property
    def heads(self) -> int:
        """How many tokens ahead they see, beyond the target's own."""
        return self.bias.shape[1]

    @property
    def hidden_size(self) -> int:
        """The width of the hidden states that they read."""
        return self.bias.shape[2]

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the weights."""
        return self.bias.dtype

    @property
    def packed_bytes(self) -> int:
        """What packed weights take, which are parameters no more."""
        return 0 if self._packed is None else self._packed.nbytes

    def pack(self, *, eight_bits: bool = False) -> None:
        """See `FeatureHeads`; packed heads are not to be truncated or published either."""
        if self.bias.device.type != "cpu" or self.dtype not in (torch.float32, torch.bfloat16):
            return
        weight, lm_heads = self.weight.detach().float(), self.lm_heads.detach().float()
        pack = for_drafting(lm_heads[0], eight_bits)
        if pack is not None and all(may_hold(pack, own) for own in (*weight.flatten(0, 1), *lm_heads)):
            self._packed = _Packed(pack, weight, lm_heads)
            del self.weight, self.lm_heads
            self.float()
            self._compiled = self._packed.compiled(self.bias)

    def forward(self, states: Tensor) -> Tensor:
        """Logits [heads, N, W] from hidden states [N, hidden]."""
        if self._packed is not None:
            return self._packed(states, self.bias)
        x = states.expand(self.heads, -1, -1)
        for weight, bias in zip(self.weight, self.bias, strict=True):
            x = x + F.silu(torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2)))
        return torch.bmm(x, self.lm_heads.transpose(1, 2))

    def ranked(self, states: Tensor, count: int) -> list[list[Ranked]] | None:
        """See `RanksAhead`."""
        compiled = self._compiled
        if compiled is None:
            return None
        found = compiled.ranked(states.float(), count)
        if self.token_ids is None:
            return found
        if self._names is None:
            self._names = self.token_ids.tolist()
        names = self._names
        return [[([names[i] for i in ids], chances) for ids, chances in row] for row in found]

    def truncated(self, token_ids: Tensor) -> MedusaHeads:
        """Heads of the whole vocabulary, for `token_ids`, int64 [W], alone."""
        assert self.token_ids is None, "the vocabulary is still whole"
        token_ids = token_ids.to(self.lm_heads.device)
        return MedusaHeads(self.weight.data, self.bias.data, self.lm_heads.data[:, token_ids].contiguous(), token_ids)

    def published(self) -> dict[str, Tensor]:
        """The tensors under their published names; of a truncated vocabulary, under those of the converted layout."""
        layers, tensors = self.weight.shape[0], dict[str, Tensor]()
        converted = self.token_ids is not None
        for head in range(self.heads):
            for layer in range(layers):
                at = f"blocks.{head}.layers.{layer}" if converted else f"{head}.{layer}.linear"
                tensors[f"{at}.weight"] = self.weight[layer, head]
                tensors[f"{at}.bias"] = self.bias[layer, head]
            tensors[f"lm_heads.{head}.weight" if converted else f"{head}.{layers}.weight"] = self.lm_heads[head]
        return tensors if self.token_ids is None else tensors | {"token_map": self.token_ids}


def read_medusa(folder: Path, target: Runner) -> MedusaHeads:
    """The heads in `folder`, for `target`, on its device and in its number format.

    Raises:
        ModelError: the file is missing or broken, a tensor is missing or does not fit the target; the text names it.
    """
    file = Checkpoint.read(folder, FILES, "Medusa heads").renamed(lambda name: _PREFIX.sub("", name))
    heads = _Layouts(file, target.hidden_size, target.vocab_size).heads()
    return heads.to(target.device, target.dtype)


class _Layouts:
    """Heads from the tensors of either layout, for a target of `hidden` and `vocab`."""

    def __init__(self, file: Checkpoint, hidden: int, vocab: int) -> None:
        self._file, self._hidden, self._vocab = file, hidden, vocab

    def heads(self) -> MedusaHeads:
        """The heads, whichever the layout."""
        if found := self._numbered(_PUBLISHED):
            heads, layers = found
            names = [[f"{head}.{layer}.linear" for head in range(heads)] for layer in range(layers)]
            return MedusaHeads(
                torch.stack([torch.stack([self._square(f"{name}.weight") for name in row]) for row in names]),
                torch.stack(
                    [torch.stack([self._file.get(f"{n}.bias", (self._hidden,)) for n in row]) for row in names]
                ),
                torch.stack([self._lm_head(f"{head}.{layers}.weight", None) for head in range(heads)]),
            )
        if found := self._numbered(_CONVERTED):
            heads, layers = found
            names = [[f"blocks.{head}.layers.{layer}" for head in range(heads)] for layer in range(layers)]
            token_ids = self._token_map()
            return MedusaHeads(
                torch.stack([torch.stack([self._square(f"{name}.weight") for name in row]) for row in names]),
                torch.stack([torch.stack([self._bias(f"{name}.bias") for name in row]) for row in names]),
                torch.stack([self._lm_head(self._lm_name(head), token_ids) for head in range(heads)]),
                token_ids,
            )
        raise ModelError(
            f"{self._file.path} holds no Medusa heads: it has neither 0.0.linear.weight nor blocks.0.layers.0.weight"
        )

    def _numbered(self, pattern: re.Pattern[str]) -> tuple[int, int] | None:
        """Heads and layers, from the highest numbers of the names that match; a gap shows as a missing tensor."""
        found = [match for name in self._file.names() if (match := pattern.fullmatch(name))]
        if not found:
            return None
        return 1 + max(int(match[1]) for match in found), 1 + max(int(match[2]) for match in found)

    def _lm_name(self, head: int) -> str:
        """The name of a head's projection in the converted layout; where there is but one, it serves all heads."""
        found = [name for name in self._file.names() if name.startswith(("lm_heads.", "lm_head."))]
        return found[0] if found in (["lm_head.weight"], ["lm_heads.0.weight"]) else f"lm_heads.{head}.weight"

    def _lm_head(self, name: str, token_ids: Tensor | None) -> Tensor:
        full = (self._vocab, self._hidden)
        if token_ids is None:
            return self._file.get(name, full)
        whole = name in self._file and self._file.shape(name)[0] != len(token_ids)
        return self._file.get(name, full)[token_ids] if whole else self._file.get(name, (len(token_ids), self._hidden))

    def _token_map(self) -> Tensor | None:
        if "token_map" not in self._file:
            return None
        ids = self._file.integers("token_map")
        if ids.ndim != 1 or not len(ids) or int(ids.min()) < 0 or int(ids.max()) >= self._vocab:
            raise ModelError(
                f"token_map in {self._file.path} has shape {tuple(ids.shape)} and ids up to "
                f"{int(ids.max()) if ids.numel() else 'none'}; the target has {self._vocab} tokens"
            )
        return ids

    def _square(self, name: str) -> Tensor:
        return self._file.get(name, (self._hidden, self._hidden))

    def _bias(self, name: str) -> Tensor:
        """The converted layout leaves out biases of 0."""
        return self._file.get(name, (self._hidden,)) if name in self._file else torch.zeros(self._hidden)
