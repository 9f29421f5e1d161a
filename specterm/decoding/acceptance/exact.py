"""The exact rule: the output follows the target's warped distribution, whatever the drafter says.

Its walk follows how the children were made. Greedy warps take the path along which every token is the target's argmax.
*Fixed* children (the tree is a function of the prefix): one draw y from p at each node, go on where y is a child; the
drawn token serves as test and as output, so the output equals naive sampling with the same random numbers. *Sampled*
chains: Leviathan et al. 2023 (arXiv 2211.17192), algorithm 1: keep x drawn from q with probability min(1, p(x)/q(x)),
otherwise draw from norm(max(p - q, 0)); after full acceptance draw from p. Trees drawn *without replacement*: see
`multi_candidate`.
"""

from __future__ import annotations

from torch import Tensor

from specterm.decoding.acceptance.chain import SampledChain
from specterm.decoding.acceptance.host_walk import host_verdict
from specterm.decoding.acceptance.multi_candidate import multi_candidate
from specterm.decoding.acceptance.walk import leading, matched, probability_at, target_uniforms
from specterm.decoding.ports import Judging
from specterm.decoding.sampling import draw, likeliest, probabilities
from specterm.decoding.tree import DraftTree
from specterm.decoding.verdict import HostVerdict, Verdict


class Exact:
    """Lossless verification of greedy, fixed and sampled drafts."""

    def verify(self, tree: DraftTree, logits: Tensor, judging: Judging) -> Verdict | HostVerdict:
        """See `Rule.verify`.

        Raises:
            ValueError: sampled children that are not a chain.
        """
        if (found := host_verdict(tree, logits, judging)) is not None:
            return found
        if judging.warps.greedy:
            return self._matched(tree, logits, likeliest(logits), judging)
        probs = probabilities(logits, judging.warps)
        if tree.children == "fixed" or tree.nodes == 0:
            return self._matched(tree, probs, draw(probs, target_uniforms(judging, tree.topology.depth)), judging)
        if tree.children == "without replacement":
            return multi_candidate(tree, probs, judging)
        chain = SampledChain.of(tree, probs, judging)
        # u * q < p needs no division, and refuses p = 0 even where u = 0.
        return chain.verdict(leading(tree.where_drafted(chain.u * chain.q < chain.p)))

    @staticmethod
    def _matched(tree: DraftTree, scores: Tensor, drawn: Tensor, judging: Judging) -> Verdict:
        """Keep each node that is the token drawn at its parent. `scores` are logits when greedy, else probabilities."""
        topology = tree.topology
        if not tree.nodes and not judging.record:
            return Verdict(topology, drawn.new_zeros(len(drawn)), drawn[:, 0], None)
        found = matched(tree, drawn)
        if not judging.record:
            return Verdict(topology, found.count, found.next_token, found.walked)
        probs = probabilities(scores, judging.warps) if judging.warps.greedy else scores
        p = probability_at(probs, topology.parents.expand_as(drawn)[:, 1:], tree.tokens)
        next_p = probability_at(probs, found.last, found.next_token.unsqueeze(1)).squeeze(1)
        return Verdict(topology, found.count, found.next_token, found.walked, p, None, next_p)
