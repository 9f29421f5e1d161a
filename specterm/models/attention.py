"""Grouped-query attention of a block of tokens over cache slots, and the rotation of queries and keys."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Queries or keys x, [B, T, heads, D], turned to their positions; cos and sin: [B, T, 1, D] (see `rope_tables`)."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin


def rotate_(x: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
    """`rotated` in place and in fewer operations; `signed_sin` has the first half of each sine negated."""
    turned = torch.roll(x, x.shape[-1] // 2, -1)
    return x.mul_(cos).addcmul_(turned, signed_sin)


def signed(sin: Tensor) -> Tensor:
    """The sines of `rope_tables`, [..., D], as `rotate_` takes them."""
    first, second = sin.chunk(2, dim=-1)
    return torch.cat((-first, second), dim=-1)


def grouped_mask(seen: Tensor | None, group: int, dtype: torch.dtype) -> Tensor | None:
    """What `visibility` gives, bool [B, T, end], for `group` query heads to a KV head, to be added to the scores of
    attention in `dtype`: [B, 1, group * T, end]."""
    if seen is None:
        return None
    added = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, float("-inf"))
    return added.unsqueeze(1).repeat(1, 1, group, 1)


def grouped_attention(q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of q, [B, T, heads, D], over keys and values, [B, kv_heads, end, D]: [B, T, heads * D].

    The query heads of one KV head become more queries: no keys are repeated, and the fast kernels apply. `mask` is
    from `grouped_mask`; None lets every query see every slot.
    """
    rows, width, heads, size = q.shape
    kv_heads = keys.shape[1]
    if width == 1:
        folded = q.view(rows, kv_heads, heads // kv_heads, size)
        return F.scaled_dot_product_attention(folded, keys, values, attn_mask=mask).reshape(rows, 1, -1)
    folded = q.view(rows, width, kv_heads, heads // kv_heads, size).permute(0, 2, 3, 1, 4)
    folded = folded.reshape(rows, kv_heads, -1, size)
    attended = F.scaled_dot_product_attention(folded, keys, values, attn_mask=mask)
    return attended.view(rows, heads, width, size).transpose(1, 2).reshape(rows, width, -1)
