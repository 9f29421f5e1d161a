"""The config.json of heads that have layers of their own: as EAGLE publishes it, or wrapped by vLLM or speculators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specterm.errors import ModelError
from specterm.models.folders import read_config

_WRAPPED = ("model", "transformer_layer_config")  # where vLLM and speculators put the config of the layer
_REFUSED = ("quantization_config", "mlp_bias", "add_para_norm", "use_sliding_window")


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """Sizes of the heads' layers. `options` is everything that the config says, nested parts laid open."""

    folder: Path
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    max_positions: int
    eps: float
    options: Mapping[str, Any]

    @staticmethod
    def read(folder: Path) -> HeadConfig:
        """From the config.json of `folder`.

        Raises:
            ModelError: see `of`; or the file is missing or no JSON.
        """
        return HeadConfig.of(read_config(folder), folder)

    @staticmethod
    def of(config: Mapping[str, Any], folder: Path) -> HeadConfig:
        """From a config that `folder` has.

        Raises:
            ModelError: a size is missing or no number, or the heads are of a kind that is not known here.
        """
        options = {**_mapping(config.get("eagle_config")), **config}
        for key in _WRAPPED:
            options |= _mapping(config.get(key))
        _refuse_the_unknown(options, folder)

        def size(key: str, default: int | None = None) -> int:
            value = options.get(key) or default
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ModelError(f"config.json in {folder} has {key} {value!r}; the heads need a whole number")
            return value

        hidden, heads = size("hidden_size"), size("num_attention_heads")
        return HeadConfig(
            folder=folder,
            hidden=hidden,
            heads=heads,
            kv_heads=size("num_key_value_heads", heads),
            head_dim=size("head_dim", hidden // heads),
            intermediate=size("intermediate_size"),
            max_positions=size("max_position_embeddings", 2048),
            eps=float(options.get("rms_norm_eps") or 1e-6),
            options=options,
        )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _refuse_the_unknown(options: Mapping[str, Any], folder: Path) -> None:
    layers = set(options.get("layer_types") or ())
    unknown = [f"{key} {options[key]!r}" for key in _REFUSED if options.get(key)]
    unknown += [f"layer_types {kind!r}" for kind in sorted(layers - {"full_attention"})]
    if options.get("hidden_act", "silu") != "silu":
        unknown.append(f"hidden_act {options['hidden_act']!r}")
    if unknown:
        raise ModelError(f"the heads in {folder} want {unknown[0]}, which specterm does not know; use other heads")
