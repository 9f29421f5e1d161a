"""Fresh Llama models and saved ones, ready to learn."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from specterm.errors import ConfigError, ModelError, one_line
from specterm.training.tokenizer import copy_tokenizer

CONTEXT = 1024
_HEAD_SIZE = 64


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a Llama model of head size 64, context 1024 and tied embeddings."""

    hidden: int
    layers: int
    kv_heads: int
    intermediate: int

    def model(self, vocabulary: int, end: int | None, seed: int) -> Any:
        """A fresh `LlamaForCausalLM`, float32, for so many tokens, of which `end` ends a text.

        Raises:
            ConfigError: the sizes do not go together.
        """
        from transformers import LlamaConfig, LlamaForCausalLM

        heads = self.hidden // _HEAD_SIZE
        if self.hidden % _HEAD_SIZE or self.kv_heads < 1 or heads % self.kv_heads:
            raise ConfigError(
                f"--hidden is {self.hidden} with {self.kv_heads} KV heads; it must be a multiple of {_HEAD_SIZE} times "
                "the KV heads"
            )
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            num_hidden_layers=self.layers,
            num_attention_heads=heads,
            num_key_value_heads=self.kv_heads,
            head_dim=_HEAD_SIZE,
            max_position_embeddings=CONTEXT,
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
            bos_token_id=end,
            eos_token_id=end,
            pad_token_id=end,
        )
        return LlamaForCausalLM(config)


def add_shape_arguments(parser: argparse.ArgumentParser, shape: Shape) -> None:
    """Options for the sizes of a fresh model, by default those of `shape`."""
    parser.add_argument("--hidden", type=int, default=shape.hidden, help="size of the hidden states (%(default)s)")
    parser.add_argument("--layers", type=int, default=shape.layers, help="(%(default)s)")
    parser.add_argument("--kv-heads", type=int, default=shape.kv_heads, help="(%(default)s)")
    parser.add_argument("--intermediate", type=int, default=shape.intermediate, help="feed-forward width (%(default)s)")


def given_shape(given: argparse.Namespace) -> Shape:
    """What those options say."""
    return Shape(given.hidden, given.layers, given.kv_heads, given.intermediate)


def saved_model(folder: Path) -> Any:
    """The Llama model in `folder`, float32.

    Raises:
        ModelError: it cannot be loaded, or is of another architecture.
    """
    from transformers import AutoModelForCausalLM, LlamaForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"the model in {folder} cannot be loaded: {one_line(error)}") from None
    if not isinstance(model, LlamaForCausalLM):
        raise ModelError(f"{folder} holds a {type(model).__name__}; only Llama models are trained here")
    return model


def save_model(model: Any, tokenizer: Path, folder: Path) -> None:
    """Write `model` as a plain Hugging Face folder in bfloat16, with the tokenizer of the folder `tokenizer`."""
    stored = type(model)(model.config).to(torch.bfloat16)  # a copy: the model itself goes on in float32
    stored.load_state_dict(model.state_dict())
    stored.save_pretrained(folder)
    copy_tokenizer(tokenizer, folder)
