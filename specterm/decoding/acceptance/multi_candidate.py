"""The walk over several candidates at a node, one after the other: the exact rule's for sampled trees.

At a node with the target's law p and children x_1, x_2, ..., where x_j was drawn from q_j: keep x_j with probability
min(1, p(x_j) / q_j(x_j)) and go on below it; otherwise p becomes norm(max(p - q_j, 0)) and the next child is judged
against that. Where every child was refused, the next token is drawn from what p has become; at a leaf, from p itself.
That gives the target's own law for whatever laws the children were drawn from, as long as each is judged by the law
that really drew it: candidates of several drafters (Miao et al. 2024, SpecInfer, arXiv 2305.09781), and
siblings drawn without replacement, where q_j is q with x_1 to x_{j-1} taken out and renormalised (Chen et al. 2024,
Sequoia, arXiv 2402.12374; Jeon et al. 2024, arXiv 2402.14160). A given child has the law that is 1 at its token.
"""

from __future__ import annotations

import torch
from torch import Tensor

from specterm.decoding.acceptance.walk import ACCEPTED, REJECTED, UNUSED, probability_at, walk
from specterm.decoding.ports import Judging
from specterm.decoding.sampling import ROUND_STRIDE, Purpose, draw, purpose_keys, uniforms
from specterm.decoding.tree import DraftTree
from specterm.decoding.verdict import Verdict


def multi_candidate(tree: DraftTree, probs: Tensor, judging: Judging, *, temperature: float = 1.0) -> Verdict:
    """Judge a tree, however its children were made.

    probs: [B, N + 1, V], the target's warped law after the root and after every node. All rows walk at the same time,
    in depth x most children steps on the device; residuals are in double precision (single on MPS). A child whose
    siblings had left nothing of its law is refused and changes nothing. The verdict's p and q of a node that was never
    judged are those that a first child would have met. With a `temperature` above 1 a child is kept with probability
    min(1, (p / q)^(1 / temperature)), which is lossy.
    """
    device, rows = probs.device, torch.arange(len(probs), device=probs.device)
    exact = torch.float32 if device.type == "mps" else torch.float64
    parents = tree.topology.parents.expand(len(rows), -1)[:, 1:]
    law_of, valid = _law_of(tree).expand_as(tree.tokens), tree.valid()
    rounds = torch.tensor(judging.rounds, device=device) * ROUND_STRIDE
    nodes = torch.arange(tree.nodes, device=device).unsqueeze(0)
    u = uniforms(purpose_keys(judging.keys, Purpose.RATIO, device), rounds.unsqueeze(1) + nodes)
    u = u if temperature == 1.0 else u**temperature  # u^t q < p is u < (p / q)^(1 / t)

    states = torch.full_like(tree.tokens, UNUSED)
    decided = torch.zeros((2, *tree.tokens.shape), dtype=exact, device=device)  # p and q of the nodes that were judged
    last = torch.zeros_like(rows)  # the node that the walk stands at, 0 is the root
    walking = torch.ones_like(rows, dtype=torch.bool)
    law = _normalised(probs[:, 0].to(exact))  # what the next token is drawn from, if the walk ends here
    most_children = _most_children(tree)
    for _ in range(tree.topology.max_depth):
        below = (parents == last.unsqueeze(1)) & valid & walking.unsqueeze(1)
        serial = below.cumsum(dim=1)
        walking = torch.zeros_like(walking)
        left = torch.zeros_like(law)  # of the law that the children are drawn from
        drawn_from = torch.full_like(last, -1)
        for nth in range(1, most_children + 1):
            this = below & (serial == nth)
            judged = this.any(dim=1) & ~walking
            child = this.to(torch.int8).argmax(dim=1)
            token, own = tree.tokens[rows, child], law_of[rows, child]
            if tree.q is None:
                q_law = torch.zeros_like(law).scatter(1, token.unsqueeze(1), 1.0)
            else:
                left = torch.where((own != drawn_from).unsqueeze(1), tree.q[rows, own].to(exact), left)
                drawn_from = own
                q_law = _normalised(left)
            p, q = law[rows, token], q_law[rows, token]
            # u * q < p needs no division, and refuses p = 0 even where u = 0; q = 0 says that nothing was left to draw.
            kept = judged & (u[rows, child] * q < p) & (q > 0.0)
            refused = judged & ~kept
            rest = (law - q_law).clamp(min=0.0)
            # Where p = q up to rounding, a refusal is itself a rounding event; then p is as good as the residual.
            lessened = refused & (rest.sum(dim=1) > 0.0)
            law = torch.where(lessened.unsqueeze(1), _normalised(rest), law)
            left = left.scatter(1, token.unsqueeze(1), 0.0)

            state = torch.where(kept, ACCEPTED, torch.where(refused, REJECTED, states[rows, child]))
            states[rows, child] = state
            decided[:, rows, child] = torch.where(judged, torch.stack([p, q]), decided[:, rows, child])
            last = torch.where(kept, child + 1, last)
            walking = walking | kept
        law = torch.where(walking.unsqueeze(1), _normalised(probs[rows, last].to(exact)), law)

    refused_all = ((parents == last.unsqueeze(1)) & (states == REJECTED)).any(dim=1)
    path, count, _ = walk(tree.topology, states == ACCEPTED)
    positions = torch.tensor(judging.positions, device=device)
    keys = (purpose_keys(judging.keys, purpose, device) for purpose in (Purpose.RESIDUAL, Purpose.TARGET))
    u_correction, u_bonus = (
        uniforms(key, index.unsqueeze(1)).squeeze(1)
        for key, index in zip(keys, (rounds + last, positions + 1 + count), strict=True)
    )
    next_token = draw(law, torch.where(refused_all, u_correction, u_bonus))
    walked = path, states
    if not judging.record:
        return Verdict(tree.topology, count, next_token, walked)
    judged, next_p = states != UNUSED, probs[rows, last, next_token]
    p_nodes = torch.where(judged, decided[0], probability_at(probs, parents, tree.tokens).to(exact))
    if tree.q is None:
        return Verdict(tree.topology, count, next_token, walked, p_nodes, None, next_p)
    of_first = probability_at(tree.q, law_of, tree.tokens).to(exact) / tree.q.sum(dim=2).to(exact).gather(1, law_of)
    return Verdict(tree.topology, count, next_token, walked, p_nodes, torch.where(judged, decided[1], of_first), next_p)


def _law_of(tree: DraftTree) -> Tensor:
    """The law that each node was drawn from: a chain's own; where children are given it says nothing."""
    if tree.law_of is not None:
        return tree.law_of
    return torch.arange(tree.nodes, device=tree.tokens.device).unsqueeze(0)


def _most_children(tree: DraftTree) -> int:
    """The most children of a node; waits for the device where the children are given and branch."""
    if tree.children != "fixed" or tree.topology.chain:
        return tree.most_children
    parents = tree.topology.parents[:, 1:]
    siblings = (parents.unsqueeze(1) == parents.unsqueeze(2)) & tree.valid().unsqueeze(1)
    return int(siblings.sum(dim=2).amax())


def _normalised(law: Tensor) -> Tensor:
    """law [B, V] over its sum; zeros stay zeros."""
    return law / law.sum(dim=1, keepdim=True).clamp(min=torch.finfo(law.dtype).tiny)
