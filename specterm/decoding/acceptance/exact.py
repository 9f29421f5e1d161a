"""The exact rule: the output follows the target's warped distribution, whatever the drafter says.

Its walk follows how the children were made. Greedy warps take the path along which every token is the target's argmax.
*Fixed* children (the tree is a function of the prefix): one draw y from p at each node, go on where y is a child; the
drawn token serves as test and as output, so the output equals naive sampling with the same random numbers. *Sampled*
chains: Leviathan et al. 2023 (arXiv 2211.17192), algorithm 1: keep x drawn from q with probability min(1, p(x)/q(x)),
otherwise draw from norm(max(p - q, 0)); after full acceptance draw from p. Trees drawn *without replacement*: see
`multi_candidate`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from specterm.decoding.acceptance.multi_candidate import multi_candidate
from specterm.decoding.acceptance.walk import accepted_nodes, node_states, path_of, probability_at
from specterm.decoding.ports import Judging, Verdict
from specterm.decoding.sampling import ROUND_STRIDE, Purpose, draw, probabilities, purpose_keys, uniforms
from specterm.decoding.tree import DraftTree


class Exact:
    """Lossless verification of greedy, fixed and sampled drafts."""

    def verify(self, tree: DraftTree, logits: Tensor, judging: Judging) -> Verdict:
        """See `Rule.verify`.

        Raises:
            ValueError: sampled children that are not a chain.
        """
        if judging.warps.greedy:
            return self._matched(tree, logits, logits.argmax(dim=-1), judging)
        probs = probabilities(logits, judging.warps)
        if tree.children == "fixed" or tree.nodes == 0:
            return self._matched(tree, probs, self._target_draws(tree, probs, judging), judging)
        if tree.children == "without replacement":
            return multi_candidate(tree, probs, judging)
        if not tree.topology.chain:
            raise ValueError("a tree with branches cannot be 'sampled'; its children are drawn 'without replacement'")
        return self._sampled_chain(tree, probs, judging)

    @staticmethod
    def _target_draws(tree: DraftTree, probs: Tensor, judging: Judging) -> Tensor:
        """One draw a node, [B, T], with the random number of the position that it would take."""
        roots = torch.tensor(judging.positions, device=probs.device).unsqueeze(1)
        keys = purpose_keys(judging.keys, Purpose.TARGET, probs.device)
        return draw(probs, uniforms(keys, roots + 1 + tree.topology.depth))

    @staticmethod
    def _matched(tree: DraftTree, scores: Tensor, drawn: Tensor, judging: Judging) -> Verdict:
        """Keep each node that is the token drawn at its parent. `scores` are logits when greedy, else probabilities."""
        topology = tree.topology
        parents = topology.parents.expand_as(drawn)[:, 1:]
        accepted = accepted_nodes(topology, (tree.tokens == drawn.gather(1, parents)) & tree.valid())
        path, count = path_of(topology, accepted)
        last = path[:, -1]
        next_token = drawn.gather(1, last.unsqueeze(1)).squeeze(1)
        p = next_p = None
        if judging.record:
            probs = probabilities(scores, judging.warps) if judging.warps.greedy else scores
            p = probability_at(probs, parents, tree.tokens)
            next_p = probability_at(probs, last.unsqueeze(1), next_token.unsqueeze(1)).squeeze(1)
        return Verdict(count, path, next_token, node_states(topology, accepted, last), p, None, next_p)

    @staticmethod
    def _sampled_chain(tree: DraftTree, probs: Tensor, judging: Judging) -> Verdict:
        assert tree.q is not None
        device, nodes = probs.device, tree.nodes
        rounds = torch.tensor(judging.rounds, device=device).unsqueeze(1) * ROUND_STRIDE
        steps = torch.arange(nodes, device=device).unsqueeze(0)
        u = uniforms(purpose_keys(judging.keys, Purpose.RATIO, device), rounds + steps)
        q = tree.q.gather(2, tree.tokens.unsqueeze(2)).squeeze(2)
        p = probability_at(probs, steps.expand_as(tree.tokens), tree.tokens)
        # u * q < p needs no division, and refuses p = 0 even where u = 0.
        accepted = accepted_nodes(tree.topology, (u * q < p) & tree.valid())
        path, count = path_of(tree.topology, accepted)
        last = count.unsqueeze(1)

        at_last = probs.gather(1, last.unsqueeze(2).expand(-1, -1, probs.shape[2])).squeeze(1)
        drafted = torch.tensor(tree.counts, device=device).unsqueeze(1)
        refused = last < drafted
        q_last = tree.q.gather(1, last.clamp(max=nodes - 1).unsqueeze(2).expand(-1, -1, tree.q.shape[2])).squeeze(1)
        residual = (at_last.double() - q_last.double() if device.type != "mps" else at_last - q_last).clamp(min=0.0)
        # Where p = q up to rounding, a refusal is itself a rounding event; then p is as good as the residual.
        empty = residual.sum(dim=1, keepdim=True) <= 0.0
        correction_from = torch.where(empty, at_last.to(residual.dtype), residual)
        bonus_from = at_last.to(residual.dtype)

        keys_residual = purpose_keys(judging.keys, Purpose.RESIDUAL, device)
        keys_target = purpose_keys(judging.keys, Purpose.TARGET, device)
        positions = torch.tensor(judging.positions, device=device).unsqueeze(1)
        u_correction = uniforms(keys_residual, rounds + last)
        u_bonus = uniforms(keys_target, positions + 1 + last)
        law = torch.where(refused, correction_from, bonus_from)
        next_token = draw(law, torch.where(refused, u_correction, u_bonus).squeeze(1))

        states = node_states(tree.topology, accepted, last.squeeze(1))
        if not judging.record:
            return Verdict(count, path, next_token, states, None, None, None)
        next_p = at_last.gather(1, next_token.unsqueeze(1)).squeeze(1)
        return Verdict(count, path, next_token, states, p, q, next_p)
