"""Typical acceptance: keeps what is typical of the target, whatever it would have drawn. Lossy.

Cai et al. 2024 (Medusa, arXiv 2401.10774, section 2.3.1): a node is kept where p(x) > min(epsilon, delta exp(-H(p))), p
being the target's warped law at its parent and H its entropy in nats; of the paths that are kept whole the longest is
taken, and of equally long ones the likeliest. No coin is thrown for a draft token. The token behind the path is drawn
from the target's law with the random number of its position, as in naive sampling (Medusa takes the likeliest one), so
what the rule does to the output comes from the accepted tokens alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from specterm.decoding.acceptance.exact import Exact
from specterm.decoding.acceptance.walk import accepted_nodes, probability_at, target_uniforms, walk
from specterm.decoding.ports import Judging
from specterm.decoding.sampling import draw, probabilities
from specterm.decoding.tree import DraftTree
from specterm.decoding.verdict import HostVerdict, Verdict


class Typical:
    """Acceptance by a threshold that falls where the target is unsure."""

    def __init__(self, *, typical_epsilon: float = 0.09, typical_delta: float = 0.3) -> None:
        self._epsilon = typical_epsilon
        self._delta = typical_delta

    def verify(self, tree: DraftTree, logits: Tensor, judging: Judging) -> Verdict | HostVerdict:
        """See `Rule.verify`. Greedy decoding is the exact rule's."""
        if judging.warps.greedy or tree.nodes == 0:
            return Exact().verify(tree, logits, judging)
        topology, probs = tree.topology, probabilities(logits, judging.warps)
        parents = topology.parents.expand(len(probs), -1)[:, 1:]
        p = probability_at(probs, parents, tree.tokens)
        entropy = torch.special.entr(probs).sum(dim=2)
        threshold = (self._delta * torch.exp(-entropy)).clamp(max=self._epsilon).gather(1, parents)
        whole = accepted_nodes(topology, (p > threshold) & tree.valid())
        path, count, states = walk(topology, _best_path(tree, whole, p)[:, 1:])
        last = path[:, -1]
        law = probs[torch.arange(len(probs), device=probs.device), last]
        u = target_uniforms(judging, count.unsqueeze(1)).squeeze(1)
        next_token = draw(law, u)
        if not judging.record:
            return Verdict(topology, count, next_token, (path, states))
        return Verdict(
            topology, count, next_token, (path, states), p, None, law.gather(1, next_token.unsqueeze(1)).squeeze(1)
        )


def _best_path(tree: DraftTree, whole: Tensor, p: Tensor) -> Tensor:
    """The nodes of the longest path among `whole` (bool [B, T], the root first), ties by probability: bool [B, T]."""
    topology = tree.topology
    if topology.visible is None:
        return whole
    visible = topology.visible.expand(len(whole), -1, -1)
    depth = topology.depth.expand_as(whole).masked_fill(~whole, -1)
    log_p = torch.cat([torch.zeros_like(p[:, :1]), p.clamp(min=torch.finfo(p.dtype).tiny).log()], dim=1)
    score = (visible.to(p.dtype) @ log_p.unsqueeze(2)).squeeze(2)
    longest = depth == depth.amax(dim=1, keepdim=True)
    best = score.masked_fill(~longest, float("-inf")).argmax(dim=1)
    return visible[torch.arange(len(whole), device=whole.device), best]
