"""What a command's failure comes to: a line that says what happened and what to do, the exit code, and whether the
process can still use its device.

A CUDA context that a kernel has broken (a failed assertion on the device, an illegal address, a GPU that fell off the
bus) answers every later call with the same error, and only a new process gets a new one. An error in a call's arguments
leaves it whole. The message does not tell them apart with certainty; asking the device does.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass

from specterm.errors import ExitCode, SpectermError, one_line
from specterm.models.faults import is_device_failure, is_out_of_memory

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """See the module. `unexpected`: nobody checked for it, so what it left behind is to be put in order."""

    text: str
    exit_code: int
    unexpected: bool = True
    device_lost: bool = False


def explain(error: BaseException) -> Failure:
    """What `error`, which ended a command of the engine, comes to."""
    if isinstance(error, SpectermError):  # the message is made; the cause, if it has one, was no bad input
        return Failure(str(error), error.exit_code, unexpected=error.__cause__ is not None)
    _log.error("the engine failed", exc_info=error)
    if is_out_of_memory(error):
        where = "this machine" if isinstance(error, MemoryError) or "CPU" in str(error) else "the device"
        advice = (
            "free some, or take a smaller --batch-size, --max-tokens or --max-model-len, --quantize or other models"
        )
        return Failure(f"{where} ran out of memory; {advice}", ExitCode.UNAVAILABLE)
    if not is_device_failure(error):
        return Failure(f"{type(error).__name__}: {one_line(error)}", ExitCode.RUN_FAILED)
    if _device_answers():
        return Failure(f"the device failed: {one_line(error)}", ExitCode.UNAVAILABLE)
    return Failure(
        f"the device failed, and this process has lost it: {one_line(error)}; leave specterm and start it again (if "
        "that fails too, nvidia-smi shows whether the device is still there)",
        ExitCode.UNAVAILABLE,
        device_lost=True,
    )


def _device_answers() -> bool:
    """Whether CUDA still does what it is told."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return True
    try:
        torch.cuda.synchronize()
    except Exception:
        return False
    return True
