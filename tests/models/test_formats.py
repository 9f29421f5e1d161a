"""The number format on a CPU that has a choice: measured on the model's own first layer, once a process."""

import pytest
import torch
from feeding import from_scratch

from specterm.config import ModelSpec
from specterm.models import devices, formats
from specterm.models.folders import BUILTIN_FOLDER, read_config
from specterm.models.loading import load_models
from specterm.models.weights import tensor_reader

TARGET = BUILTIN_FOLDER / "target"
SPEC = ModelSpec(drafts=(), dtype="auto")
IDS = [5, 6, 7, 8]


@pytest.fixture(autouse=True)
def native(monkeypatch):
    """A processor with instructions for bfloat16, of which nothing is known yet."""
    monkeypatch.setattr(devices, "cpu_has_bf16", lambda: True)
    monkeypatch.setattr(formats, "_MEASURED", {})


def test_the_layer_is_measured_in_both_formats_and_remembered(monkeypatch):
    loaded = load_models(SPEC).target
    took = loaded.info.format_s
    assert took.keys() == {"float32", "bfloat16"}
    assert all(0.0 < seconds < 1.0 for seconds in took.values())
    assert (loaded.info.dtype == "bfloat16") == (took["bfloat16"] < 0.7 * took["float32"])
    monkeypatch.setattr(formats, "_measure", lambda *_: 1 / 0)
    assert load_models(SPEC).target.info.format_s == took
    assert load_models(ModelSpec(target="builtin/draft", drafts=(), dtype="bfloat16")).target.info.format_s is None
    with pytest.raises(ZeroDivisionError):  # another shape
        load_models(ModelSpec(target="builtin/draft", drafts=()))


@pytest.mark.parametrize(
    ("took", "chosen"),
    [({"float32": 1.0, "bfloat16": 0.5}, torch.bfloat16), ({"float32": 1.0, "bfloat16": 0.75}, torch.float32),
     ({"float32": 1.0, "bfloat16": 3.0}, torch.float32)],
)  # fmt: skip
def test_what_is_faster_is_what_the_model_computes_in(took, chosen, monkeypatch):
    monkeypatch.setattr(formats, "_measure", lambda *_: took)
    loaded = load_models(SPEC).target
    assert (loaded.info.dtype, loaded.info.format_s) == (str(chosen).removeprefix("torch."), took)
    assert loaded.runner.dtype == chosen
    computed = from_scratch(loaded.runner, IDS)
    exact = from_scratch(load_models(ModelSpec(drafts=(), dtype="float64")).target.runner, IDS)
    assert float((computed.double() - exact).abs().max()) < (1e-3 if chosen == torch.float32 else 0.5)


def test_a_large_layer_is_not_measured(monkeypatch):
    monkeypatch.setattr(formats, "_MOST_WEIGHTS", 1000)
    assert formats.quickest_format(TARGET, read_config(TARGET), (1, 5)) == (torch.bfloat16, None)


def test_without_the_instructions_there_is_no_choice(monkeypatch):
    monkeypatch.setattr(devices, "cpu_has_bf16", lambda: False)
    monkeypatch.setattr(formats, "_measure", lambda *_: 1 / 0)
    info = load_models(SPEC).target.info
    assert (info.dtype, info.format_s) == ("float32", None)


def test_only_the_first_rows_of_a_tensor_are_read():
    name, device = "model.embed_tokens.weight", torch.device("cpu")
    whole = tensor_reader(TARGET, device, torch.float32)(name, (4096, 384))
    read = []
    part = tensor_reader(TARGET, device, torch.float32, read.append, {name: 10})(name, (10, 384))
    assert torch.equal(part, whole[:10])
    assert read == [10 * 384 * 2]
