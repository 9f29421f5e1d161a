"""Root mean square norm (Zhang & Sennrich 2019, arXiv 1910.07467)."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


class RmsNorm:
    """x [..., D] / sqrt(mean(x^2) + eps) * weight / gain.

    On a CPU `F.rms_norm` is a chain of six operations; here it is four: the mean's factor is in the weight, and the
    square root of two squares is `hypot`.
    """

    def __init__(self, weight: Tensor, eps: float, gain: float = 1.0) -> None:
        """weight: [..., D]; `gain` is a power of two (see `Product`)."""
        self._size, self._eps = weight.shape[-1], eps
        self._weight = weight / gain
        self._scaled = self._weight * math.sqrt(self._size)
        self._floor = torch.tensor(math.sqrt(self._size * eps), dtype=weight.dtype, device=weight.device)
        self._numbers: NDArray[np.float32] | None = None
        if weight.device.type == "cpu" and weight.dtype == torch.float32:
            self._numbers = self._weight.numpy()
        self._composed = weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.float64)

    def __call__(self, x: Tensor) -> Tensor:
        """See the class; x has the weight's dtype."""
        if self._composed:
            length = torch.linalg.vector_norm(x, 2, -1, True)
            return x.div(torch.hypot(length, self._floor)).mul_(self._scaled)
        if self._weight.ndim == 1:
            return F.rms_norm(x, (self._size,), self._weight, self._eps)
        return F.rms_norm(x, (self._size,), None, self._eps) * self._weight

    def into(self, out: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same of a float32 weight on a CPU, in numpy, which is quicker where there is little to do. x and `out`
        are [..., D] and apart; returns `out`."""
        assert self._numbers is not None
        np.multiply(x, self._numbers, out)
        if x.size == self._size:
            own = x.ravel()
            out *= 1.0 / math.sqrt(own.dot(own) / self._size + self._eps)
            return out
        length = np.vecdot(x, x)
        length *= 1.0 / self._size
        length += self._eps
        out /= np.sqrt(length, length)[..., None]
        return out

    @property
    def address(self) -> int:
        """Where its numbers lie, of a float32 weight on a CPU."""
        return self._weight.data_ptr()

    @property
    def parameters(self) -> int:
        """Weights."""
        return self._weight.numel()
