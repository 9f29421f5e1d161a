"""Rotary tables against transformers' own."""

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from specterm.models.rope import rope_tables

LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 512,
}  # fmt: skip
KINDS = {
    "default": {"rope_type": "default", "rope_theta": 10000.0},
    "far theta": {"rope_type": "default", "rope_theta": 1e6},
    "linear": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
    "llama3": LLAMA3,
}
CPU = torch.device("cpu")


def config(rope) -> LlamaConfig:
    return LlamaConfig(hidden_size=256, num_attention_heads=2, max_position_embeddings=4096, rope_parameters=rope)


@pytest.mark.parametrize("kind", KINDS)
def test_tables(kind):
    made = config(KINDS[kind])
    positions = torch.arange(4096).unsqueeze(0)
    want = LlamaRotaryEmbedding(made)(torch.zeros(1), positions)
    got = rope_tables(made.to_dict(), 4096, CPU)
    assert got[0].shape == (4096, 128)
    for ours, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(ours, theirs[0], atol=1e-6, rtol=0)


def test_configs_from_before_rope_parameters():
    """Older folders say rope_theta and rope_scaling beside each other, and "type" for "rope_type"."""
    sizes = {"hidden_size": 256, "num_attention_heads": 2}
    old = {**sizes, "rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 4.0}}
    for ours, theirs in zip(
        rope_tables(old, 100, CPU), rope_tables(config(KINDS["linear"]).to_dict(), 100, CPU), strict=True
    ):
        assert torch.equal(ours, theirs)
    scaling = {name: value for name, value in LLAMA3.items() if name != "rope_theta"}
    old = {**sizes, "rope_theta": 5e5, "rope_scaling": scaling}
    assert torch.equal(rope_tables(old, 100, CPU)[0], rope_tables(config(LLAMA3).to_dict(), 100, CPU)[0])
    assert torch.equal(rope_tables(sizes, 9, CPU)[0], rope_tables(config(KINDS["default"]).to_dict(), 9, CPU)[0])


@pytest.mark.parametrize("rope", [{"rope_type": "yarn", "factor": 2.0}, {"partial_rotary_factor": 0.5}], ids=str)
def test_other_kinds_are_left_to_transformers(rope):
    assert rope_tables({"hidden_size": 256, "num_attention_heads": 2, "rope_parameters": rope}, 10, CPU) is None
