"""Which device and which number format a model gets."""

from __future__ import annotations

import re

import psutil
import torch

from specterm.errors import ConfigError, DeviceError

_DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def choose_device(requested: str) -> torch.device:
    """The torch device for `requested`: "auto" (CUDA where there is one, else the CPU), "cpu", "cuda", "cuda:N", "mps".

    Raises:
        ConfigError: no such kind of device is supported.
        DeviceError: the device is not there.
    """
    if requested == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    match = re.fullmatch(r"(cpu|cuda|mps)(?::(\d+))?", requested)
    if match is None or (match[1] != "cuda" and match[2]):
        raise ConfigError(f"--device is {requested!r}; it must be auto, cpu, cuda, cuda:N or mps")
    if match[1] == "cuda":
        return _cuda(int(match[2] or 0), requested)
    if match[1] == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("--device is mps and this machine has none; use --device cpu")
    return torch.device(match[1])


def _cuda(index: int, requested: str) -> torch.device:
    if not torch.cuda.is_available():
        why = "this build of torch has no CUDA" if torch.version.cuda is None else "torch finds no CUDA device"
        raise DeviceError(f"--device is {requested} and {why}; use --device cpu, or see specterm --doctor")
    count = torch.cuda.device_count()
    if index >= count:
        there = "is 1 CUDA device" if count == 1 else f"are {count} CUDA devices"
        raise DeviceError(f"--device is {requested} and there {there}; the last is cuda:{count - 1}")
    return torch.device("cuda", index)


def has_room(device: torch.device, stored_bytes: int) -> bool:
    """Whether weights of `stored_bytes` on disk surely fit beside what `device` holds now.

    Four times as much must be free, since bfloat16 may be loaded as float64, and a gigabyte for the passes. False where
    the device does not tell.
    """
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    elif device.type == "cpu":
        free = int(psutil.virtual_memory().available)
    else:
        return False
    return free > 4 * stored_bytes + 2**30


def choose_dtype(requested: str, device: torch.device, stored: torch.dtype) -> torch.dtype:
    """The number format for weights of format `stored` on `device`.

    "auto" keeps the stored one on an accelerator. On a CPU it is float32, unless the CPU multiplies bfloat16 natively;
    then the two are measured as far as that is possible (see `quickest_format`).

    Raises:
        ConfigError: the device does not have the format.
    """
    if requested == "auto":
        if device.type == "cpu":
            return torch.bfloat16 if stored == torch.bfloat16 and cpu_has_bf16() else torch.float32
        return torch.float32 if stored == torch.float64 and device.type == "mps" else stored
    if requested == "float64" and device.type == "mps":
        raise ConfigError("--dtype is float64, which the mps device does not have; use float32")
    return _DTYPES[requested]


def cpu_has_bf16() -> bool:
    """Whether this CPU has instructions for bfloat16 products (AVX-512 BF16 or AMX, ARM's BF16)."""
    cpu = torch.cpu
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported")
    return any(bool(getattr(cpu, probe)()) for probe in probes if hasattr(cpu, probe))


def device_name(device: torch.device) -> str:
    """What the device calls itself."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return "Apple GPU" if device.type == "mps" else "CPU"


def stored_dtype(name: object) -> torch.dtype:
    """The torch dtype that a model's config names; float32 where it names none that is known."""
    return _DTYPES.get(str(name).removeprefix("torch."), torch.float32)
