"""The first layers of a model as a model: what transformers says with only those, on the whole model's slots."""

import pytest
import torch
from feeding import random_ids, slots
from transformers import AutoModelForCausalLM

from specterm.config import ModelSpec
from specterm.decoding.ports import Block
from specterm.decoding.prefill import prefill
from specterm.decoding.tree import Topology
from specterm.errors import ModelError
from specterm.models.loading import load_models
from specterm.models.runners.causal_lm import CausalLMRunner

KINDS = ["llama", "qwen3", "mistral-sliding", "gpt2", "gemma3"]
IDS, AHEAD = random_ids(20, 21), random_ids(6, 22)
CLOSE = {"atol": 1e-9, "rtol": 1e-9}
AS_TRANSFORMERS = {"atol": 1e-5, "rtol": 1e-5}  # its rotary tables are single precision


def runner_of(kind, folder):
    if kind != "llama as transformers":
        return load_models(ModelSpec(target=str(folder), dtype="float64")).target.runner
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    return CausalLMRunner(model, torch.device("cpu"), 256)


def shortened(folder, layers, ids):
    """The logits [T, V] of transformers' own model with that many layers."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    owner, name = next(
        (module, name) for module in model.modules() for name in ("layers", "h") if hasattr(module, name)
    )
    setattr(owner, name, getattr(owner, name)[:layers])
    model.config.num_hidden_layers = layers
    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", [*KINDS, "llama as transformers"])
def test_early_logits_and_slots(kind, layers, saved_pair):
    folder = saved_pair(kind.split()[0])[0]
    runner = runner_of(kind, folder)
    assert runner.layers == 3
    runner.allocate(2, 64)
    prefill(runner, 1, torch.tensor(IDS))
    before = slots(runner, 1, 64)
    early, expected = runner.early_exit(layers), shortened(folder, layers, IDS + AHEAD)[len(IDS) :]

    block = Block((1,), (len(IDS),), torch.tensor([AHEAD]), Topology.of_chain(len(AHEAD) - 1, torch.device("cpu")))
    torch.testing.assert_close(early.forward(block)[0], expected, **AS_TRANSFORMERS)
    torch.testing.assert_close(early.forward(block, last=[3])[0], expected[3:4], **AS_TRANSFORMERS)
    drafted = slots(runner, 1, 64)
    assert not torch.equal(drafted[: 2 * layers], before[: 2 * layers])
    assert torch.equal(drafted[2 * layers :], before[2 * layers :])

    whole = runner.forward(block)
    verified = slots(runner, 1, 64)
    torch.testing.assert_close(verified[: 2 * layers], drafted[: 2 * layers], **CLOSE)
    assert not torch.equal(verified[2 * layers :], drafted[2 * layers :])
    torch.testing.assert_close(whole[0], shortened(folder, 3, IDS + AHEAD)[len(IDS) :], **AS_TRANSFORMERS)


def test_a_model_without_a_list_of_layers_is_refused(saved_pair):
    runner = runner_of("llama as transformers", saved_pair("llama")[0])
    runner.layers = 5
    with pytest.raises(ModelError, match="early-exit is not available for LlamaForCausalLM: it has no list of 5 lay"):
        runner.early_exit(1)
