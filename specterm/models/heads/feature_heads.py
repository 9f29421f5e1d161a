"""What EAGLE and EAGLE-3 heads have in common: a small autoregressive model on the target's features.

Pair i is the feature of token i and the token i + 1 itself; from it come the logits of token i + 2 and the feature of
token i + 1, which takes the place of the target's own where that is not known yet. Pairs have slots and positions of
their own, i, in a cache of their own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specterm.decoding.ports import Beam, Block, Gate
from specterm.errors import ModelError
from specterm.models.attention import grouped_attention, grouped_mask, signed
from specterm.models.cache import SlotCache, positions_of, visibility
from specterm.models.cached import Cached
from specterm.models.compiled.matrix import CompiledMatrix
from specterm.models.compiled.rows import CompiledLayers, suit
from specterm.models.heads.head_config import HeadConfig
from specterm.models.heads.head_layer import Attend, HeadLayer, Linear, Rotary
from specterm.models.masks import Masks
from specterm.models.norm import RmsNorm
from specterm.models.products import PackedLinear, for_drafting, may_hold, narrowest
from specterm.models.rope import rope_tables
from specterm.models.row_layers import Floats, RowLayers, Through, places
from specterm.models.runners.compiled_passes import UNNORMED, CompiledPasses, HeadFront
from specterm.models.runners.graphs import ForwardGraphs, Update
from specterm.models.runners.one_row import filling


class FeatureHeads(Cached, nn.Module, ABC):
    """Heads with `fuse`, `advance` and `logits` of their kind. H is their `hidden_size`, W their vocabulary.

    taps: what they read of the target (see `Runner.forward_tapped`); token_ids: int64 [W], the target's ids of a
    truncated vocabulary, None where it is the target's own.
    """

    taps: tuple[int, ...]
    following = UNNORMED
    """Which state behind the layers is the next feature: this or `FINAL_NORM`."""
    token_ids: Tensor | None

    def __init__(
        self, config: HeadConfig, layers: Sequence[HeadLayer], embedding: Tensor, token_ids: Tensor | None
    ) -> None:
        """embedding: [V, H], of the target's tokens.

        Raises:
            ModelError: the config asks for rotary embeddings of a kind that is not known here.
        """
        super().__init__()
        self.hidden_size, self.max_positions = config.hidden, config.max_positions
        self.config = config
        self.linear: Linear = F.linear
        self.packed_bytes = 0
        """What packed weights take, which are parameters no more."""
        self._rows: RowLayers | CompiledLayers | None = None
        self._whole: CompiledPasses | None = None
        self._fill: Callable[[Sequence[int], Floats], None] | None = None
        group = config.heads // config.kv_heads
        self._masks = Masks(group, torch.float32, torch.device("cpu"), config.max_positions)
        self._layers = nn.ModuleList(layers)
        # Weights of the target and tables: no part of what is trained or saved.
        self.register_buffer("embedding", embedding.detach(), persistent=False)
        self.register_buffer("token_ids", token_ids, persistent=False)
        self._make_rotary_tables()

    def _make_rotary_tables(self) -> None:
        config = self.config
        tables = rope_tables({**config.options, "head_dim": config.head_dim}, config.max_positions, torch.device("cpu"))
        if tables is None:
            kind = config.options.get("rope_scaling") or config.options.get("rope_parameters")
            raise ModelError(f"the heads in {config.folder} want rotary embeddings of a kind not known here: {kind}")
        self.register_buffer("_cos", tables[0], persistent=False)
        self.register_buffer("_sin", tables[1], persistent=False)

    @property
    def layers(self) -> list[HeadLayer]:
        """The transformer layers, first to last."""
        return [cast(HeadLayer, layer) for layer in self._layers]

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the weights."""
        return self._table("_cos").dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._table("_cos").device

    def _table(self, name: str) -> Tensor:
        """A buffer; `get_buffer` takes longer than a small operation."""
        table = self._buffers[name]
        assert table is not None
        return table

    def pack(self, *, eight_bits: bool = False) -> None:
        """Hold the weights as a CPU multiplies with them fastest, as far as it loses nothing, or in 8 bits; for
        decoding, not for training. What is held is two layouts of 16 bits a weight, or fewer, instead of one of 32."""
        if self.device.type != "cpu" or self.dtype not in (torch.float32, torch.bfloat16):
            return
        pack = for_drafting(self.layers[0].gate_up.float(), eight_bits)
        if pack is None:
            return
        if self.dtype != torch.float32:
            self.float()
            self._make_rotary_tables()  # which were rounded
        packed = PackedLinear(pack)
        modules: list[FeatureHeads | HeadLayer] = [self, *self.layers]
        for module in modules:
            module.linear = packed
            for name, weight in list(module.named_parameters(recurse=False)):
                if weight.ndim == 2 and may_hold(pack, weight):
                    narrow = packed.pack(weight.detach())
                    delattr(module, name)
                    module.register_buffer(name, narrow, persistent=False)
        self.register_buffer("embedding", narrowest(self.get_buffer("embedding")), persistent=False)
        self._fill = filling(self.get_buffer("embedding"))
        self.packed_bytes = packed.nbytes
        if all(layer.norms_agree for layer in self.layers):
            tables = self.get_buffer("_cos"), signed(self.get_buffer("_sin"))
            layers = [layer.for_rows(packed) for layer in self.layers]
            norms = [layer.row_norm() for layer in self.layers]
            if suit(self.config, layers) and eight_bits and None not in norms[1:]:
                front, norm, judge = self.ends(packed)
                if front.kind == "beside":
                    norms[0] = None  # it is part of the front
                embedding = self.get_buffer("embedding")
                self._whole = CompiledPasses(
                    self.config, norms, layers, embedding, norm, judge, *tables, self.config.eps, front
                )
            elif suit(self.config, layers):
                none, width = [None] * len(layers), self.layers[0].qkv.shape[1]
                self._rows = CompiledLayers(self.config, layers, none, *tables, self.config.eps, width)
            else:
                self._rows = RowLayers(self.config, layers, *tables)

    def allocate(self, rows: int, capacity: int) -> None:
        """See `Runner`."""
        super().allocate(rows, capacity)
        if self._graphs is None and self.device.type == "cuda":
            self._graphs = ForwardGraphs(self._captured, self.device, self.max_positions)

    @torch.inference_mode()
    def forward(self, block: Block, features: Tensor, last: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        """One pass over the pairs of `block`: `block.ids`, [B, T], are the tokens, `features`, [B, T, H], those of the
        tokens before them.

        Returns logits, [B, T, W], or [B, 1, W] of pair last[b] of each row, and the next features, [B, T, H].
        """
        cache, features = self.cache, features.to(self.dtype)
        assert cache is not None, "allocate() comes first"
        if self._graphs is not None:
            found = self._graphs.forward(cache, block, len(self._layers), features=features)
            if found is not None:
                return found if last is None else (_picked(found[0], last), found[1])
        cache.begin(block)
        rows, whole = self._rows, self._whole
        if whole is not None and whole.takes(block) and len(cache.layers()) == len(self._layers):
            logits, states = whole.forward(cache, block, len(self._layers), (self.following,), last, features)
            assert states is not None
            return logits, states
        if rows is not None and rows.takes(block) and len(cache.layers()) == len(self._layers):
            following = self.advance(block.ids, features, self._through_rows(rows, cache, block))
        else:
            positions = positions_of(block, self.max_positions)
            following = self._through(block.ids, positions, visibility(block), cache.update_both, features)
        return self.logits(following if last is None else _picked(following, last)), following

    @torch.inference_mode()
    def beam(
        self, row: int, start: int, tokens: Sequence[int], features: Tensor, ranks: int, depth: int, found: int,
        gate: Gate | None,
    ) -> Beam | None:  # fmt: skip
        """See `Beams`; features: those in front of `tokens`, [T, H]. Tokens that are found are the target's."""
        cache, whole = self.cache, self._whole
        if whole is None or cache is None or len(cache.layers()) < len(self._layers):
            return None
        cache.claim(row, start, start + len(tokens) + ranks * (depth - 1))
        features = features.to(self.dtype)
        return whole.beam(
            cache,
            len(self._layers),
            row,
            start,
            tokens,
            ranks,
            depth,
            found,
            None,
            gate,
            features,
            self.following,
            self.token_ids,
        )

    def _captured(
        self, ids: Tensor, positions: Tensor, seen: Tensor, update: Update, features: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `FeatureCompute`."""
        following = self._through(ids, positions, seen, update, features)
        return self.logits(following), following

    def _through(self, ids: Tensor, positions: Tensor, seen: Tensor | None, update: Update, features: Tensor) -> Tensor:
        """The next features, [B, T, H]; positions: int64 [B, T]; seen: see `visibility`."""
        mask = grouped_mask(seen, self.config.heads // self.config.kv_heads, self.dtype)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = update(layer, torch.cat((k, v), dim=2))
            return grouped_attention(q, keys, values, mask)

        return self.advance(ids, features, self.through_layers(positions, attend))

    def _through_rows(self, rows: RowLayers | CompiledLayers, cache: SlotCache, block: Block) -> Through:
        """Through the layers with a few tokens."""
        if isinstance(rows, CompiledLayers):
            return rows.through(cache, block, self.max_positions)
        where, mask = places(block, self.max_positions), self._masks.mask(block)
        here = rows.begin(cache, block.rows[0], block.starts[0] + block.first, block.width, where, mask)
        buffers = rows.buffers(block.width)

        def through(index: int, x: Tensor, residual: Tensor) -> Tensor:
            buffers.x[:] = residual[0].numpy()
            rows.layer(index, x[0], buffers, here)
            return torch.from_numpy(buffers.x.copy()).unsqueeze(0)

        return through

    def through_layers(self, positions: Tensor, attend: Attend) -> Through:
        """Through the layers with tokens at `positions`, int64 [B, T], that attend as `attend` says."""
        rotary = self.rotary(positions)
        return lambda index, x, residual: self.layers[index](x, residual, rotary, attend)

    def rotary(self, positions: Tensor) -> Rotary:
        """Cosines and sines of `positions`, int64 [B, T]."""
        return self._table("_cos")[positions].unsqueeze(2), self._table("_sin")[positions].unsqueeze(2)

    def embed(self, ids: Tensor) -> Tensor:
        """The embeddings of the target's tokens `ids`: [B, T] -> [B, T, H]."""
        return F.embedding(ids, self._table("embedding")).to(self.dtype)

    def embed_beside(self, ids: Tensor, features: Tensor) -> Tensor:
        """What `embed` gives of `ids`, [B, T], and behind each the feature, [B, T, H]: [B, T, 2 * H]."""
        if self._fill is None:
            return torch.cat([self.embed(ids), features], dim=-1)
        (rows, width), hidden = ids.shape, self.hidden_size
        both = np.empty((rows * width, 2 * hidden), dtype=np.float32)
        self._fill(ids.ravel().tolist(), both[:, :hidden])
        both[:, hidden:] = features.numpy().reshape(-1, hidden)
        return torch.from_numpy(both).view(rows, width, -1)

    @abstractmethod
    def ends(self, packed: PackedLinear) -> tuple[HeadFront, RmsNorm | None, CompiledMatrix]:
        """For `CompiledPasses`, of heads that are packed in 8 bits: what is in front of the layers, the norm behind
        them, and what gives the logits."""

    @abstractmethod
    def fuse(self, taps: Tensor) -> Tensor:
        """Features, [..., H], from the target's hidden states at `taps`, one after the other, [..., F]."""

    @abstractmethod
    def advance(self, ids: Tensor, features: Tensor, through: Through) -> Tensor:
        """The next features, [B, T, H], from tokens, [B, T], and the features before them, [B, T, H]; `through` takes
        them through the layers."""

    @abstractmethod
    def logits(self, features: Tensor) -> Tensor:
        """Logits [..., W] of the token after next, from what `advance` gave."""


def _picked(x: Tensor, last: Sequence[int]) -> Tensor:
    """x[b, last[b]] of each row: [B, T, ...] -> [B, 1, ...]."""
    if len(last) == 1:
        return x.narrow(1, last[0], 1)
    rows = torch.arange(len(last), device=x.device)
    return x[rows, torch.tensor(last, device=x.device)].unsqueeze(1)
