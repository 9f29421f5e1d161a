"""The fused runner of the Llama family: plain PyTorch, one product for q, k and v, one for gate and up.

Covers Llama 2 and 3 (with linear and llama3 RoPE scaling), Mistral without a sliding window, Qwen2 (q, k, v biases) and
Qwen3 (q and k norms), with grouped-query attention and tied or untied embeddings. It reads config.json and safetensors
directly, so that it needs no transformers and starts fast. Everything else goes to the transformers runner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from specterm.decoding.ports import FINAL_NORM, Block
from specterm.models.attention import grouped_attention, grouped_mask, rotated
from specterm.models.cache import SlotCache, positions_of, visibility
from specterm.models.rope import rope_tables
from specterm.models.runners.cached import CachedRunner
from specterm.models.runners.early_exit import EarlyExit
from specterm.models.weights import ReadTensor, tensor_reader, weight_files

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


@dataclass(frozen=True, slots=True)
class _Layer:
    """The weights of one layer; q, k and v stacked, gate and up stacked."""

    attention_norm: Tensor
    qkv: Tensor
    qkv_bias: Tensor | None
    q_norm: Tensor | None
    k_norm: Tensor | None
    out: Tensor
    out_bias: Tensor | None
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor


class LlamaRunner(CachedRunner):
    """See `Runner`."""

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        device: torch.device,
        dtype: torch.dtype,
        max_positions: int,
        read_bytes: Callable[[int], None] = lambda count: None,
    ) -> None:
        """Read the weights in `folder`; `read_bytes` is told the size of each tensor.

        Raises:
            ModelError: a tensor is missing or of the wrong shape.
        """
        self.shape = Shape.of(config)
        self.vocab_size = self.shape.vocab
        self.hidden_size = self.shape.hidden
        self.layers = self.shape.layers
        self.max_positions = max_positions
        self.device = device
        self.dtype = dtype
        self.cache: SlotCache | None = None
        read = tensor_reader(folder, device, dtype, read_bytes)
        shape = self.shape
        self._embedding = read("model.embed_tokens.weight", (shape.vocab, shape.hidden))
        self._norm = read("model.norm.weight", (shape.hidden,))
        self._head = self._embedding if shape.tied else read("lm_head.weight", (shape.vocab, shape.hidden))
        self._layers = [self._layer(read, i, config) for i in range(shape.layers)]
        tables = rope_tables(config, max_positions, device)
        assert tables is not None, "fits() said that the rotary embedding is known"
        self._cos, self._sin = (table.to(dtype) for table in tables)

    def weights(self) -> list[Tensor]:
        """Every weight tensor once."""
        own = [self._embedding, self._norm] + ([] if self.shape.tied else [self._head])
        return own + [
            t for layer in self._layers for t in (getattr(layer, n) for n in layer.__slots__) if t is not None
        ]

    def head_weight(self) -> Tensor:
        """See `Runner`."""
        return self._head

    def embedding_weight(self) -> Tensor:
        """See `Runner`."""
        return self._embedding

    def forward(self, block: Block, last: Sequence[int] | None = None) -> Tensor:
        """See `Runner`."""
        return self._forward(block, self.layers, (), last)[0]

    def forward_tapped(
        self, block: Block, taps: Sequence[int], last: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """See `Runner`."""
        return self._forward(block, self.layers, taps, last)

    def early_exit(self, layers: int) -> EarlyExit:
        """See `Runner`."""
        return EarlyExit(self, lambda block, last: self._forward(block, layers, (), last)[0])

    @torch.inference_mode()
    def _forward(
        self, block: Block, layers: int, taps: Sequence[int], last: Sequence[int] | None
    ) -> tuple[Tensor, Tensor]:
        """Logits after the first `layers` layers, and the states at `taps`."""
        assert self.cache is not None, "allocate() comes first"
        shape, (rows, width) = self.shape, block.ids.shape
        self.cache.begin(block)
        positions = positions_of(block, self.max_positions)
        cos, sin = self._cos[positions].unsqueeze(2), self._sin[positions].unsqueeze(2)  # [B, T, 1, D]
        mask = grouped_mask(visibility(block), shape.heads // shape.kv_heads)
        heads = [shape.heads + shape.kv_heads, shape.kv_heads]
        x = F.embedding(block.ids, self._embedding)  # [B, T, hidden]
        tapped: dict[int, Tensor] = {}
        for index, layer in enumerate(self._layers[:layers]):
            if index in taps:
                tapped[index] = x
            h = F.rms_norm(x, (shape.hidden,), layer.attention_norm, shape.eps)
            qkv = F.linear(h, layer.qkv, layer.qkv_bias).view(rows, width, -1, shape.head_dim)
            qk, v = qkv.split(heads, dim=2)
            if layer.q_norm is not None and layer.k_norm is not None:
                q, k = qk.split([shape.heads, shape.kv_heads], dim=2)
                q = F.rms_norm(q, (shape.head_dim,), layer.q_norm, shape.eps)
                k = F.rms_norm(k, (shape.head_dim,), layer.k_norm, shape.eps)
                qk = torch.cat([q, k], dim=2)
            q, k = rotated(qk, cos, sin).split([shape.heads, shape.kv_heads], dim=2)
            keys, values = self.cache.update(index, k.transpose(1, 2), v.transpose(1, 2))
            x = x + F.linear(grouped_attention(q, keys, values, mask), layer.out, layer.out_bias)
            h = F.rms_norm(x, (shape.hidden,), layer.mlp_norm, shape.eps)
            gate, up = F.linear(h, layer.gate_up).chunk(2, dim=-1)
            x = x + F.linear(F.silu(gate) * up, layer.down)
        if FINAL_NORM in taps:
            tapped[FINAL_NORM] = F.rms_norm(x, (shape.hidden,), self._norm, shape.eps)
        features = torch.cat([tapped[tap] for tap in taps], dim=-1) if taps else x[..., :0]
        if last is not None:
            x = x[torch.arange(rows, device=x.device), torch.tensor(last, device=x.device)].unsqueeze(1)
        return F.linear(F.rms_norm(x, (shape.hidden,), self._norm, shape.eps), self._head), features

    def compact(self, rows: Sequence[int], starts: Sequence[int], path: Tensor) -> None:
        """See `Runner`."""
        assert self.cache is not None
        self.cache.compact(rows, starts, path)

    def _layer(self, read: ReadTensor, index: int, config: Mapping[str, Any]) -> _Layer:
        shape, at = self.shape, f"model.layers.{index}."
        queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        ff = int(config["intermediate_size"])
        sizes = {"q": queries, "k": keys, "v": keys}
        qkv_bias = out_bias = None
        if config.get("attention_bias") or config["model_type"] == "qwen2":
            qkv_bias = torch.cat([read(f"{at}self_attn.{n}_proj.bias", (sizes[n],)) for n in "qkv"])
        if config.get("attention_bias"):
            out_bias = read(f"{at}self_attn.o_proj.bias", (shape.hidden,))
        norms = {n: read(f"{at}self_attn.{n}_norm.weight", (shape.head_dim,)) if shape.qk_norm else None for n in "qk"}
        return _Layer(
            attention_norm=read(f"{at}input_layernorm.weight", (shape.hidden,)),
            qkv=torch.cat([read(f"{at}self_attn.{n}_proj.weight", (sizes[n], shape.hidden)) for n in "qkv"]),
            qkv_bias=qkv_bias,
            q_norm=norms["q"],
            k_norm=norms["k"],
            out=read(f"{at}self_attn.o_proj.weight", (shape.hidden, queries)),
            out_bias=out_bias,
            mlp_norm=read(f"{at}post_attention_layernorm.weight", (shape.hidden,)),
            gate_up=torch.cat([read(f"{at}mlp.{n}_proj.weight", (ff, shape.hidden)) for n in ("gate", "up")]),
            down=read(f"{at}mlp.down_proj.weight", (shape.hidden, ff)),
        )
