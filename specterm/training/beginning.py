"""Where heads with a layer of their own begin: the target's last layer, if it is one like theirs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from specterm.errors import ConfigError, ModelError
from specterm.models.folders import find_folder, read_config
from specterm.models.rope import rope_tables
from specterm.models.weights import tensor_reader
from specterm.training.features import target_features
from specterm.training.setup import RecipeSetup

_SPREAD = 0.02  # of random weights, as Llama begins


class Beginning:
    """The config of the heads' layer and its first weights.

    The layer has the sizes of the target's, as far as its config says them, and begins as a copy of the target's last
    one where that is a Llama layer; else at random. The copy adds to a stream of about 1 what the target's adds to its
    own, which is far larger. A narrower feed-forward part keeps those inner units that can weigh most: the largest
    product of the norms of their weights.
    """

    def __init__(self, setup: RecipeSetup) -> None:
        """Raises:
        ModelError: the target's folder has gone, or its config cannot be read.
        ConfigError: the feed-forward part is to be wider than the target's.
        """
        self._folder = find_folder(setup.name, "target")
        config = read_config(self._folder)
        self._config = config.get("text_config") or config
        self._hidden = hidden = setup.target.hidden_size
        heads = int(self._config.get("num_attention_heads") or max(1, hidden // 64))
        self._inner = int(self._config.get("intermediate_size") or 4 * hidden)
        if setup.intermediate is not None and setup.intermediate > self._inner:
            raise ConfigError(f"--intermediate is {setup.intermediate}; it must be at most the target's, {self._inner}")
        self.config: dict[str, Any] = {
            "model_type": "llama",
            "hidden_size": hidden,
            "intermediate_size": setup.intermediate or self._inner,
            "num_attention_heads": heads,
            "num_key_value_heads": int(self._config.get("num_key_value_heads") or heads),
            "head_dim": int(self._config.get("head_dim") or hidden // heads),
            "num_hidden_layers": 1,
            "rms_norm_eps": float(self._config.get("rms_norm_eps") or 1e-6),
            "vocab_size": setup.target.vocab_size,
            "max_position_embeddings": setup.target.max_positions,
            "hidden_act": "silu",
            "dtype": "bfloat16",
        }
        self.config |= {k: self._config[k] for k in ("rope_theta", "rope_scaling", "rope_parameters") if self._rope(k)}
        self._target = setup.target
        self._make = torch.Generator().manual_seed(0)

    def layer(self) -> dict[str, Tensor]:
        """Weights of one layer under the names that a Llama model gives them, float32."""
        config, hidden = self.config, self._hidden
        queries, keys = (config[f"num_{n}_heads"] * config["head_dim"] for n in ("attention", "key_value"))
        shapes: dict[str, tuple[int, ...]] = {
            "self_attn.q_proj.weight": (queries, hidden),
            "self_attn.k_proj.weight": (keys, hidden),
            "self_attn.v_proj.weight": (keys, hidden),
            "self_attn.o_proj.weight": (hidden, queries),
            "mlp.gate_proj.weight": (self._inner, hidden),
            "mlp.up_proj.weight": (self._inner, hidden),
            "mlp.down_proj.weight": (hidden, self._inner),
            "input_layernorm.weight": (hidden,),
            "post_attention_layernorm.weight": (hidden,),
        }
        found = self._read(f"model.layers.{self._target.layers - 1}.", shapes)
        if found is None:
            return self._narrowed({name: self.random(*shape) for name, shape in shapes.items()})
        scale = self._stream()
        for name in ("self_attn.o_proj.weight", "mlp.down_proj.weight"):
            found[name] = found[name] / scale
        return self._narrowed(found)

    def final_norm(self) -> Tensor:
        """The weight of the target's final norm, float32 [H]."""
        found = self._read("model.", {"norm.weight": (self._hidden,)})
        return self.random(self._hidden) if found is None else found["norm.weight"]

    def random(self, *shape: int) -> Tensor:
        """A weight to begin with where the target has none: ones for a norm."""
        return torch.ones(shape) if len(shape) == 1 else torch.randn(shape, generator=self._make) * _SPREAD

    def _read(self, at: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor] | None:
        """The target's tensors whose names begin with `at`; None where it does not have them all."""
        try:
            read = tensor_reader(self._folder, torch.device("cpu"), torch.float32)
            return {name: read(at + name, shape) for name, shape in shapes.items()}
        except ModelError:  # another architecture, or weights of another format
            return None

    def _stream(self) -> float:
        """The root mean square of the residual stream that enters the target's last layer, on some text or other."""
        ids = torch.arange(min(64, self._target.vocab_size, self._target.max_positions)).unsqueeze(0)
        states = target_features(self._target, ids, (self._target.layers - 1,)).states
        return float(states.float().pow(2).mean().sqrt())

    def _rope(self, key: str) -> bool:
        """Whether the target's rotary embeddings are of a kind that the heads can have, and `key` tells about them."""
        return bool(self._config.get(key)) and rope_tables(self._config, 1, torch.device("cpu")) is not None

    def _narrowed(self, layer: dict[str, Tensor]) -> dict[str, Tensor]:
        gate, up, down = (layer[f"mlp.{name}_proj.weight"] for name in ("gate", "up", "down"))
        weigh = gate.norm(dim=1) * up.norm(dim=1) * down.norm(dim=0)
        kept = weigh.topk(self.config["intermediate_size"]).indices.sort().values
        own = {"gate": gate[kept], "up": up[kept], "down": down[:, kept]}
        return layer | {f"mlp.{name}_proj.weight": weight for name, weight in own.items()}
