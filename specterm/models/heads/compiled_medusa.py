"""Medusa heads by a kernel of this machine; see `compiled.medusa`."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import addressof, c_float, c_int64

import torch
from torch import Tensor

from specterm.decoding.host import Ranked
from specterm.kernels.machine import this_machine
from specterm.models.compiled.kernels import medusa_kernel
from specterm.models.compiled.matrix import CompiledMatrix
from specterm.models.compiled.words import MedusaWord


class CompiledMedusa:
    """Heads whose weights are all compiled and held alike, and as wide as vectors want; not for two threads at once."""

    def __init__(
        self, first: CompiledMatrix, further: Sequence[Sequence[CompiledMatrix]], judges: Sequence[CompiledMatrix],
        biases: Tensor,
    ) -> None:  # fmt: skip
        """first: of all heads, [heads * hidden, hidden]; further: one a layer and head; judges: one a head; biases:
        float32 [layers, heads, hidden]."""
        machine = this_machine()
        assert machine is not None, "there are compiled weights"
        self._run = medusa_kernel(machine, first.kind)
        self._heads, self._hidden, self._vocab = len(judges), first.inner, judges[0].out
        self._products = [first, *(product for layer in further for product in layer), *judges]
        self._biases = [first.filled(biases[0].flatten())]
        self._biases += [
            product.filled(bias) for layer, own in zip(further, biases[1:], strict=True)
            for product, bias in zip(layer, own, strict=True)
        ]  # fmt: skip
        weights = [product.panels.data_ptr() for layer in further for product in layer]
        self._tables = [
            (c_int64 * len(table))(*table)
            for table in (
                weights,
                [bias.data_ptr() for bias in self._biases[1:]],
                [judge.panels.data_ptr() for judge in judges],
            )
        ]
        self._fixed = (
            len(further), first.panels.data_ptr(), self._biases[0].data_ptr(), *map(addressof, self._tables)
        )  # fmt: skip
        self._rooms: dict[int, tuple[Tensor, ...]] = {}

    def ranked(self, states: Tensor, count: int) -> list[list[Ranked]]:
        """The `count` likeliest tokens of each head, [N][heads], from states, float32 [N, hidden]."""
        rows, heads, found = len(states), self._heads, min(count, self._vocab)
        states = states.contiguous()
        x, y, logits, scratch = self._room(rows)
        total = rows * heads * found
        ids, shares = (c_int64 * total)(), (c_float * total)()
        further, first, first_bias, weights, biases, judges = self._fixed
        self._run((c_int64 * len(MedusaWord))(
            rows, heads, self._hidden, self._vocab, found, further, states.data_ptr(), first, first_bias, weights,
            biases, judges, x.data_ptr(), y.data_ptr(), logits.data_ptr(), scratch.data_ptr(), addressof(ids),
            addressof(shares),
        ))  # fmt: skip
        both = [(ids[i : i + found], shares[i : i + found]) for i in range(0, total, found)]
        return [both[row * heads : row * heads + heads] for row in range(rows)]

    def _room(self, rows: int) -> tuple[Tensor, ...]:
        if rows not in self._rooms:
            of_heads = self._heads, rows, self._hidden
            scratch = max(product.scratch(rows) for product in self._products)
            self._rooms[rows] = (
                torch.empty(of_heads), torch.empty(of_heads), torch.empty((rows, self._vocab)),
                torch.empty(scratch, dtype=torch.uint8),
            )  # fmt: skip
        return self._rooms[rows]
