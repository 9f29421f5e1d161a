"""Block verification: a drawn chain is judged as a whole, and never accepts less than token by token, on average.

Sun et al. 2024 (arXiv 2403.10444), algorithm 2. With P_0 = 1 and P_i = min(1, P_{i-1} p_i(x_i) / q_i(x_i)), what may
still come from the target behind i tokens weighs R_i = sum_v max(P_i p_{i+1}(v) - q_{i+1}(v), 0). The longest part of i
tokens with u_i <= h_i is kept, h_i = R_i / (R_i + 1 - P_i), and h_n = P_n of the whole chain; the correction is drawn
from norm(max(P_i p_{i+1} - q_{i+1}, 0)). A test may fail in the middle of what is kept.

Where the chain is given and not drawn, q = 1 at its tokens: then no law-preserving rule keeps more than the exact one,
and its walk is taken, so that the output equals naive sampling with the same random numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from specterm.decoding.acceptance.chain import SampledChain
from specterm.decoding.acceptance.exact import Exact
from specterm.decoding.ports import Judging
from specterm.decoding.sampling import probabilities
from specterm.decoding.tree import DraftTree
from specterm.decoding.verdict import HostVerdict, Verdict


class Block:
    """Lossless verification of chains."""

    def verify(self, tree: DraftTree, logits: Tensor, judging: Judging) -> Verdict | HostVerdict:
        """See `Rule.verify`.

        Raises:
            ValueError: drawn children that are not a chain.
        """
        if judging.warps.greedy or tree.children == "fixed" or tree.nodes == 0:
            return Exact().verify(tree, logits, judging)
        chain = SampledChain.of(tree, probabilities(logits, judging.warps), judging)
        share = self._share(chain)
        kept = self._kept(chain, share)
        steps = torch.arange(tree.nodes + 1, device=logits.device).unsqueeze(0)
        return chain.verdict(torch.where(kept, steps, 0).amax(dim=1), share)

    @staticmethod
    def _share(chain: SampledChain) -> Tensor:
        """P_0 to P_N: [B, N + 1], in double precision (single on MPS)."""
        exact = torch.float32 if chain.p.device.type == "mps" else torch.float64
        p, q = chain.p.to(exact), chain.q.to(exact)
        shares = [torch.ones_like(p[:, 0])]
        for node in range(p.shape[1]):
            weight = shares[-1] * p[:, node]
            shares.append((weight / q[:, node].clamp(min=torch.finfo(exact).tiny)).clamp(max=1.0))
        return torch.stack(shares, dim=1)

    @staticmethod
    def _kept(chain: SampledChain, share: Tensor) -> Tensor:
        """Whether the part that ends at each node passes its test: bool [B, N + 1], the root's always does."""
        assert chain.tree.q is not None
        inner = share[:, 1:-1]
        laws = inner.unsqueeze(2) * chain.probs[:, 1:-1].to(share.dtype)
        rest = (laws - chain.tree.q[:, 1:].to(share.dtype)).clamp(min=0.0).sum(dim=2)
        # u <= R / (R + 1 - P) without a division; P = 1 passes also where R = 0, which is p = q up to rounding.
        behind = (chain.u[:, :-1] * (rest + 1.0 - inner) < rest) | (inner >= 1.0)
        whole = chain.u < share[:, 1:]
        steps = torch.arange(1, chain.tree.nodes + 1, device=share.device).unsqueeze(0)
        behind = torch.cat([behind, whole[:, -1:]], dim=1)
        kept = torch.where(steps == chain.drafted, whole, behind) & (steps <= chain.drafted)
        return torch.cat([torch.ones_like(kept[:, :1]), kept], dim=1)
