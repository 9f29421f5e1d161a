"""Muon: momentum whose matrix updates are made orthogonal (Jordan et al. 2024, "Muon: an optimizer for hidden layers").

torch has one since 2.9; it iterates in bfloat16 everywhere, which processors without instructions for it only emulate,
twenty times slower than float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from specterm.models.devices import choose_dtype

_ITERATIONS = 5
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic whose fixed points the singular values are drawn to


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal: for the matrices within a model, not for embeddings, heads and norms."""

    def __init__(self, matrices: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        """lr: the spectral norm of an update, times sqrt(rows / columns) for a matrix with more rows than columns."""
        super().__init__(matrices, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient; `closure` is not called."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                momentum = self.state[matrix].setdefault("momentum", torch.zeros_like(matrix))
                momentum.lerp_(matrix.grad, 1.0 - group["momentum"])
                update = orthogonalised(matrix.grad.lerp(momentum, group["momentum"]))
                rows, columns = matrix.shape
                matrix.add_(update, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)


def orthogonalised(matrix: Tensor) -> Tensor:
    """`matrix`, [R, C], with singular values near 1 (0.7 to 1.2): five Newton-Schulz iterations.

    In bfloat16, which is enough, where the device multiplies it itself; else in float32. Returns the dtype of `matrix`.
    """
    a, b, c = _COEFFICIENTS
    found = matrix.to(choose_dtype("auto", matrix.device, torch.bfloat16))
    wide = found.shape[0] <= found.shape[1]
    found = found if wide else found.T
    found = found / (found.norm() + 1e-7)
    for _ in range(_ITERATIONS):
        gram = found @ found.T
        found = torch.addmm(found, torch.addmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return (found if wide else found.T).to(matrix.dtype)
