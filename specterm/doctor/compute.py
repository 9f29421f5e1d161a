"""What models would run on: processor, memory, GPUs, and the device and number format chosen by default."""

from __future__ import annotations

import os
from typing import Any

from specterm.doctor.report import Line
from specterm.errors import one_line
from specterm.telemetry.nvml import GpuInfo, NvmlSource
from specterm.telemetry.processor import cpu_features, cpu_model

_BF16_FLAGS = ("amx_bf16", "avx512_bf16", "bf16")
_GET_TORCH = "install a CUDA build of torch (https://pytorch.org/get-started/locally)"


def compute_lines(nvml: NvmlSource) -> list[Line]:
    """The processor and the memory; with torch, also what it finds and what would be chosen."""
    lines = [_processor(), _memory()]
    try:
        import torch
    except (ImportError, OSError):
        return lines  # the software section names it
    return [*lines, _threads(torch), _kernels(), *gpu_lines(torch, nvml), *_defaults(torch)]


def usable_cpus() -> int:
    """How many logical processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> Line:
    import psutil

    cores, threads, usable = psutil.cpu_count(logical=False), psutil.cpu_count(logical=True), usable_cpus()
    told = f"{cpu_model()}, {cores or 'an unknown number of'} cores, {threads} threads"
    if threads is not None and usable < threads:
        told += f", of which this process may use {usable}"
    flags = cpu_features()
    if flags is None:
        return Line("processor", "ok", told)
    found = [flag for flag in _BF16_FLAGS if flag in flags]
    if found:
        return Line("processor", "ok", f"{told}; bfloat16 instructions: {', '.join(found)}")
    return Line("processor", "note", f"{told}; no bfloat16 instructions, so --dtype auto is float32 on it")


def _memory() -> Line:
    import psutil

    memory = psutil.virtual_memory()
    return Line("memory", "ok", f"{_gib(memory.total)}, {_gib(memory.available)} available")


def _threads(torch: Any) -> Line:
    import psutil

    threads = int(torch.get_num_threads())
    cores = min(psutil.cpu_count(logical=False) or usable_cpus(), usable_cpus())
    told = f"torch computes with {threads} of {cores} usable cores"
    if "OMP_NUM_THREADS" in os.environ:
        told += f" (OMP_NUM_THREADS is {os.environ['OMP_NUM_THREADS']})"
    if threads == cores:
        return Line("threads", "ok", told)
    return Line("threads", "note", told, f"give --threads {cores} if models run on the processor")


def gpu_lines(torch: Any, nvml: NvmlSource) -> list[Line]:
    """One line for each CUDA device, or one that says why there is none."""
    known = nvml.describe()
    if not torch.cuda.is_available():
        if not known:
            return [Line("gpu", "note", "no CUDA device: models run on the processor")]
        names = ", ".join(gpu.name for gpu in known)
        driver = known[0].driver or "unknown"
        if torch.version.cuda is None:
            return [Line("gpu", "missing", f"{names} cannot be used: this torch is not a CUDA build", _GET_TORCH)]
        return [
            Line(
                "gpu",
                "missing",
                f"{names} cannot be used: torch (CUDA {torch.version.cuda}) finds no device with driver {driver}",
                "update the NVIDIA driver, or install a torch built for an older CUDA",
            )
        ]
    return [
        _cuda_device(index, torch.cuda.get_device_properties(index), known[index] if index < len(known) else None)
        for index in range(torch.cuda.device_count())
    ]


def _cuda_device(index: int, found: Any, read: GpuInfo | None) -> Line:
    """What torch calls cuda:`index`; `read` is what the monitor reads as gpu:`index`."""
    name = f"cuda:{index}"
    told = f"{found.name}, {_gib(found.total_memory)}, compute capability {found.major}.{found.minor}"
    if read is None:
        return Line(name, "note", f"{told}; NVML does not see it, so its sensors are n/a")
    if read.driver:
        told += f", driver {read.driver}"
    if read.mig:
        told += ", MIG slice"
    elif read.name != found.name:
        return Line(
            name,
            "note",
            f"{told}; the monitor reads {read.name} as gpu:{index}",
            "set CUDA_DEVICE_ORDER=PCI_BUS_ID, so that CUDA and NVML number the GPUs alike",
        )
    return Line(name, "ok", told)


def _kernels() -> Line:
    """Whether small models decode by kernels of our own: compiles one, and multiplies with it."""
    import torch

    from specterm.kernels.machine import this_machine
    from specterm.models.compiled.matrix import CompiledMatrix

    name, machine = "CPU kernels", this_machine()
    if machine is None:
        return Line(name, "note", "none for this processor; torch's products serve, which are slower with few tokens")
    weight, x = torch.randn(64, 64).bfloat16().float(), torch.randn(5, 64)
    try:
        right = torch.allclose(CompiledMatrix(weight)(x), x @ weight.T, atol=1e-4)
    except RuntimeError as error:
        return Line(name, "missing", f"LLVM refuses to compile them: {one_line(error)}", "install llvmlite anew")
    if not right:
        return Line(name, "missing", "a compiled product is not what torch makes of it", "install llvmlite anew")
    units = ", matrix units (AMX)" if machine.tiles else ""
    return Line(name, "ok", f"compiled for {machine.cpu}, vectors of {machine.lanes} numbers{units}")


def _defaults(torch: Any) -> list[Line]:
    """What `--device auto` and `--dtype auto` mean here, asked of the functions that decide."""
    from specterm.models.devices import choose_device, choose_dtype

    device = choose_device("auto")
    formats = {
        str(stored).removeprefix("torch."): str(choose_dtype("auto", device, stored)).removeprefix("torch.")
        for stored in (torch.float32, torch.bfloat16, torch.float16)
    }
    told = ", ".join(f"{stored} weights in {used}" for stored, used in formats.items())
    if device.type == "cpu" and formats["bfloat16"] == "bfloat16":
        told += f" where that measures faster ({_measured_formats()})"
    return [Line("default device", "ok", str(device)), Line("default dtype", "ok", f"on {device}: {told}")]


def _measured_formats() -> str:
    """What a CPU that has the choice makes of it for the built-in target."""
    from specterm.models.folders import BUILTIN_FOLDER, read_config
    from specterm.models.formats import quickest_format
    from specterm.models.products import TARGET_WIDTHS

    folder = BUILTIN_FOLDER / "target"
    dtype, took = quickest_format(folder, read_config(folder), TARGET_WIDTHS)
    each = ", ".join(f"{1e3 * seconds:.2f} ms in {name}" for name, seconds in (took or {}).items())
    widths = ", ".join(map(str, TARGET_WIDTHS))
    in_dtype = str(dtype).removeprefix("torch.")
    return f"the built-in target runs in {in_dtype}: passes of {widths} tokens through a layer take {each}"


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
