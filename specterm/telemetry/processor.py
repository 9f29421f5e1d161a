"""What the processor is: its model name, and the instructions that decide how fast bfloat16 runs on it."""

from __future__ import annotations

import platform
import subprocess
import sys
from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


@cache
def cpu_model(cpuinfo: Path = CPUINFO) -> str:
    """The processor's model name ("AMD EPYC 9654 96-Core Processor"); its architecture where it has no name."""
    if sys.platform == "darwin":
        return _sysctl("machdep.cpu.brand_string") or platform.machine()
    return _field("model name", cpuinfo) or platform.processor() or platform.machine() or "unknown"


@cache
def cpu_features(cpuinfo: Path = CPUINFO) -> frozenset[str] | None:
    """The instruction set flags in Linux's names ("avx2", "avx512_bf16", "amx_bf16", "bf16" on Arm); None elsewhere."""
    flags = _field("flags", cpuinfo) or _field("Features", cpuinfo)
    return None if flags is None else frozenset(flags.split())


def _field(name: str, cpuinfo: Path) -> str | None:
    """The first processor's value of one field of /proc/cpuinfo."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        key, separator, value = line.partition(":")
        if separator and key.strip() == name:
            return value.strip() or None
    return None


def _sysctl(name: str) -> str | None:
    try:
        done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=2, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
