"""The likeliest tokens by a kernel of this machine; see `RanksTokens`."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from specterm.models.compiled.kernels import top_kernel
from specterm.models.compiled.machine import this_machine


class LikeliestTokens:
    """`likeliest` of what decodes on a CPU in float32, where there are kernels."""

    def __init__(self) -> None:
        """Raises:
        RuntimeError: there are no kernels for this machine.
        """
        machine = this_machine()
        if machine is None:
            raise RuntimeError("no kernels can be compiled for this machine")
        self._top = top_kernel(machine)

    def __call__(self, logits: Tensor, count: int) -> list[list[tuple[list[int], list[float]]]]:
        """See `RanksTokens`; logits: float32."""
        logits = logits if logits.is_contiguous() else logits.contiguous()
        rows, paths, vocab = logits.shape
        count = min(count, vocab)
        ids, shares = np.empty((rows * paths, count), dtype=np.int64), np.empty((rows * paths, count), dtype=np.float32)
        self._top(logits.data_ptr(), rows * paths, vocab, vocab, count, ids.ctypes.data, shares.ctypes.data)
        found = list(zip(ids.tolist(), shares.tolist(), strict=True))
        return [found[row * paths : row * paths + paths] for row in range(rows)]
