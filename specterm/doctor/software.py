"""Python, torch and the packages that specterm stands on."""

from __future__ import annotations

import logging
import platform
import sys

from specterm.catalogue import METHODS
from specterm.catalogue.plugins import BROKEN, GROUP, PLUGINS, discover
from specterm.doctor.report import Line
from specterm.telemetry.environment import package_version
from specterm.version import __version__

MIN_PYTHON = (3, 11)

_REQUIRED = ("transformers", "accelerate", "tokenizers", "safetensors", "msgspec", "textual", "rich", "typer", "psutil")


def software_lines() -> list[Line]:
    """Versions of everything, and whether torch and bitsandbytes really work."""
    packages = [_package(name, required=True) for name in _REQUIRED]
    return [
        Line("specterm", "ok", __version__),
        _python(sys.version_info[:2]),
        _torch(),
        *packages,
        _package("nvidia-ml-py", required=False),
        _bitsandbytes(),
        *_drafters(),
    ]


def _python(version: tuple[int, int]) -> Line:
    told = f"{platform.python_implementation()} {platform.python_version()} on {platform.platform()}"
    if version < MIN_PYTHON:
        least = ".".join(map(str, MIN_PYTHON))
        return Line("python", "missing", told, f"specterm needs Python {least} or newer", required=True)
    return Line("python", "ok", told)


def _torch() -> Line:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Line("torch", "missing", f"cannot be imported: {_first_line(error)}", "pip install torch", required=True)
    if torch.version.cuda is not None:
        build = f"CUDA {torch.version.cuda} build"
    elif torch.version.hip is not None:
        return Line(
            "torch",
            "note",
            f"{torch.__version__}, ROCm build: specterm does not run on AMD GPUs and uses the CPU",
            "use a machine with an NVIDIA GPU, or name a vLLM server",
        )
    else:
        build = "Metal build" if torch.backends.mps.is_available() else "CPU build"
    return Line("torch", "ok", f"{torch.__version__}, {build}")


def _package(name: str, *, required: bool) -> Line:
    version = package_version(name)
    if version is None:
        return Line(name, "missing" if required else "note", "is not installed", f"pip install {name}", required)
    return Line(name, "ok", version)


def _bitsandbytes() -> Line:
    """Weights are quantized to 4 bits and back, and multiplied in 8, on the device that would be used."""
    name = "bitsandbytes"
    version = package_version(name)
    if version is None:
        return Line(name, "note", "is not installed: no --quantize", f"pip install {name}")
    try:
        # As it is imported it warns of faster kernels that others have.
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
        import bitsandbytes
        import torch

        from specterm.models.devices import choose_device

        device = choose_device("auto")
        generator = torch.Generator().manual_seed(0)
        weights = torch.randn(64, 64, generator=generator).to(device, torch.float16)
        packed, state = bitsandbytes.functional.quantize_4bit(weights, quant_type="nf4")
        unpacked = bitsandbytes.functional.dequantize_4bit(packed, state)
        error_4bit = float((unpacked - weights).abs().mean() / weights.abs().mean())
        linear = bitsandbytes.nn.Linear8bitLt(64, 64, bias=False, has_fp16_weights=False)
        linear.weight = bitsandbytes.nn.Int8Params(weights.cpu(), has_fp16_weights=False, requires_grad=False)
        with torch.no_grad():
            product = linear.to(device)(weights).float()
        exact = weights.float() @ weights.float().T
        error_8bit = float((product - exact).abs().mean() / exact.abs().mean())
    except Exception as error:  # it fails in many ways where its native library does not fit the machine
        return Line(name, "note", f"{version} does not work here: {_first_line(error)}", "leave --quantize at none")
    told = f"{version}, tried on {device}: mean error {error_4bit:.1%} in 4 bits, {error_8bit:.1%} in 8"
    if error_4bit > 0.2 or error_8bit > 0.1:
        return Line(name, "note", f"{told}, which is more than it should be", "leave --quantize at none")
    return Line(name, "ok", told)


def _drafters() -> list[Line]:
    """The methods that installed packages offer."""
    discover()
    good = [Line(f"drafter {name}", "ok", METHODS[name].title) for name in PLUGINS]
    advice = f"mend or remove the package; its entry point is in the group {GROUP}"
    return good + [Line(f"drafter {name}", "note", str(error), advice) for name, error in BROKEN.items()]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
