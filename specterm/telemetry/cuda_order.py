"""Which GPUs a CUDA program sees, and in which order, from the environment alone (no CUDA is started).

CUDA numbers GPUs in PCI order when ``CUDA_DEVICE_ORDER=PCI_BUS_ID``, which is NVML's order too. By default it puts
the fastest GPU first: on a machine with equal GPUs that is the same order; with unequal ones "gpu:0" here may be
another card than CUDA's device 0, unless the variable is set or ``CUDA_VISIBLE_DEVICES`` names GPUs by UUID.
"""

from __future__ import annotations

from collections.abc import Sequence


def visible(uuids: Sequence[str | None], setting: str | None) -> list[tuple[int, str | None]]:
    """The GPUs that ``CUDA_VISIBLE_DEVICES`` leaves visible, in CUDA's order.

    As CUDA does, the list ends at the first entry that names no GPU (so "-1" and "" hide everything), a UUID may be
    cut short where it stays unique, and naming a GPU twice hides all of them.

    Args:
        uuids: the UUID of each GPU in NVML's order; None where it cannot be read.
        setting: the variable's value; None when it is not set.

    Returns:
        For each visible GPU its NVML index; and the MIG UUID where a MIG slice was named (its index is then -1, since
        only NVML can tell on which GPU it lies).
    """
    if setting is None:
        return [(index, None) for index in range(len(uuids))]
    chosen: list[tuple[int, str | None]] = []
    for entry in (part.strip() for part in setting.split(",")):
        if entry.startswith("MIG-"):
            found: tuple[int, str | None] | None = (-1, entry)
        else:
            index = _index(entry, uuids)
            found = None if index is None else (index, None)
        if found is None:
            break
        if found in chosen:
            return []
        chosen.append(found)
    return chosen


def _index(entry: str, uuids: Sequence[str | None]) -> int | None:
    if entry.isascii() and entry.isdigit():
        return int(entry) if int(entry) < len(uuids) else None
    if not entry.startswith("GPU-"):
        return None
    matches = [index for index, uuid in enumerate(uuids) if uuid is not None and uuid.startswith(entry)]
    return matches[0] if len(matches) == 1 else None
