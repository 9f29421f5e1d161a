"""Whether a tree from code that is not ours is one that the loop can verify without harm.

Every condition is one that the loop, the cache or a rule relies on. Looking at tokens and parents waits for the device,
so trees of the package's own drafters are not looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from specterm.decoding.ports import ProposeRow
from specterm.decoding.tree import DraftTree, Topology


def fault(tree: object, rows: Sequence[ProposeRow], max_nodes: int, vocab_size: int, device: torch.device) -> str:
    """What is wrong with `tree`, proposed for `rows`, to follow the word "proposed"; "" if nothing."""
    if not isinstance(tree, DraftTree):
        return f"a {type(tree).__name__}; it must be a DraftTree"
    if (found := _layout(tree, len(rows), max_nodes, device)) != "":
        return found
    parents = _parents(tree)
    tokens = tree.tokens.tolist()
    for row, own_tokens, own_parents, count in zip(rows, tokens, parents, tree.counts, strict=True):
        depth = [0]
        for node, parent in enumerate(own_parents, start=1):
            if not 0 <= parent < node:
                return f"node {node} below node {parent}; a parent comes before its children, and 0 is the root"
            depth.append(depth[parent] + 1)
        if outside := [token for token in own_tokens if not 0 <= token < vocab_size]:
            return f"the token {outside[0]}; the target's are 0 to {vocab_size - 1}"
        if max(depth[: count + 1]) > row.limit:
            return f"a tree of depth {max(depth[: count + 1])} where the limit of the row is {row.limit}"
        children = list(zip(own_parents, own_tokens, strict=True))[:count]
        if tree.children == "fixed" and len(set(children)) < count:
            twice = next(token for parent, token in children if children.count((parent, token)) > 1)
            return f"the token {twice} twice below one node; give each node distinct children"
    return _topology(tree.topology, parents)


def _layout(tree: DraftTree, rows: int, max_nodes: int, device: torch.device) -> str:
    """Shapes, dtypes and devices."""
    counts, nodes = tuple(tree.counts), tree.tokens.shape[-1]
    if len(counts) != rows:
        return f"trees for {len(counts)} rows; there are {rows}"
    if nodes > max_nodes:
        return f"{nodes} nodes; its max_nodes is {max_nodes}"
    if not all(0 <= count <= nodes for count in counts):
        return f"counts {counts} in a tree of {nodes} nodes"
    optional = {"q": (rows, nodes), "confidence": (rows, nodes), "sources": (rows, nodes)}
    tensors: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {
        "tokens": (tree.tokens, (rows, nodes)),
        **{name: (getattr(tree, name), shape) for name, shape in optional.items()},
    }
    for name, (tensor, shape) in tensors.items():
        if tensor is None:
            continue
        if tuple(tensor.shape[:2]) != shape or tensor.ndim != (3 if name == "q" else 2):
            return f"{name} of shape {tuple(tensor.shape)}; it must begin with {shape}, rows and nodes"
        if tensor.device != device:
            return f"{name} on {tensor.device}; the target is on {device}"
    if tree.tokens.dtype != torch.int64:
        return f"tokens of {tree.tokens.dtype}; they must be torch.int64"
    size = tuple(tree.topology.parents.shape)
    if size not in ((1, nodes + 1), (rows, nodes + 1)):
        return f"a topology of shape {size} for {nodes} nodes; it must be ({rows}, {nodes + 1}), the root included"
    if tree.children != "fixed" and tree.q is None:
        return f"{tree.children} children without the q that they were drawn from"
    return ""


def _parents(tree: DraftTree) -> list[list[int]]:
    """Of the draft nodes of each row, where 0 is the root."""
    parents: list[list[int]] = tree.topology.parents[:, 1:].expand(len(tree.counts), -1).tolist()
    return parents


def _topology(given: Topology, parents: Sequence[Sequence[int]]) -> str:
    """Depths and visibility must be those of the parents."""
    rows = given.parents.shape[0]
    own = torch.tensor(parents[:rows], dtype=torch.int64, device=given.parents.device).reshape(rows, -1)
    right = Topology.of_parents(own - 1, own.shape[1])
    chain = torch.equal(own, torch.arange(own.shape[1], device=own.device).expand_as(own))
    assert right.visible is not None, "of_parents always tells it"
    seen = chain if given.visible is None else torch.equal(given.visible, right.visible)
    deep_enough = int(right.depth.max()) <= given.max_depth <= own.shape[1]
    if not seen or not deep_enough or not torch.equal(given.depth, right.depth):
        return "a topology whose depths or visibility are not those of its parents; make it with Topology.of_parents"
    return ""
