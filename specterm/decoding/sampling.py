"""From logits to probabilities to tokens.

The warps are Hugging Face's, in their order: temperature, top-k, top-p, min-p. Random numbers are stateless: a uniform
is a hash of (seed, row key, purpose, index), so results depend neither on the batch's composition nor on a generator's
history, and are the same on every device. Tokens are drawn by inverse CDF in double precision; on devices without it
(Apple's MPS) in single precision with 24-bit uniforms.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specterm.decoding.host import COLDEST, host_kernels

ROUND_STRIDE = 1 << 20
"""Uniforms of one round are indexed round * stride + node; no tree has this many nodes."""

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
_C1, _C2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


_FEW = 16  # uniforms that are made sooner one by one than by operations on arrays
_FEW_ROWS = 32  # whose hash states are remembered


class Purpose(IntEnum):
    """What a uniform is for. Streams with different purposes are independent."""

    TARGET = 1  # index: absolute position of the drawn token
    DRAFT = 2  # index: round and node
    RATIO = 3  # index: round and node
    RESIDUAL = 4  # index: round and node


@dataclass(frozen=True, slots=True)
class Warps:
    """Temperature and truncation of one distribution. A temperature of 0 means greedy.

    Tokens that are cut off get the logit `filter_value`; None is minus infinity, and they are never drawn.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float | None = None
    filter_value: float | None = None

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature == 0.0


def probabilities(logits: Tensor, warps: Warps) -> Tensor:
    """The warped distribution of each row of `logits`.

    logits: [..., V], any floating dtype. Returns [..., V] in float32, or float64 where the logits are. For greedy warps
    this is the plain softmax: what the model itself says about the token that argmax takes.
    """
    scores = logits if logits.dtype == torch.float64 else logits.float()
    if warps.greedy:
        return torch.softmax(scores, dim=-1)
    if warps.filter_value is None and (host := host_kernels(scores)) is not None:
        return host.law(scores, warps)
    if warps.temperature != 1.0:
        scores = scores / max(warps.temperature, COLDEST)
    cut_off = float("-inf") if warps.filter_value is None else warps.filter_value
    if warps.top_k is not None and warps.top_k < scores.shape[-1]:
        kth = torch.topk(scores, warps.top_k, dim=-1).values[..., -1:]
        scores = scores.masked_fill(scores < kth, cut_off)
    if warps.top_p < 1.0:
        scores = scores.masked_fill(_behind_nucleus(scores, warps.top_p), cut_off)
    probs = torch.softmax(scores, dim=-1)
    if warps.min_p is not None and warps.min_p > 0.0:
        unlikely = probs < warps.min_p * probs.amax(dim=-1, keepdim=True)
        probs = torch.softmax(scores.masked_fill(unlikely, cut_off), dim=-1)
    return probs


def likeliest(logits: Tensor) -> Tensor:
    """The first likeliest token of each row of `logits`: [..., V] -> int64 [...]."""
    if logits.device.type == "cpu" and logits.dtype in (torch.float32, torch.float64):
        return torch.from_numpy(np.asarray(logits.numpy().argmax(axis=-1)))  # a few times as fast as torch's own
    return logits.argmax(dim=-1)


def probability_of(logits: Tensor, tokens: Tensor) -> list[float]:
    """The plain softmax's probability of a token in each row of `logits` [B, V]; tokens: int64 [B]. Waits for the
    device."""
    law = torch.softmax(logits.float(), dim=-1)
    if law.device.type == "cpu":
        numbers = law.numpy()
        return [float(numbers[row, token]) for row, token in enumerate(tokens.tolist())]
    found: list[float] = law.gather(1, tokens.unsqueeze(1)).squeeze(1).tolist()
    return found


def _behind_nucleus(scores: Tensor, top_p: float) -> Tensor:
    """Which tokens the likeliest ones make up `top_p` without: bool [..., V]; the likeliest token never is."""
    ordered, order = torch.sort(scores, dim=-1)  # ascending: what goes is a prefix
    drop = torch.softmax(ordered, dim=-1).cumsum(dim=-1) <= 1.0 - top_p
    drop[..., -1] = False
    return torch.zeros_like(drop).scatter_(-1, order, drop)


def draw(probs: Tensor, uniforms: Tensor) -> Tensor:
    """One token from each distribution by inverse CDF: the first token whose cumulative mass exceeds u.

    probs: [..., V], not necessarily normalised; uniforms: [...] in [0, 1). Returns int64 [...]. A token of probability
    zero is never drawn.
    """
    if (host := host_kernels(probs)) is not None:
        return host.draw(probs, uniforms)
    exact = torch.float32 if probs.device.type == "mps" else torch.float64
    cdf = probs.to(exact).cumsum(dim=-1)
    total = cdf[..., -1:].contiguous()
    found = torch.searchsorted(cdf, uniforms.to(exact).unsqueeze(-1) * total, right=True)
    # u * total may round up to total: then the last token that has mass is meant, which is the first to reach total.
    last = torch.searchsorted(cdf, total, right=False)
    return torch.minimum(found, last).squeeze(-1)


def row_key(seed: int, prompt_ids: Sequence[int]) -> int:
    """The key of a row's random numbers, from its seed and its prompt; a signed 64-bit integer.

    Prompts take part so that two rows of one run are independent; their order and neighbours do not.
    """
    data = b"".join(token.to_bytes(4, "little") for token in prompt_ids)
    return _signed(_mix_int(_mix_int(seed) + zlib.crc32(data) + (len(prompt_ids) << 32)))


@lru_cache(maxsize=256)
def purpose_key(key: int, purpose: Purpose) -> int:
    """The hash state of one row for one purpose, a signed 64-bit integer."""
    return _signed(_mix_int(key + purpose * _GOLDEN))


def purpose_keys(keys: Sequence[int], purpose: Purpose, device: torch.device) -> Tensor:
    """The hash state of each row for one purpose: int64 [B], to be read only."""
    make = _known_purpose_keys if len(keys) <= _FEW_ROWS else _purpose_keys
    return make(tuple(keys), purpose, device)


def _purpose_keys(keys: tuple[int, ...], purpose: Purpose, device: torch.device) -> Tensor:
    return torch.tensor([purpose_key(key, purpose) for key in keys], dtype=torch.int64, device=device)


_known_purpose_keys = lru_cache(maxsize=64)(_purpose_keys)


def uniforms(keys: Tensor, index: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) for each row and index (splitmix64 of key + index * golden ratio).

    keys: int64 [B], from `purpose_keys`; index: int64 [B, T] or [1, T], not negative. Returns [B, T]: float64, or
    float32 with 24 bits on MPS.
    """
    if keys.device.type == "cpu":  # the same in whole numbers or in numpy, which begin sooner
        if len(keys) * index.shape[1] <= _FEW:
            places = index.expand(len(keys), -1).tolist()
            return torch.tensor(
                [[_uniform(key, i) for i in own] for key, own in zip(keys.tolist(), places, strict=True)],
                dtype=torch.float64,
            )
        return torch.from_numpy(_host_uniforms(keys.numpy(), index.numpy()))
    state = keys.unsqueeze(-1) + (index + 1) * _signed(_GOLDEN)
    bits = _mix(state)
    if keys.device.type == "mps":
        return _shift(bits, 40).to(torch.float32) * 2.0**-24
    return _shift(bits, 11).to(torch.float64) * 2.0**-53


def round_uniforms(
    keys: Sequence[int], purpose: Purpose, rounds: Sequence[int], nodes: int, device: torch.device
) -> Tensor:
    """`uniforms` of nodes 0, 1, ... of each row's round: [B, nodes]."""
    if device.type == "cpu" and len(keys) * nodes <= _FEW:
        begins = [(purpose_key(key, purpose), number * ROUND_STRIDE) for key, number in zip(keys, rounds, strict=True)]
        drawn = [[_uniform(key, begin + node) for node in range(nodes)] for key, begin in begins]
        return torch.from_numpy(np.array(drawn, dtype=np.float64).reshape(len(keys), nodes))
    begin = torch.tensor(rounds, device=device).unsqueeze(1) * ROUND_STRIDE
    return uniforms(purpose_keys(keys, purpose, device), begin + torch.arange(nodes, device=device))


def _uniform(key: int, index: int) -> float:
    return (_mix_int(key + (index + 1) * _GOLDEN) >> 11) * 2.0**-53


def _host_uniforms(keys: NDArray[np.int64], index: NDArray[np.int64]) -> NDArray[np.float64]:
    state: NDArray[Any] = keys.view(np.uint64)[:, None] + (index.astype(np.uint64) + 1) * _GOLDEN
    state = (state ^ (state >> 30)) * _C1
    state = (state ^ (state >> 27)) * _C2
    bits: NDArray[np.float64] = ((state ^ (state >> 31)) >> 11).astype(np.float64)
    return bits * 2.0**-53


def _shift(x: Tensor, by: int) -> Tensor:
    return (x >> by) & ((1 << (64 - by)) - 1)  # torch shifts arithmetically; this makes it logical


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _signed(_C1)
    x = (x ^ _shift(x, 27)) * _signed(_C2)
    return x ^ _shift(x, 31)


def _mix_int(x: int) -> int:
    x &= _MASK
    x = ((x ^ (x >> 30)) * _C1) & _MASK
    x = ((x ^ (x >> 27)) * _C2) & _MASK
    return x ^ (x >> 31)


def _signed(x: int) -> int:
    x &= _MASK
    return x - (1 << 64) if x >> 63 else x
