"""What is done before `import torch`: mapping its libraries, and telling its threads how to wait.

The import maps hundreds of megabytes of shared libraries with the interpreter locked (0.3 s on a CPU build, longer with
CUDA's), and a screen stands still for as long. A foreign call releases the lock, so the C function is called itself:
`ctypes.CDLL` holds the lock while it maps. What is mapped already costs the import nothing.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from pathlib import Path

_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def wait_asleep() -> bool:
    """Have OpenMP's threads sleep while they wait for one another, unless the user has said how they are to.

    By default they spin. Where another process needs one of the cores, a thread that has no core is then waited for by
    one that does nothing with its own: a run on two busy cores took more than ten times as long. Waking a thread costs
    some microseconds. Returns whether it is not too late, torch being imported, and the user's choice is free.
    """
    if "torch" in sys.modules or any(name in os.environ for name in _WAITING):
        return False
    os.environ["OMP_WAIT_POLICY"] = "passive"
    return True


def preload_torch() -> bool:
    """Map torch's libraries on Linux; elsewhere, or where they are not found, do nothing. Returns whether it did."""
    if not sys.platform.startswith("linux") or "torch" in sys.modules:
        return False
    found = importlib.util.find_spec("torch")
    if found is None or not found.submodule_search_locations:
        return False
    folder = Path(next(iter(found.submodule_search_locations))) / "lib"
    try:
        dlopen = ctypes.CDLL(None).dlopen
    except (AttributeError, OSError):  # a C library that keeps it elsewhere
        return False
    dlopen.argtypes, dlopen.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
    # As `import torch` does it: the dependencies' symbols for everyone, then the rest. The import tells of a failure.
    dependencies = dlopen(os.fsencode(folder / "libtorch_global_deps.so"), os.RTLD_NOW | os.RTLD_GLOBAL)
    return bool(dependencies and dlopen(os.fsencode(folder / "libtorch_python.so"), os.RTLD_NOW | os.RTLD_LOCAL))
