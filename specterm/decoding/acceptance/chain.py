"""Sampled chains: which law the token behind the kept part is drawn from, whatever rule decided how much is kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from specterm.decoding.acceptance.walk import probability_at, target_uniforms
from specterm.decoding.ports import Judging
from specterm.decoding.sampling import ROUND_STRIDE, Purpose, draw, purpose_keys, round_uniforms, uniforms
from specterm.decoding.tree import DraftTree
from specterm.decoding.verdict import Verdict


@dataclass(frozen=True, slots=True)
class SampledChain:
    """A chain that was drawn from q, as a rule meets it.

    p, q: [B, N], what target and drafter said of each token; u: [B, N], the uniforms of its test.
    """

    tree: DraftTree
    probs: Tensor
    p: Tensor
    q: Tensor
    u: Tensor
    judging: Judging

    @staticmethod
    def of(tree: DraftTree, probs: Tensor, judging: Judging) -> SampledChain:
        """probs: [B, N + 1, V], the target's warped law after the root and after every node.

        Raises:
            ValueError: the tree has branches.
        """
        if not tree.topology.chain:
            raise ValueError("a tree with branches cannot be 'sampled'; its children are drawn 'without replacement'")
        assert tree.q is not None
        steps = torch.arange(tree.nodes, device=probs.device).expand_as(tree.tokens)
        return SampledChain(
            tree,
            probs,
            p=probability_at(probs, steps, tree.tokens),
            q=probability_at(tree.q, steps, tree.tokens),
            u=round_uniforms(judging.keys, Purpose.RATIO, judging.rounds, tree.nodes, probs.device),
            judging=judging,
        )

    @property
    def drafted(self) -> Tensor:
        """How many tokens each row has: int64 [B, 1]."""
        return torch.tensor(self.tree.counts, device=self.probs.device).unsqueeze(1)

    def verdict(self, count: Tensor, share: Tensor | None = None) -> Verdict:
        """Keep the first `count` tokens (int64 [B]) and draw the next one.

        Behind a refusal it comes from norm(max(share * p - q, 0)), `share` [B, N + 1] being a weight for each node
        where the chain may end (1 if None); after full acceptance it comes from p.
        """
        next_token, tree = self._drawn(count, share), self.tree
        if not self.judging.record:
            return Verdict(tree.topology, count, next_token, None)
        next_p = probability_at(self.probs, count.unsqueeze(1), next_token.unsqueeze(1)).squeeze(1)
        return Verdict(tree.topology, count, next_token, None, self.p, self.q, next_p)

    def _drawn(self, count: Tensor, share: Tensor | None) -> Tensor:
        """The next tokens, int64 [B]; see `verdict`."""
        tree, judging, probs = self.tree, self.judging, self.probs
        assert tree.q is not None
        device = probs.device
        last = count.unsqueeze(1)
        at_last = probs.gather(1, last.unsqueeze(2).expand(-1, -1, probs.shape[2])).squeeze(1)
        refused = last < self.drafted
        behind = last.clamp(max=tree.nodes - 1).unsqueeze(2).expand(-1, -1, tree.q.shape[2])
        exact = torch.float32 if device.type == "mps" else torch.float64
        law = at_last.to(exact)
        weighted = law if share is None else law * share.gather(1, last).to(exact)
        residual = (weighted - tree.q.gather(1, behind).squeeze(1).to(exact)).clamp(min=0.0)
        # Where p = q up to rounding, a refusal is itself a rounding event; then p is as good as the residual.
        empty = residual.sum(dim=1, keepdim=True) <= 0.0
        law = torch.where(refused & ~empty, residual, law)

        keys = purpose_keys(judging.keys, Purpose.RESIDUAL, device)
        rounds = torch.tensor(judging.rounds, device=device).unsqueeze(1) * ROUND_STRIDE
        u = torch.where(refused, uniforms(keys, rounds + last), target_uniforms(judging, last))
        return draw(law, u.squeeze(1))
