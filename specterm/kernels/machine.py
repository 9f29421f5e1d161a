"""The processor at hand: how wide its vectors are."""

from __future__ import annotations

import ctypes
import platform
from dataclasses import dataclass
from functools import cache

_X86_64_V4 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx2", "fma", "f16c"}
_X86_64_V3 = {"avx2", "fma", "f16c", "bmi", "bmi2"}
_AMX = {"amx-tile", "amx-bf16", "amx-int8"}
_ARCH_PRCTL, _REQUEST, _TILE_DATA = 158, 0x1023, 18
"""Linux's numbers: of the call on x86-64, of a request for a part of the processor's state, of the tiles' part."""


@dataclass(frozen=True, slots=True)
class Machine:
    """lanes: floats in a vector; rows: of a product that fit into its registers; cpu: LLVM's name of what it can do;
    tiles: whether it multiplies tiles of bfloat16 and of 8-bit integers."""

    cpu: str
    lanes: int
    rows: int
    tiles: bool = False

    @property
    def steps(self) -> tuple[int, ...]:
        """Behind so many tokens the next one costs more: they fill the registers once, or twice."""
        return (5, 10, 16) if self.tiles else (self.rows, 2 * self.rows)

    @property
    def columns(self) -> int:
        """Of a product at a time: four vectors, so that no step waits for the one before."""
        return 4 * self.lanes


@cache
def this_machine() -> Machine | None:
    """None where kernels are not worth it: a processor without wide vectors, or one that nobody thought of."""
    try:
        from llvmlite import binding
    except ImportError:  # no wheel for this Python or this system
        return None
    architecture = binding.get_default_triple().split("-")[0]
    has = {name for name, there in binding.get_host_cpu_features().items() if there}
    if architecture in ("x86_64", "amd64"):
        if has >= _X86_64_V4:
            return Machine("x86-64-v4", lanes=16, rows=6, tiles=has >= _AMX and _may_use_tiles())
        if has >= _X86_64_V3:
            return Machine("x86-64-v3", lanes=8, rows=3)
    if architecture in ("aarch64", "arm64"):
        return Machine("apple-m1" if "apple" in binding.get_default_triple() else "generic", lanes=4, rows=6)
    return None


def _may_use_tiles() -> bool:
    """Linux keeps the tiles' registers only for processes that ask."""
    if platform.system() != "Linux":
        return False
    return bool(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST, _TILE_DATA) == 0)
