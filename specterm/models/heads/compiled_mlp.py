"""A level of an MLP speculator by a kernel of this machine; see `compiled.mlp`."""

from __future__ import annotations

from ctypes import c_int64

import torch
import torch.nn.functional as F
from torch import Tensor

from specterm.kernels.machine import this_machine
from specterm.models.compiled.kernels import mlp_kernel
from specterm.models.compiled.matrix import CompiledMatrix
from specterm.models.compiled.words import MlpWord
from specterm.models.runners.rooms import single_bits

_LANES = 16
"""Of the widest vectors."""


class CompiledMlp:
    """One level whose products are compiled; not for two threads at once."""

    most_states = 64
    """More go through torch's operations."""

    def __init__(
        self, proj: CompiledMatrix, head: CompiledMatrix, emb: Tensor, norm: Tensor, weights: tuple[float, float],
        eps: float,
    ) -> None:  # fmt: skip
        """emb: float32, see `padded`; norm: weight and bias, float32 [2, inner]; weights: of the state and of the
        token."""
        machine = this_machine()
        assert machine is not None, "there are compiled weights"
        self._run = mlp_kernel(machine, proj.kind, head.kind)
        self._wide, self._inner, self._vocab = proj.inner, proj.out, head.out
        self._padded, share = emb.shape[1], proj.out / emb.shape[1]  # of what the norm's mean is over
        self._held = proj, head, emb, padded(norm[0] * share**0.5), padded(norm[1])
        self._state, self._token, self._eps = (single_bits(value) for value in (*weights, eps * share))
        self._rooms: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, states: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [..., V] and the next states [..., inner] from states, float32 [..., wide], and tokens, int64 [...],
        each within the embedding."""
        proj, head, emb, norm, bias = self._held
        states, ids, rows = states.contiguous(), ids.contiguous(), ids.numel()
        if rows not in self._rooms:
            scratch = torch.empty(max(proj.scratch(rows), head.scratch(rows)), dtype=torch.uint8)
            self._rooms[rows] = torch.zeros((rows, self._padded)), scratch
        following, scratch = self._rooms[rows]
        logits = torch.empty((*ids.shape, self._vocab))
        self._run((c_int64 * len(MlpWord))(
            rows, self._wide, self._inner, self._padded, self._vocab, states.data_ptr(), ids.data_ptr(),
            proj.panels.data_ptr(), self._state, emb.data_ptr(), self._token, norm.data_ptr(), bias.data_ptr(),
            self._eps, head.panels.data_ptr(), following.data_ptr(), logits.data_ptr(), scratch.data_ptr(),
        ))  # fmt: skip
        return logits, following[:, : self._inner].clone().view(*ids.shape, self._inner)


def padded(table: Tensor) -> Tensor:
    """[..., inner] with zeros behind, up to whole vectors."""
    return F.pad(table, (0, -table.shape[-1] % _LANES)).contiguous()
