"""What a runner tells of its model to heads that build on it: layers, embeddings, language-model head."""

import pytest
import torch

from specterm.config import ModelSpec
from specterm.decoding.ports import FINAL_NORM, Block
from specterm.decoding.tree import Topology
from specterm.models.loading import load_models

IDS = torch.tensor([[7, 300, 4095]])


@pytest.mark.parametrize(("kind", "scale"), [("llama", 1.0), ("gemma3", 8.0)], ids=["fused", "scaled embeddings"])
def test_layers_embeddings_and_head(saved_pair, kind, scale):
    """Tap 0 is the embeddings, which Gemma multiplies by the root of the hidden size, 64; the last tap times the head
    is the logits."""
    target = load_models(ModelSpec(target=str(saved_pair(kind)[0]), dtype="float64")).target
    runner = target.runner
    assert target.info.runner == ("fused llama" if kind == "llama" else "transformers")
    assert runner.layers == 3
    assert runner.embedding_weight().shape == runner.head_weight().shape == (4096, 64)
    runner.allocate(1, 8)
    block = Block((0,), (0,), IDS, Topology.of_chain(2, runner.device))
    logits, states = runner.forward_tapped(block, (0, FINAL_NORM))
    torch.testing.assert_close(states[0, :, :64], runner.embedding_weight().detach()[IDS[0]] * scale)
    torch.testing.assert_close(states[0, :, 64:] @ runner.head_weight().detach().T, logits[0])
    torch.testing.assert_close(runner.through_head(states[0, :, 64:]), logits[0])
