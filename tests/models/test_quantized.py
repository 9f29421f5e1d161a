"""8-bit and 4-bit weights with bitsandbytes, on the CPU and on CUDA."""

import logging

import pytest
import torch
from feeding import chain, random_ids
from harness import decode

from specterm.config import ModelSpec
from specterm.errors import ModelError
from specterm.models.loading import load_models

pytest.importorskip("bitsandbytes")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
IDS = random_ids(24, 1)


def load(folder, device, **options):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return load_models(ModelSpec(target=str(folder), dtype="float32", device=device, **options))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("quantize", "correlation"), [("8bit", 0.99), ("4bit", 0.9)])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_quantized(kind, quantize, correlation, device, saved_pair):
    folder, _ = saved_pair(kind)
    plain, small = load(folder, device).target, load(folder, device, quantize=quantize).target
    assert small.info.quantization == quantize
    assert plain.info.quantization is None
    assert small.info.runner == "transformers"
    assert small.info.weight_bytes < plain.info.weight_bytes
    assert small.info.parameters == plain.info.parameters
    logits = []
    for loaded in (plain, small):
        loaded.runner.allocate(1, 64)
        logits.append(chain(loaded.runner, (0,), (0,), [IDS])[0].float().flatten())
    assert not torch.equal(*logits)  # it really is quantized, and still the same model
    assert float(torch.corrcoef(torch.stack(logits))[0, 1]) > correlation


@pytest.mark.parametrize("device", DEVICES)
def test_a_quantized_pair_drafts(device, saved_pair):
    target, draft = saved_pair("llama")
    models = load(target, device, drafts=(str(draft),), quantize="8bit", draft_quantize="4bit")
    assert [m.info.quantization for m in (models.target, *models.drafts)] == ["8bit", "4bit"]
    drafts = [models.drafts[0].runner]
    decoded = decode(models.target.runner, [IDS], method="draft", drafts=drafts, max_tokens=20)
    assert len(decoded.ids[0]) == 20
    assert "accepted" in decoded.states


def test_nothing_is_said_of_every_product(saved_pair, caplog):
    logging.getLogger("bitsandbytes").setLevel(logging.NOTSET)
    target, draft = saved_pair("llama")
    models = load(target, "cpu", drafts=(str(draft),), quantize="8bit", draft_quantize="4bit")
    decode(models.target.runner, [IDS], method="draft", drafts=[models.drafts[0].runner], max_tokens=4)
    assert [record for record in caplog.records if record.name.startswith("bitsandbytes")] == []


def test_without_bitsandbytes(saved_pair, monkeypatch):
    def refuse(*args, **kwargs):
        raise ImportError("Using `bitsandbytes` 8-bit quantization requires bitsandbytes:\n  pip install bitsandbytes")

    monkeypatch.setattr("transformers.quantizers.quantizer_bnb_8bit.Bnb8BitHfQuantizer.validate_environment", refuse)
    with pytest.raises(ModelError, match="requires bitsandbytes") as caught:
        load(saved_pair("llama")[0], "cpu", quantize="8bit")
    assert len(str(caught.value).splitlines()) == 1
