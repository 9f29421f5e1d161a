"""The exact rule where the host judges: one kernel walks through a row's draft, and makes laws of what it meets only.

What is recorded besides is told by the laws of all nodes, and decides nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from specterm.decoding.acceptance.walk import probability_at
from specterm.decoding.host import host_kernels
from specterm.decoding.ports import Judging
from specterm.decoding.sampling import ROUND_STRIDE, Purpose, probabilities, purpose_key
from specterm.decoding.tree import DraftTree
from specterm.decoding.verdict import HostVerdict

_NO_KEYS = (0, 0, 0)


def host_verdict(tree: DraftTree, logits: Tensor, judging: Judging) -> HostVerdict | None:
    """The verdict of `Exact`; None where it takes other means: on devices, in double precision, with a filter value,
    and of trees whose children were drawn without replacement."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    kernels, warps = host_kernels(logits), judging.warps
    if kernels is None or warps.filter_value is not None:
        return None
    size, topology, greedy = tree.nodes, tree.topology, warps.greedy
    laws = None
    if size and not greedy and tree.children != "fixed":
        if tree.children != "sampled" or not topology.chain:
            return None
        assert tree.q is not None
        laws = tree.q.to(logits.dtype).contiguous()
    logits, tokens, vocab = logits.contiguous(), tree.tokens.contiguous(), logits.shape[2]
    # Addresses of the first row's, and how far it is to the next one.
    logits_at, logits_step = logits.data_ptr(), 4 * (size + 1) * vocab
    tokens_at, laws_at, laws_step, parents_at, parents_step = 0, 0, 0, 0, 0
    if size:
        tokens_at = tokens.data_ptr()
        if laws is not None:
            laws_at, laws_step = laws.data_ptr(), 4 * size * vocab
        if not topology.chain:
            parents_at, parents_step = topology.parents.data_ptr(), 8 * (size + 1) * (len(topology.parents) > 1)
    paths, following = [], []
    for row, nodes in enumerate(tree.counts):
        path, token = kernels.walk(
            logits_at + row * logits_step, vocab, nodes, tokens_at + 8 * row * size, parents_at + row * parents_step,
            laws_at + row * laws_step, warps, _NO_KEYS if greedy else _purpose_keys(judging.keys[row]),
            judging.positions[row], judging.rounds[row] * ROUND_STRIDE,
        )  # fmt: skip
        paths.append(path)
        following.append(token)
    if not judging.record:
        return HostVerdict(topology, paths, following)
    return HostVerdict(
        topology, paths, following, *_recorded(tree, logits, judging, laws is not None, paths, following)
    )


def _purpose_keys(key: int) -> tuple[int, int, int]:
    return purpose_key(key, Purpose.TARGET), purpose_key(key, Purpose.RATIO), purpose_key(key, Purpose.RESIDUAL)


def _recorded(
    tree: DraftTree, logits: Tensor, judging: Judging, by_laws: bool, paths: list[list[int]], following: list[int]
) -> tuple[Tensor, Tensor | None, Tensor]:
    """p, q and next_p: see `Verdict`."""
    probs = probabilities(logits, judging.warps)
    parents = tree.topology.parents.expand(len(probs), -1)[:, 1:]
    last = torch.tensor([[path[-1] if path else 0] for path in paths])
    next_p = probability_at(probs, last, torch.tensor(following).unsqueeze(1)).squeeze(1)
    q = None
    if by_laws:
        assert tree.q is not None
        q = probability_at(tree.q, parents, tree.tokens)
    return probability_at(probs, parents, tree.tokens), q, next_p
