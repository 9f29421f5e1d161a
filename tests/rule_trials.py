"""Trials of a rule: one round for many rows at once, on laws that are known after every prefix of up to two tokens.

Every row has its own random numbers, the same draft laws and the same target. What a round emits is continued by the
target itself to `LENGTH` tokens, so the joint law of those must be the target's own.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from specterm.config import SamplingSpec
from specterm.decoding.acceptance import RULES
from specterm.decoding.ports import Judging, Rule
from specterm.decoding.sampling import (
    ROUND_STRIDE,
    Purpose,
    Warps,
    draw,
    probabilities,
    purpose_keys,
    row_key,
    uniforms,
)
from specterm.decoding.tree import DraftTree, Topology
from specterm.decoding.verdict import HostVerdict, Verdict

V, LENGTH, ROUND = 4, 3, 2
CPU = torch.device("cpu")
PREFIXES = [prefix for n in range(LENGTH) for prefix in itertools.product(range(V), repeat=n)]
OUTPUTS = list(itertools.product(range(V), repeat=LENGTH))
CHAIN, TREE, TWO = (-1, 0), (-1, -1, 0, 0, 1), (-1, -1, 0)
SHAPES = {
    "fixed chain": CHAIN,
    "fixed tree": TREE,
    "sampled chain": CHAIN,
    "sampled tree": TWO,  # of two drafters: the second one drafts the second child of the root
    "without replacement": TREE,
}


def logits_table(seed: int, spread: float = 1.5) -> Tensor:
    """Logits after every prefix: float64 [len(PREFIXES), V]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(PREFIXES), V, generator=generator, dtype=torch.float64) * spread


TARGET = logits_table(1)
DRAFTS = tuple(0.6 * TARGET + logits_table(seed, 1.0) for seed in (4, 3))


def index_of(tokens: Sequence[Tensor], rows: int) -> Tensor:
    """Which of PREFIXES the tokens are, [B]."""
    first = sum(V**n for n in range(len(tokens)))
    index = torch.zeros(rows, dtype=torch.int64)
    for token in tokens:
        index = index * V + token
    return index + first


def drafter_of(kind: str, node: int) -> int:
    return int(kind == "sampled tree" and node == 1)


def q_after(kind: str, node: int, warps: Warps = Warps(1.0)) -> Tensor:
    """The laws that node `node` of a tree is drawn from, after every prefix."""
    return probabilities(DRAFTS[drafter_of(kind, node)], warps)


def rule_named(name: str, **options) -> tuple[Rule, Warps]:
    """The rule as the catalogue makes it, and the warps of its target."""
    spec = SamplingSpec(**{"temperature": 1.0, "top_p": 1.0} | {"acceptance": name, **options}).checked()
    warps = Warps(spec.temperature, spec.top_k, spec.top_p, spec.min_p, spec.filter_value)
    return RULES[name](**spec.rule_parameters), warps


def drafted(kind: str, rows: int, draft_warps: Warps = Warps(1.0), first_seed: int = 0):
    """A tree of `kind` for each row, the target's logits [B, N + 1, V], the rows' keys, and each node's path."""
    shape = SHAPES[kind]
    keys = tuple(row_key(seed, (1,)) for seed in range(first_seed, first_seed + rows))
    u = uniforms(purpose_keys(keys, Purpose.DRAFT, CPU), ROUND * ROUND_STRIDE + torch.arange(len(shape)).unsqueeze(0))
    paths: list[list[Tensor]] = [[]]
    tokens, laws, law_of = [], [], []
    for node, parent in enumerate(shape):
        own = q_after(kind, node, draft_warps)[index_of(paths[parent + 1], rows)]
        earlier = [i for i in range(node) if shape[i] == parent and drafter_of(kind, i) == drafter_of(kind, node)]
        left = own.clone()
        for sibling in earlier:
            left.scatter_(1, tokens[sibling].unsqueeze(1), 0.0)
        token = left.argmax(dim=1) if kind.startswith("fixed") else draw(left, u[:, node])
        if not earlier:
            laws.append(own)
        law_of.append(law_of[earlier[0]] if earlier else len(laws) - 1)
        tokens.append(token)
        paths.append([*paths[parent + 1], token])
    topology = Topology.of_chain(len(shape), CPU) if shape == CHAIN else Topology.of_parents(torch.tensor([shape]), 2)
    children = {"sampled chain": "sampled"}.get(kind, "fixed" if kind.startswith("fixed") else "without replacement")
    tree = DraftTree(
        topology,
        torch.stack(tokens, dim=1),
        (len(shape),) * rows,
        children,
        q=None if children == "fixed" else torch.stack(laws, dim=1),
        law_of=torch.tensor([law_of]) if children == "without replacement" else None,
        most_children=max(shape.count(parent) for parent in shape),
    )
    # A leaf may be as long as LENGTH tokens less one; what follows it is the target's anyway.
    logits = torch.stack([TARGET[index_of(path, rows)] for path in paths], dim=1)
    return tree, logits, keys, paths


def judge(rule: Rule, warps: Warps, tree: DraftTree, logits: Tensor, keys: tuple[int, ...]):
    rows = len(keys)
    return rule.verify(tree, logits, Judging(warps, keys, (9,) * rows, (ROUND,) * rows, record=True))


def altered(verdict: Verdict | HostVerdict, **fields) -> Verdict:
    """A verdict with some of its tensors replaced, wherever it was made."""
    own = Verdict(
        verdict.topology, verdict.accepted, verdict.next_token, (verdict.path, verdict.states), verdict.p, verdict.q,
        verdict.next_p,
    )  # fmt: skip
    return replace(own, **fields)


def continued(tree: DraftTree, verdict, warps: Warps, seed: int = 7) -> Tensor:
    """The first LENGTH tokens of each row: the round's, then the target's own. Index into OUTPUTS, int64 [B]."""
    generator = torch.Generator().manual_seed(seed)
    p, rows = probabilities(TARGET, warps), len(tree.tokens)
    out: list[Tensor] = []
    for place in range(LENGTH):
        own = draw(p[index_of(out, rows)], torch.rand(rows, generator=generator, dtype=torch.float64))
        node = verdict.path[:, min(place + 1, verdict.path.shape[1] - 1)]
        token = tree.tokens.gather(1, (node - 1).clamp(min=0).unsqueeze(1)).squeeze(1)
        token = torch.where(
            verdict.accepted == place, verdict.next_token, torch.where(verdict.accepted > place, token, own)
        )
        out.append(token)
    return index_of(out, rows) - len(PREFIXES)


def target_law(warps: Warps) -> Tensor:
    """The target's law of OUTPUTS: float64 [V ** LENGTH]."""
    p = probabilities(TARGET, warps)
    place = {prefix: i for i, prefix in enumerate(PREFIXES)}
    return torch.stack(
        [torch.stack([p[place[out[:i]], token] for i, token in enumerate(out)]).prod() for out in OUTPUTS]
    )


Change = Callable[[DraftTree], DraftTree]


def counts_of(
    rule: Rule, warps: Warps, kind: str, rows: int, change: Change = lambda tree: tree, draft_warps: Warps = Warps(1.0)
) -> tuple[Tensor, Tensor]:
    """How often each of OUTPUTS came in `rows` trials, and how many draft tokens each row accepted."""
    tree, logits, keys, _ = drafted(kind, rows, draft_warps)
    tree = change(tree)
    verdict = judge(rule, warps, tree, logits, keys)
    return torch.bincount(continued(tree, verdict, warps), minlength=len(OUTPUTS)).double(), verdict.accepted


def with_laws(tree: DraftTree, draft_warps: Warps) -> DraftTree:
    """A sampled chain that claims to have been drawn by other warps than it was."""
    first = torch.zeros(len(tree.tokens), dtype=torch.int64)
    laws = q_after("sampled chain", 0, draft_warps)
    return replace(tree, q=torch.stack([laws[first], laws[index_of([tree.tokens[:, 0]], len(first))]], dim=1))
