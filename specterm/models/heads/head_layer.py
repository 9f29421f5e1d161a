"""The transformer layer of heads that have one: a Llama layer that leaves what it reads, and how it attends, to others.

What is normed and joined in front of it differs between EAGLE and EAGLE-3; decoding attends over cache slots, training
over what was unrolled. So both come from outside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specterm.models.attention import rotated
from specterm.models.heads.checkpoint import Checkpoint
from specterm.models.heads.head_config import HeadConfig
from specterm.models.norm import RmsNorm
from specterm.models.products import PackedLinear, unscaled
from specterm.models.row_layers import Layer

Attend: TypeAlias = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""From a layer's number, q [B, T, heads, D] and k and v [B, T, kv_heads, D], q and k at their positions, what was
attended to, [B, T, heads * D]."""

Linear: TypeAlias = Callable[..., Tensor]
"""`F.linear`, or what takes its place: of x, a weight and perhaps a bias."""

Rotary: TypeAlias = tuple[Tensor, Tensor]
"""Cosines and sines of each token's position, [B, T, 1, D]."""


class HeadLayer(nn.Module):
    """One layer; q, k and v are one product, gate and up another. Biases and norms are those that the file has."""

    def __init__(self, file: Checkpoint, index: int, config: HeadConfig, width: int) -> None:
        """Layer `index` of `file`, whose attention reads vectors of `width`.

        Raises:
            ModelError: a tensor is missing or of the wrong shape.
        """
        super().__init__()
        self.linear: Linear = F.linear
        at = f"layers.{index}."
        self._index, self._config = index, config
        hidden, inner, queries = config.hidden, config.intermediate, config.heads * config.head_dim
        self._sizes = [queries, *[config.kv_heads * config.head_dim] * 2]
        parts = dict(zip("qkv", self._sizes, strict=True))

        def own(name: str, *shape: int) -> Tensor:
            return file.get(f"{at}{name}", shape, "the config says")

        def weight(tensor: Tensor) -> nn.Parameter:
            return nn.Parameter(tensor, requires_grad=False)

        def given(name: str, *shape: int) -> nn.Parameter | None:
            return weight(own(name, *shape)) if f"{at}{name}" in file else None

        self.qkv = weight(torch.cat([own(f"self_attn.{n}_proj.weight", size, width) for n, size in parts.items()]))
        biased = config.options.get("qkv_bias") or f"{at}self_attn.q_proj.bias" in file
        biases = [own(f"self_attn.{n}_proj.bias", size) for n, size in parts.items()] if biased else []
        self.qkv_bias = weight(torch.cat(biases)) if biases else None
        self.q_norm = given("self_attn.q_norm.weight", config.head_dim)
        self.k_norm = given("self_attn.k_norm.weight", config.head_dim)
        self.out = weight(own("self_attn.o_proj.weight", hidden, queries))
        self.out_bias = given("self_attn.o_proj.bias", hidden)
        self.input_norm = given("input_layernorm.weight", hidden)
        self.mlp_norm = weight(own("post_attention_layernorm.weight", hidden))
        self.gate_up = weight(torch.cat([own(f"mlp.{n}_proj.weight", inner, hidden) for n in ("gate", "up")]))
        self.down = weight(own("mlp.down_proj.weight", hidden, inner))

    @property
    def norms_agree(self) -> bool:
        """Whether queries and keys are both normed, or neither."""
        return (self.q_norm is None) == (self.k_norm is None)

    def normed(self, x: Tensor) -> Tensor:
        """x, [B, T, H], behind the layer's input norm; x itself where the layer has none."""
        return x if self.input_norm is None else self._norm(x, self.input_norm)

    def forward(self, x: Tensor, residual: Tensor, rotary: Rotary, attend: Attend) -> Tensor:
        """The residual stream behind the layer, [B, T, H], from what attention reads, [B, T, width], and the stream
        in front."""
        config, (rows, width) = self._config, x.shape[:2]
        parts = self.linear(x, self.qkv, self.qkv_bias).split(self._sizes, dim=-1)
        q, k, v = (part.view(rows, width, -1, config.head_dim) for part in parts)
        q = q if self.q_norm is None else self._norm(q, self.q_norm)
        k = k if self.k_norm is None else self._norm(k, self.k_norm)
        attended = attend(self._index, rotated(q, *rotary), rotated(k, *rotary), v)
        y = residual + self.linear(attended, self.out, self.out_bias)
        gate, up = self.linear(self._norm(y, self.mlp_norm), self.gate_up).chunk(2, dim=-1)
        return y + self.linear(F.silu(gate) * up, self.down)

    def for_rows(self, packed: PackedLinear) -> Layer:
        """The same layer for `RowLayers`; `packed` knows what has been packed of it. It has norms of both queries and
        keys, or of neither."""
        config, products = self._config, packed.product
        gate_up, qk_norm = products(self.gate_up), None
        if self.q_norm is not None and self.k_norm is not None:
            norms = torch.stack((self.q_norm,) * config.heads + (self.k_norm,) * config.kv_heads)
            qk_norm = RmsNorm(norms, config.eps)
        return Layer(
            qkv=unscaled(products(self.qkv), self.qkv_bias),
            qk_norm=qk_norm,
            out=products(self.out),
            out_bias=self.out_bias,
            mlp_norm=RmsNorm(self.mlp_norm, config.eps, gate_up.gain),
            gate_up=gate_up,
            down=products(self.down),
        )

    def row_norm(self) -> RmsNorm | None:
        """The layer's input norm, on a CPU in float32; None where it has none."""
        return None if self.input_norm is None else RmsNorm(self.input_norm, self._config.eps)

    def published(self, at: str) -> dict[str, Tensor]:
        """The weights under their published names, which begin with `at`; norms and biases where there are some."""
        tensors: dict[str, Tensor | None] = {
            "self_attn.o_proj.weight": self.out,
            "self_attn.o_proj.bias": self.out_bias,
            "self_attn.q_norm.weight": self.q_norm,
            "self_attn.k_norm.weight": self.k_norm,
            "input_layernorm.weight": self.input_norm,
            "post_attention_layernorm.weight": self.mlp_norm,
            "mlp.down_proj.weight": self.down,
        }
        for kind, stacked in (("weight", self.qkv), ("bias", self.qkv_bias)):
            if stacked is not None:
                parts = zip("qkv", stacked.split(self._sizes), strict=True)
                tensors |= {f"self_attn.{name}_proj.{kind}": part for name, part in parts}
        tensors |= {f"mlp.{n}_proj.weight": part for n, part in zip(("gate", "up"), self.gate_up.chunk(2), strict=True)}
        return {at + name: tensor for name, tensor in tensors.items() if tensor is not None}

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), weight, self._config.eps)


def read_layers(file: Checkpoint, config: HeadConfig, width: int) -> list[HeadLayer]:
    """The layers that `file` numbers from 0, at least one; the attention of the first reads vectors of `width`.

    Raises:
        ModelError: a tensor is missing or of the wrong shape.
    """
    numbers = [int(parts[1]) for name in file.names() if (parts := name.split("."))[0] == "layers"]
    return [
        HeadLayer(file, index, config, width if index == 0 else config.hidden)
        for index in range(1 + max(numbers, default=0))
    ]
