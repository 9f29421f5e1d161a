"""The machine and the software that a result was made with, for reports. No secrets, no host name, no folders."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict
from functools import cache
from importlib import metadata
from typing import Any

from specterm.telemetry.nvml import GpuInfo, NvmlSource
from specterm.telemetry.processor import cpu_model
from specterm.version import __version__

PACKAGES = ("torch", "llvmlite", "transformers", "accelerate", "bitsandbytes", "tokenizers", "safetensors", "textual")
VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "CUDA_LAUNCH_BLOCKING",
    "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_TF32_OVERRIDE",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "OMP_NUM_THREADS",
    "OMP_PROC_BIND",
    "OMP_PLACES",
    "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT",
    "KMP_BLOCKTIME",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "TOKENIZERS_PARALLELISM",
    "HF_HUB_OFFLINE",
)


def environment() -> dict[str, Any]:
    """The environment as plain data: versions, processor, memory in bytes, GPUs, and variables of an allow-list.

    Versions are read from the packages' metadata, so nothing heavy is imported. What is not known is None, and a
    package that is not installed is None too.
    """
    import psutil

    return {
        "specterm": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "os": platform.platform(),
        "machine": platform.machine(),
        "cpu": cpu_model(),
        "cpu_cores": psutil.cpu_count(logical=False),
        "cpu_threads": psutil.cpu_count(logical=True),
        "memory_bytes": psutil.virtual_memory().total,
        "packages": {name: package_version(name) for name in PACKAGES},
        "gpus": [asdict(gpu) for gpu in _gpus()],
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def package_version(name: str) -> str | None:
    """The installed version of a distribution; None when it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@cache
def _gpus() -> tuple[GpuInfo, ...]:
    """The GPUs, looked up once: starting NVML takes long, and they do not change while a process runs."""
    source = NvmlSource()
    try:
        return source.describe()
    finally:
        source.close()
