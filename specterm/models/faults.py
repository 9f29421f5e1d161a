"""What torch raises when memory or a device gives out. It says so in many ways, only some of which are a type.

No torch is imported here: what failed may be its import.
"""

from __future__ import annotations

# Allocators of CUDA, the CPU and MPS; libraries that ask CUDA for memory behind torch's back.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "_STATUS_ALLOC_FAILED")
_DEVICE = ("CUDA error", "cuDNN error", "CUBLAS_STATUS_", "CUSOLVER_STATUS_", "CUSPARSE_STATUS_", "NCCL error")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that the memory of a device, or of this machine, is used up."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _OUT_OF_MEMORY)


def is_device_failure(error: BaseException) -> bool:
    """Whether `error` is a device's own, for another reason than its memory."""
    if is_out_of_memory(error) or not isinstance(error, RuntimeError):
        return False
    return type(error).__name__ == "AcceleratorError" or any(sign in str(error) for sign in _DEVICE)
