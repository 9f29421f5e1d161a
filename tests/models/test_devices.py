"""Which device and number format a request gets."""

import pytest
import torch

from specterm.config import ModelSpec
from specterm.errors import ConfigError, DeviceError
from specterm.models import devices
from specterm.models.loading import load_models

CPU, CUDA, MPS = (torch.device(kind) for kind in ("cpu", "cuda", "mps"))


def machine(monkeypatch, gpus: int, built_with: str | None = "13.0", mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.version, "cuda", built_with)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("requested", "gpus", "mps", "device"),
    [
        ("auto", 0, False, "cpu"), ("auto", 2, False, "cuda:0"), ("cpu", 2, False, "cpu"), ("cuda", 2, False, "cuda:0"),
        ("cuda:1", 2, False, "cuda:1"), ("mps", 0, True, "mps"), ("auto", 0, True, "cpu"),
    ],
)  # fmt: skip
def test_devices(requested, gpus, mps, device, monkeypatch):
    machine(monkeypatch, gpus, mps=mps)
    assert devices.choose_device(requested) == torch.device(device)


@pytest.mark.parametrize("requested", ["tpu", "", "cpu:1", "cuda:", "cuda:x", "cuda:-1", "xpu", "mps:0", "CUDA"])
def test_unknown_devices(requested):
    with pytest.raises(ConfigError, match="it must be auto, cpu, cuda, cuda:N or mps") as caught:
        devices.choose_device(requested)
    assert caught.value.exit_code == 2
    assert repr(requested) in str(caught.value)


@pytest.mark.parametrize(
    ("requested", "gpus", "built_with", "told"),
    [
        ("cuda", 0, None, "this build of torch has no CUDA"),
        ("cuda:1", 0, "13.0", "torch finds no CUDA device"),
        ("cuda:99", 2, "13.0", "there are 2 CUDA devices; the last is cuda:1"),
        ("cuda:1", 1, "13.0", "there is 1 CUDA device; the last is cuda:0"),
        ("mps", 0, None, "--device is mps"),
    ],
)
def test_devices_that_are_not_there(requested, gpus, built_with, told, monkeypatch):
    machine(monkeypatch, gpus, built_with)
    with pytest.raises(DeviceError, match=told) as caught:
        load_models(ModelSpec(device=requested).checked())
    assert caught.value.exit_code == 3
    assert requested in str(caught.value)


@pytest.mark.parametrize(
    ("requested", "device", "stored", "native_bf16", "dtype"),
    [
        ("auto", CUDA, torch.bfloat16, False, torch.bfloat16),
        ("auto", CUDA, torch.float16, False, torch.float16),
        ("auto", CPU, torch.bfloat16, True, torch.bfloat16),
        ("auto", CPU, torch.bfloat16, False, torch.float32),
        ("auto", CPU, torch.float16, True, torch.float32),
        ("auto", CPU, torch.float32, True, torch.float32),
        ("auto", MPS, torch.float64, False, torch.float32),
        ("auto", MPS, torch.float16, False, torch.float16),
        ("float64", CPU, torch.bfloat16, False, torch.float64),
        ("bfloat16", CPU, torch.float32, False, torch.bfloat16),
        ("float16", CUDA, torch.float32, False, torch.float16),
    ],
)
def test_dtypes(requested, device, stored, native_bf16, dtype, monkeypatch):
    monkeypatch.setattr(devices, "cpu_has_bf16", lambda: native_bf16)
    assert devices.choose_dtype(requested, device, stored) == dtype


def test_mps_has_no_float64():
    with pytest.raises(ConfigError, match="float64"):
        devices.choose_dtype("float64", MPS, torch.float32)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("bfloat16", torch.bfloat16), ("torch.float16", torch.float16), (None, torch.float32), (3, torch.float32),
     ("fp8", torch.float32)],
)  # fmt: skip
def test_stored_dtypes(name, dtype):
    assert devices.stored_dtype(name) == dtype


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_the_models_have_it(dtype):
    models = load_models(ModelSpec(dtype=dtype, device="cpu").checked())
    for loaded in (models.target, *models.drafts):
        assert loaded.info.dtype == dtype
        assert loaded.info.device == "cpu"
        stored = loaded.info.parameters * getattr(torch, dtype).itemsize
        # Packed products take 16 bits a weight, in a second layout those of the table that is also looked up.
        table = 2 * loaded.runner.embedding_weight().numel() + 4 * 10_000  # norms stay in float32
        assert loaded.info.weight_bytes <= stored + (table if dtype == "bfloat16" else 0)
        assert loaded.info.weight_bytes >= loaded.info.parameters * 2
        assert loaded.runner.dtype == loaded.runner.head_weight().dtype == getattr(torch, dtype)


@pytest.mark.gpu
def test_a_gpu_that_is_not_there():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    with pytest.raises(DeviceError, match="cuda:99"):
        load_models(ModelSpec(device="cuda:99").checked())
