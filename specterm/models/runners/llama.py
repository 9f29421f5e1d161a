"""The fused runner of the Llama family: plain PyTorch, one product for q, k and v, one for gate and up.

Covers Llama 2 and 3 (with linear and llama3 RoPE scaling), Mistral without a sliding window, Qwen2 (q, k, v biases) and
Qwen3 (q and k norms), with grouped-query attention and tied or untied embeddings. It reads config.json and safetensors
directly, so that it needs no transformers and starts fast. Everything else goes to the transformers runner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from specterm.decoding.ports import FINAL_NORM, Block, LanguageModel
from specterm.decoding.sampling import Warps
from specterm.decoding.stride_ports import Drafting, Step
from specterm.decoding.tree import Topology
from specterm.models.attention import grouped_attention, grouped_mask, rotate_, signed
from specterm.models.cache import SlotCache
from specterm.models.cached import Cached
from specterm.models.compiled.matrix import CompiledMatrix, in_eight_bits
from specterm.models.compiled.rows import suit
from specterm.models.masks import Masks
from specterm.models.norm import RmsNorm
from specterm.models.products import TARGET_WIDTHS, Plain, Product, may_hold, narrowest, quickest
from specterm.models.rope import rope_tables
from specterm.models.row_layers import Layer
from specterm.models.runners.compiled_passes import CompiledPasses
from specterm.models.runners.early_exit import EarlyExit
from specterm.models.runners.graphs import ForwardGraphs, Update
from specterm.models.runners.in_one_call import InOneCall, LlamaExit
from specterm.models.runners.one_row import OneRow
from specterm.models.runners.strides import StridesByDraft, compile_strides
from specterm.models.weights import ReadTensor, weight_files

_FAMILIES = {"llama", "mistral", "qwen2", "qwen3"}


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a model, from its config."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    max_positions: int
    eps: float
    tied: bool
    qk_norm: bool

    @staticmethod
    def of(config: Mapping[str, Any]) -> Shape:
        """From a Hugging Face config."""
        heads = int(config["num_attention_heads"])
        return Shape(
            layers=int(config["num_hidden_layers"]),
            hidden=int(config["hidden_size"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or int(config["hidden_size"]) // heads),
            vocab=int(config["vocab_size"]),
            max_positions=int(config["max_position_embeddings"]),
            eps=float(config["rms_norm_eps"]),
            tied=bool(config.get("tie_word_embeddings", False)),
            qk_norm=config["model_type"] == "qwen3",
        )


def fits(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether this runner can run the model in `folder`.

    Raises:
        ModelError: see `weight_files`.
    """
    return (
        config.get("model_type") in _FAMILIES
        and _complete(config)
        and config.get("hidden_act", "silu") == "silu"
        and not config.get("mlp_bias")
        and not config.get("quantization_config")
        and not (config.get("model_type") == "mistral" and config.get("sliding_window"))
        and not config.get("use_sliding_window")
        and all(kind == "full_attention" for kind in config.get("layer_types") or ())
        and bool(weight_files(folder))
    )


def _complete(config: Mapping[str, Any]) -> bool:
    """Whether the config says all that is needed here; transformers has defaults for what an old one leaves out."""
    try:
        return Shape.of(config).layers > 0 and rope_tables(config, 1, torch.device("cpu")) is not None
    except (KeyError, TypeError, ValueError):
        return False


class LlamaRunner(Cached, InOneCall):
    """See `Runner`."""

    def __init__(
        self,
        read: ReadTensor,
        config: Mapping[str, Any],
        device: torch.device,
        dtype: torch.dtype,
        max_positions: int,
        widths: Sequence[int] = TARGET_WIDTHS,
        *,
        eight_bits: bool = False,
    ) -> None:
        """`read` gives the weights, on `device` and in `dtype`; a CPU holds them as passes of `widths` tokens are fast,
        or in `eight_bits`, for which there must be kernels.

        Raises:
            ModelError: see `tensor_reader`.
        """
        self.shape = shape = Shape.of(config)
        self.vocab_size = shape.vocab
        self.hidden_size = shape.hidden
        self.layers = shape.layers
        self.max_positions = max_positions
        self.device = device
        self.dtype = dtype
        self.cache: SlotCache | None = None
        embedding = read("model.embed_tokens.weight", (shape.vocab, shape.hidden))
        head = embedding if shape.tied else read("lm_head.weight", (shape.vocab, shape.hidden))
        self._pack = in_eight_bits if eight_bits else quickest(head, dtype, widths)
        # What goes into packed products and comes out of them is float32, so everything else is then, the cache and the
        # logits too: CPUs take longer for conversions of a few numbers than for the bytes that they save.
        self._inner = dtype if self._pack is None else torch.float32
        self._judge = self._product(head)
        self._embedding = embedding if self._pack is None else narrowest(embedding)
        self._head = self._embedding if shape.tied else head if self._pack is None else narrowest(head)
        norm = read("model.norm.weight", (shape.hidden,)).to(self._inner)
        self._norm, self._judge_norm = RmsNorm(norm, shape.eps), RmsNorm(norm, shape.eps, self._judge.gain)
        layers = [self._layer(read, i, config) for i in range(shape.layers)]
        self._attention_norms, self._layers = [norm for norm, _ in layers], [layer for _, layer in layers]
        tables = rope_tables(config, max_positions, device)
        assert tables is not None, "fits() said that the rotary embedding is known"
        self._cos, self._sin = tables[0].to(self._inner), signed(tables[1].to(self._inner))
        self._masks = Masks(shape.heads // shape.kv_heads, self._inner, device, max_positions)
        if device.type == "cuda":
            self._graphs = ForwardGraphs(self._captured, device, max_positions)
        self._strides = StridesByDraft()
        self._few: OneRow | CompiledPasses | None = None
        if device.type == "cpu" and self._inner == torch.float32:
            model, tables = (self._attention_norms, self._layers, self._embedding), (self._cos, self._sin)
            if isinstance(self._judge, CompiledMatrix) and suit(shape, self._layers):
                self._few = CompiledPasses(shape, *model, self._norm, self._judge, *tables, shape.eps)
            else:
                judge = self._judge_norm, self._judge
                self._few = OneRow(shape, *model, self._norm, judge, *tables, self._masks)

    def size(self) -> tuple[int, int]:
        """The number of weights, and the bytes that they take. Where products are packed, a table that is also looked
        up is held in both layouts, each of 16 bits a weight."""
        norms = [self._judge_norm, *self._attention_norms, *(norm for layer in self._layers for norm in layer.norms())]
        products = [product for layer in self._layers for product in layer.products()]
        tables = [self._embedding] if self.shape.tied else [self._embedding, self._head]
        biases = [layer.out_bias for layer in self._layers if layer.out_bias is not None]
        plain = sum(norm.parameters for norm in norms) + sum(bias.numel() for bias in biases)
        parameters = plain + sum(product.parameters for product in products) + sum(table.numel() for table in tables)
        held = sum(table.nbytes for table in tables) + (0 if self._pack is None else self._judge.nbytes)
        return parameters, plain * self._inner.itemsize + held + sum(product.nbytes for product in products)

    def head_weight(self) -> Tensor:
        """See `Runner`."""
        return self._head.to(self.dtype)

    def through_head(self, states: Tensor) -> Tensor:
        """See `Runner`."""
        logits = self._judge(states)
        return logits if self._judge.gain == 1.0 else logits.mul_(1.0 / self._judge.gain)

    def embedding_weight(self) -> Tensor:
        """See `Runner`."""
        return self._embedding.to(self.dtype)

    def forward(self, block: Block, last: Sequence[int] | None = None) -> Tensor:
        """See `Runner`."""
        return self._forward(block, self.layers, (), last)[0]

    def forward_tapped(
        self, block: Block, taps: Sequence[int], last: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """See `Runner`."""
        logits, states = self._forward(block, self.layers, taps, last)
        return logits, logits[..., :0] if states is None else states

    @torch.inference_mode()
    def step(self, row: int, position: int, token: int) -> Tensor:
        """See `TokenSteps`."""
        cache = self.cache
        if self._few is None or cache is None or len(cache.layers()) < self.layers:
            ids = torch.tensor([[token]], device=self.device)
            return self.forward(Block((row,), (position,), ids, Topology.of_chain(0, self.device)))[0, 0]
        cache.claim(row, position, position + 1)
        return self._few.step(cache, row, position, token)

    @torch.inference_mode()
    def chain(self, block: Block, steps: int, vocab_size: int) -> tuple[Tensor, Tensor] | None:
        """See `ChainsInOne`."""
        if self._graphs is None or self.cache is None:
            return None
        return self._graphs.chain(self.cache, block, self.layers, steps, vocab_size)

    def compiled(self, row: int, begin: int, end: int) -> tuple[CompiledPasses, SlotCache, int] | None:
        """See `InOneCall`."""
        cache, few = self.cache, self._few
        if not isinstance(few, CompiledPasses) or cache is None or len(cache.layers()) < self.layers:
            return None
        cache.claim(row, begin, end)
        return few, cache, self.layers

    def ready(self, drafts: Sequence[LanguageModel]) -> None:
        """See `Strides`."""
        own = [draft._few if isinstance(draft, LlamaRunner) else None for draft in drafts]
        if isinstance(self._few, CompiledPasses):
            compile_strides(self._few, [few for few in own if isinstance(few, CompiledPasses)])

    @torch.inference_mode()
    def stride(
        self, row: int, start: int, root: int, rounds: int, drafting: Drafting, warps: Warps, key: int, first: int,
        ends: tuple[int, ...], record: bool,
    ) -> list[Step] | None:  # fmt: skip
        """See `Strides`."""
        if warps.filter_value is not None:
            return None
        before = (rounds - 1) * (1 + drafting.depth)  # tokens that may come before the last root, the first one besides
        target = self.compiled(row, start, start + before + drafting.most + 1)
        drafts = []
        for ahead in drafting.models:
            if not isinstance(ahead.model, InOneCall):
                return None
            end = ahead.start + len(ahead.pending) + before + drafting.width * drafting.depth
            drafts.append(ahead.model.compiled(row, ahead.start, end - 1))
        computing = [draft for draft in drafts if draft is not None]
        if target is None or len(computing) < len(drafts):
            return None
        return self._strides.of(target, computing, drafting).run(
            target, computing, row, start, root, rounds, drafting, warps, key, first, ends, record
        )

    def early_exit(self, layers: int) -> EarlyExit:
        """See `Runner`."""
        return LlamaExit(self, lambda block, last: self._forward(block, layers, (), last)[0], layers, self.compiled)

    @torch.inference_mode()
    def _forward(
        self, block: Block, layers: int, taps: Sequence[int], last: Sequence[int] | None
    ) -> tuple[Tensor, Tensor | None]:
        """Logits after the first `layers` layers, and the states at `taps`, perhaps None without."""
        assert self.cache is not None, "allocate() comes first"
        cache = self.cache
        if self._graphs is not None and (found := self._graphs.forward(cache, block, layers, taps)) is not None:
            logits, features = found
            return logits if last is None else _picked(logits, last), features
        cache.begin(block)
        if self._few is not None and self._few.takes(block) and len(cache.layers()) >= layers:
            logits, states = self._few.forward(cache, block, layers, taps, last)
            return logits, None if states is None else states.to(self.dtype)
        cos, sin = self._masks.rotary(block, self._cos, self._sin)
        x, features = self._through(block.ids, cos, sin, self._masks.mask(block), cache.update_both, layers, taps)
        return self._judge(self._judge_norm(x if last is None else _picked(x, last))), features

    def _captured(
        self, ids: Tensor, positions: Tensor, seen: Tensor, update: Update, layers: int, taps: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """See `Compute`."""
        cos, sin = self._cos[positions].unsqueeze(2), self._sin[positions].unsqueeze(2)
        mask = grouped_mask(seen, self.shape.heads // self.shape.kv_heads, self._inner)
        x, features = self._through(ids, cos, sin, mask, update, layers, taps)
        return self._judge(self._judge_norm(x)), features

    def _through(
        self, ids: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, update: Update, layers: int,
        taps: Sequence[int],
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """The states behind the first `layers` layers, [B, T, hidden], and those at `taps`."""
        shape, (rows, width) = self.shape, ids.shape
        queries_keys = shape.heads + shape.kv_heads
        x = self._embedding.index_select(0, ids.flatten()).view(rows, width, -1)  # [B, T, hidden]
        x = x if x.dtype == self._inner else x.to(self._inner)
        tapped: dict[int, Tensor] = {}
        for index, (norm, layer) in enumerate(zip(self._attention_norms[:layers], self._layers, strict=False)):
            if index in taps:
                tapped[index] = x
            qkv = layer.qkv(norm(x)).view(rows, width, -1, shape.head_dim)
            queries = qkv.narrow(2, 0, queries_keys)
            if layer.qk_norm is not None:
                queries.copy_(layer.qk_norm(queries))
            rotate_(queries, cos, sin)
            keys, values = update(index, qkv.narrow(2, shape.heads, 2 * shape.kv_heads))
            attended = grouped_attention(qkv.narrow(2, 0, shape.heads), keys, values, mask)
            x = torch.add(x, layer.out(attended), alpha=1.0 / layer.out.gain)
            x = x if layer.out_bias is None else x + layer.out_bias
            gate, up = layer.gate_up(layer.mlp_norm(x)).chunk(2, dim=-1)
            x = torch.add(x, layer.down(F.silu(gate).mul_(up)), alpha=1.0 / layer.down.gain)
        if FINAL_NORM in taps:
            tapped[FINAL_NORM] = self._norm(x)
        return x, torch.cat([tapped[tap] for tap in taps], dim=-1).to(self.dtype) if taps else x[..., :0]

    def compact(self, rows: Sequence[int], starts: Sequence[int], path: Tensor) -> None:
        """See `Runner`."""
        cache, few = self.cache, self._few
        assert cache is not None
        if isinstance(few, CompiledPasses) and len(cache.layers()) == self.layers:
            cache.compact(rows, starts, path, partial(few.move, cache))
        else:
            cache.compact(rows, starts, path)

    def _layer(self, read: ReadTensor, index: int, config: Mapping[str, Any]) -> tuple[RmsNorm, Layer]:
        """The norm in front of attention, and the layer behind it."""
        shape, at = self.shape, f"model.layers.{index}."
        queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        ff = int(config["intermediate_size"])
        sizes = {"q": queries, "k": keys, "v": keys}
        qkv_bias = out_bias = None
        if config.get("attention_bias") or config["model_type"] == "qwen2":
            qkv_bias = torch.cat([read(f"{at}self_attn.{n}_proj.bias", (sizes[n],)) for n in "qkv"])
        if config.get("attention_bias"):
            out_bias = read(f"{at}self_attn.o_proj.bias", (shape.hidden,)).to(self._inner)
        qkv = self._product(
            torch.cat([read(f"{at}self_attn.{n}_proj.weight", (sizes[n], shape.hidden)) for n in "qkv"]), qkv_bias
        )
        gate_up = self._product(
            torch.cat([read(f"{at}mlp.{n}_proj.weight", (ff, shape.hidden)) for n in ("gate", "up")])
        )
        norm = self._rms(read(f"{at}input_layernorm.weight", (shape.hidden,)), qkv.gain)
        return norm, Layer(
            qkv=qkv,
            qk_norm=self._qk_norm(read, at) if shape.qk_norm else None,
            out=self._product(read(f"{at}self_attn.o_proj.weight", (shape.hidden, queries))),
            out_bias=out_bias,
            mlp_norm=self._rms(read(f"{at}post_attention_layernorm.weight", (shape.hidden,)), gate_up.gain),
            gate_up=gate_up,
            down=self._product(read(f"{at}mlp.down_proj.weight", (shape.hidden, ff))),
        )

    def _qk_norm(self, read: ReadTensor, at: str) -> RmsNorm:
        """The norms of the heads of queries and keys, one row of weights for each head."""
        shape = self.shape
        of = {n: read(f"{at}self_attn.{n}_norm.weight", (shape.head_dim,)) for n in "qk"}
        return self._rms(torch.stack([of["q"]] * shape.heads + [of["k"]] * shape.kv_heads))

    def _rms(self, weight: Tensor, gain: float = 1.0) -> RmsNorm:
        return RmsNorm(weight.to(self._inner), self.shape.eps, gain)

    def _product(self, weight: Tensor, bias: Tensor | None = None) -> Product:
        """As it is fastest, as far as it loses nothing."""
        bias = None if bias is None else bias.to(self._inner)
        weight = weight.to(self._inner)
        pack = self._pack if self._pack is not None and may_hold(self._pack, weight) else Plain
        return pack(weight, bias)


def _picked(x: Tensor, last: Sequence[int]) -> Tensor:
    """x[b, last[b]] of each row: [B, T, hidden] -> [B, 1, hidden]."""
    if len(set(last)) == 1:
        return x.narrow(1, last[0], 1)
    return x[torch.arange(len(x), device=x.device), torch.tensor(last, device=x.device)].unsqueeze(1)
