"""The exact rule where the host judges: one kernel walks through a row's draft, and makes laws of what it meets only.

What is recorded besides is told by the laws of all nodes, and decides nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from specterm.decoding.acceptance.walk import probability_at
from specterm.decoding.host import HostKernels, host_kernels
from specterm.decoding.ports import HostVerdict, Judging
from specterm.decoding.sampling import ROUND_STRIDE, Purpose, probabilities, purpose_key
from specterm.decoding.tree import DraftTree

_NO_KEYS = (0, 0, 0)


def host_verdict(tree: DraftTree, logits: Tensor, judging: Judging) -> HostVerdict | None:
    """The verdict of `Exact`; None where it takes other means: on devices, in double precision, with a filter value,
    and of trees whose children were drawn without replacement."""
    kernels = host_kernels(logits)
    if kernels is None or judging.warps.filter_value is not None:
        return None
    by_laws = tree.children != "fixed" and tree.nodes > 0 and not judging.warps.greedy
    if by_laws and (tree.children != "sampled" or not tree.topology.chain):
        return None
    paths, following = _walked(kernels, tree, logits, judging, by_laws)
    if not judging.record:
        return HostVerdict(tree.topology, paths, following)
    return HostVerdict(tree.topology, paths, following, *_recorded(tree, logits, judging, by_laws, paths, following))


def _walked(
    kernels: HostKernels, tree: DraftTree, logits: Tensor, judging: Judging, by_laws: bool
) -> tuple[list[list[int]], list[int]]:
    """The path of each row, and the token behind it."""
    topology, size, vocab = tree.topology, tree.nodes, logits.shape[2]
    logits = logits if logits.is_contiguous() else logits.contiguous()
    tokens = tree.tokens if tree.tokens.is_contiguous() else tree.tokens.contiguous()
    laws = tree.q.contiguous() if by_laws and tree.q is not None else None
    # Addresses of the first row's, and how far it is to the next one.
    logits_at, logits_step = logits.data_ptr(), 4 * (size + 1) * vocab
    tokens_at = tokens.data_ptr() if size else 0
    laws_at, laws_step = (0, 0) if laws is None else (laws.data_ptr(), 4 * size * vocab)
    parents_at, parents_step = (0, 0) if topology.chain else (topology.parents.data_ptr(), 8 * (size + 1))
    if len(topology.parents) == 1:
        parents_step = 0
    keys, paths, following = _NO_KEYS, [], []
    for row, nodes in enumerate(tree.counts):
        if not judging.warps.greedy:
            keys = _purpose_keys(judging.keys[row])
        path, token = kernels.walk(
            logits_at + row * logits_step, vocab, nodes, tokens_at + 8 * row * size, parents_at + row * parents_step,
            laws_at + row * laws_step, judging.warps, keys, judging.positions[row], judging.rounds[row] * ROUND_STRIDE,
        )  # fmt: skip
        paths.append(path)
        following.append(token)
    return paths, following


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
