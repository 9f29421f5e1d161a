"""What is made of logits by kernels of this machine, where they lie in its memory.

A few thousand numbers are looked at sooner than an operation of a library begins.
"""

from __future__ import annotations

from ctypes import Array, addressof, c_int64
from functools import cache, lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specterm.kernels.choosing import law_kernels, top_kernel, walk_kernel
from specterm.kernels.machine import Machine, this_machine
from specterm.kernels.words import WalkWord, WarpWord

if TYPE_CHECKING:
    from specterm.decoding.sampling import Warps

COLDEST = 1e-30
"""Below this temperature logits are divided by this one: they are to stay numbers in single precision."""
Ranked: TypeAlias = tuple[list[int], list[float]]
"""Tokens, the likeliest first, and their probabilities."""


class HostKernels:
    """For float32 on the CPU; see `host_kernels`."""

    def __init__(self, machine: Machine) -> None:
        self._top, self._walk = top_kernel(machine), walk_kernel(machine)
        self._law, self._draw = law_kernels(machine)
        self._warps = ToldWarps()

    def likeliest(self, logits: Tensor, count: int) -> list[list[Ranked]]:
        """Of logits [B, P, V] the `count` likeliest tokens of each, all where there are fewer, of equal ones the first;
        and their probabilities by the plain softmax."""
        logits = logits.contiguous()
        rows, paths, vocab = logits.shape
        count = min(count, vocab)
        ids, shares = np.empty((rows * paths, count), dtype=np.int64), np.empty((rows * paths, count), dtype=np.float32)
        self._top(logits.data_ptr(), rows * paths, vocab, vocab, count, ids.ctypes.data, shares.ctypes.data)
        found = list(zip(ids.tolist(), shares.tolist(), strict=True))
        return [found[row * paths : row * paths + paths] for row in range(rows)]

    def law(self, logits: Tensor, warps: Warps) -> Tensor:
        """See `sampling.probabilities`; without a `filter_value`, and not greedy."""
        logits, vocab = logits.contiguous(), logits.shape[-1]
        laws, room = torch.empty_like(logits), np.empty(vocab, dtype=np.float32)
        words = warp_words(warps)
        self._law(
            logits.data_ptr(), logits.numel() // vocab, vocab, words.ctypes.data, laws.data_ptr(), room.ctypes.data
        )
        return laws

    def draw(self, laws: Tensor, uniforms: Tensor) -> Tensor:
        """See `sampling.draw`."""
        laws, uniforms = laws.contiguous(), uniforms.double().contiguous()
        tokens, vocab = torch.empty(uniforms.shape, dtype=torch.int64), laws.shape[-1]
        self._draw(laws.data_ptr(), uniforms.numel(), vocab, uniforms.data_ptr(), tokens.data_ptr())
        return tokens

    def walk(
        self, logits: int, vocab: int, nodes: int, tokens: int, parents: int, laws: int, warps: Warps,
        keys: tuple[int, int, int], position: int, begin: int,
    ) -> tuple[list[int], int]:  # fmt: skip
        """The exact rule's walk through one row's draft of `nodes` tokens, by their addresses: see `WalkWord`. keys: of
        the purposes TARGET, RATIO and RESIDUAL. The nodes that are kept, from 1, and the token behind them."""
        room = None if warps.greedy else np.empty(2 * vocab, dtype=np.float32)
        path = _integers(nodes + 2)()
        words = _WALK_WORDS(
            logits, vocab, nodes, tokens, parents, laws, self._warps.of(warps), *keys, position, begin,
            0 if room is None else room.ctypes.data, addressof(path),
        )  # fmt: skip
        self._walk(words)
        kept, following, *rest = path
        return rest[:kept], following


class ToldWarps:
    """Where the words of warps are, which are mostly those of the last time."""

    def __init__(self) -> None:
        self._told: tuple[Warps | None, NDArray[np.int64] | None, int] = None, None, 0

    def of(self, warps: Warps) -> int:
        """The address of `warp_words`, until it is asked for others."""
        told = self._told  # as one: another thread may ask for others meanwhile
        if told[0] is not warps:
            words = warp_words(warps)
            told = self._told = warps, words, words.ctypes.data
        return told[2]


@cache
def _integers(count: int) -> type[Array[c_int64]]:
    """An array of so many; they are made sooner than numpy's, and their addresses are found sooner."""
    return c_int64 * count


_WALK_WORDS = _integers(len(WalkWord))


@lru_cache(maxsize=64)
def warp_words(warps: Warps) -> NDArray[np.int64]:
    """`warps` for kernels: see `WarpWord`."""
    words = np.zeros(len(WarpWord), dtype=np.int64)
    temperature = 0.0 if warps.greedy else max(warps.temperature, COLDEST)
    single, double = words.view(np.float32)[::2], words.view(np.float64)  # the lower halves come first
    single[WarpWord.TEMPERATURE], single[WarpWord.MIN_P] = temperature, warps.min_p or 0.0
    words[WarpWord.TOP_K], double[WarpWord.TOP_P] = warps.top_k or 0, warps.top_p
    return words


def host_kernels(values: Tensor) -> HostKernels | None:
    """Those for `values`, where they are for such; None elsewhere, and where nothing can be compiled."""
    return _of_this_machine() if values.is_cpu and values.dtype == torch.float32 else None


@cache
def _of_this_machine() -> HostKernels | None:
    machine = this_machine()
    return None if machine is None else HostKernels(machine)
