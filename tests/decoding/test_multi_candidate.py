"""Sampled trees give the target's own law: a plain walk is enumerated, and the rule decides as the plain walk does."""

import itertools
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch

from specterm.decoding.acceptance import exact
from specterm.decoding.ports import Judging
from specterm.decoding.sampling import ROUND_STRIDE, Purpose, Warps, draw, purpose_keys, row_key, uniforms
from specterm.decoding.tree import DraftTree, Topology
from specterm.decoding.verdict import STATES

Law = Sequence[float]


def normalised(law: Law) -> list[float]:
    total = sum(law)
    return [x / total if total else 0.0 for x in law]


def without(law: Law, tokens: Sequence[int]) -> list[float]:
    return normalised([0.0 if token in tokens else x for token, x in enumerate(law)])


def residual(p: Law, q: Law) -> list[float]:
    rest = [max(a - b, 0.0) for a, b in zip(p, q)]
    return normalised(rest) if sum(rest) else list(p)


def judged_by(law: Law, earlier: Sequence[int]) -> list[float]:
    """The law that drew a child: what its earlier siblings left of the parent's."""
    return without(law, earlier)


def judged_by_the_whole(law: Law, earlier: Sequence[int]) -> list[float]:
    """A deliberate error: the law as if nothing had been taken from it."""
    return normalised(law)


# Enumeration: a tree of two levels below the root, from every possible draw.

V = 4
SHAPE = ((-1, 0), (-1, 0), (-1, 1), (0, 0), (0, 0), (1, 0))  # parent and drafter of each node
TWO_LEVELS = [parent for parent, _ in SHAPE]


def table(rows: Sequence[Sequence[int]]) -> Callable[[int], list[float]]:
    return lambda index: normalised(rows[index % len(rows)])


PLAIN = table([(7, 5, 2, 9), (3, 1, 11, 6), (1, 8, 5, 2), (5, 2, 3, 13), (17, 3, 1, 4)])
HOLES = table([(5, 0, 3, 0), (0, 1, 0, 0), (0, 0, 2, 7), (1, 1, 0, 0), (0, 3, 3, 1)])
LAWS = {
    "unrelated": (PLAIN, lambda i: PLAIN(i + 2)),
    "the same": (PLAIN, PLAIN),
    "drafts with zeros": (PLAIN, HOLES),
    "a truncated target": (HOLES, PLAIN),
    "both with zeros": (HOLES, lambda i: HOLES(i + 3)),
    "one token": (PLAIN, table([(0, 0, 1, 0), (1, 0, 0, 0)])),
    "nearly disjoint": (table([(999, 999, 1, 1)]), table([(1, 2, 999, 999), (2, 1, 998, 999)])),
}


def index_of(prefix: Sequence[int], drafter: int = 0) -> int:
    return drafter + 3 * len(prefix) + sum((token + 1) * 2**i for i, token in enumerate(prefix))


def drafts(q: Callable[[int], Law]) -> Iterator[tuple[tuple[int, ...], float]]:
    """Every draw of the tree's tokens and its probability. A child that nothing is left for is token 0."""

    def extend(tokens: tuple[int, ...], weight: float) -> Iterator[tuple[tuple[int, ...], float]]:
        if len(tokens) == len(SHAPE):
            yield tokens, weight
            return
        law, earlier = law_and_earlier(q, tokens)
        left = without(law, earlier)
        if not any(left):
            yield from extend((*tokens, 0), weight)
        for token, chance in enumerate(left):
            if chance:
                yield from extend((*tokens, token), weight * chance)

    yield from extend((), 1.0)


def law_and_earlier(q: Callable[[int], Law], tokens: Sequence[int], node: int | None = None) -> tuple[Law, list[int]]:
    """The drafter's law at the parent of a node (the next one), and what its earlier siblings took of it."""
    node = len(tokens) if node is None else node
    parent, drafter = SHAPE[node]
    prefix = () if parent < 0 else (tokens[parent],)
    return q(index_of(prefix, drafter)), [tokens[i] for i in range(node) if SHAPE[i] == SHAPE[node]]


def emitted(p, q, tokens, judge) -> Iterator[tuple[tuple[int, ...], float]]:
    """What a round may emit for given draft tokens, by the plain walk, and the probability of each."""

    def below(node: int, prefix: tuple[int, ...], weight: float) -> Iterator[tuple[tuple[int, ...], float]]:
        law = p(index_of(prefix))
        for child in (i for i, (parent, _) in enumerate(SHAPE) if parent == node):
            token = tokens[child]
            own = judge(*law_and_earlier(q, tokens, child))
            keep = min(1.0, law[token] / own[token]) if own[token] else 0.0
            yield from below(child, (*prefix, token), weight * keep)
            weight *= 1.0 - keep
            law = residual(law, own)
        yield from (((*prefix, token), weight * chance) for token, chance in enumerate(law))

    yield from below(-1, (), 1.0)


def error_of(p, q, judge=judged_by) -> float:
    """The greatest difference between the law of the first three tokens and the target's own."""
    joint = dict.fromkeys(itertools.product(range(V), repeat=3), 0.0)
    chance = lambda tokens, start: [p(index_of(tokens[:i]))[tokens[i]] for i in range(start, 3)]  # noqa: E731
    product = lambda factors: torch.tensor(factors, dtype=torch.float64).prod().item()  # noqa: E731
    rest = {(tokens, start): product(chance(tokens, start)) for tokens in joint for start in range(4)}
    for tokens, weight in drafts(q):
        for out, own in emitted(p, q, tokens, judge):
            for tail in itertools.product(range(V), repeat=3 - len(out)):
                joint[*out, *tail] += weight * own * rest[(*out, *tail), len(out)]
    return max(abs(mass - rest[tokens, 0]) for tokens, mass in joint.items())


@pytest.mark.parametrize("name", LAWS)
def test_the_plain_walk_gives_the_targets_law(name):
    assert error_of(*LAWS[name]) < 1e-12


@pytest.mark.parametrize("name", ["unrelated", "drafts with zeros"])
def test_enumeration_catches_the_law_of_the_first_child(name):
    assert error_of(*LAWS[name], judged_by_the_whole) > 1e-3


# The rule against the plain walk, decision by decision.


def random_laws(kind: str, rows: int, count: int, vocab: int, generator: torch.Generator) -> torch.Tensor:
    logits = torch.randn(rows, count, vocab, generator=generator, dtype=torch.float64) * 2
    match kind:
        case "zeros":
            hidden = torch.rand(logits.shape, generator=generator) < 0.6
            logits = logits.masked_fill(hidden & (logits < logits.amax(dim=2, keepdim=True)), float("-inf"))
        case "one token":
            logits = logits.masked_fill(logits < logits.amax(dim=2, keepdim=True), float("-inf"))
    return logits.softmax(dim=2)


PAIRS = ["random", "same", "disjoint", "one token", "zeros", "truncated target", "both with zeros"]


def batch(kind: str, rows: int, parents: Sequence[int], seed: int) -> tuple[DraftTree, torch.Tensor]:
    """A tree drawn without replacement, where two drafters draw the children of the root; and the target's laws."""
    vocab, nodes, generator = 5, len(parents), torch.Generator().manual_seed(seed)
    p_kind = "zeros" if kind in ("truncated target", "both with zeros") else "random"
    q_kind = {"both with zeros": "zeros"}.get(kind, kind)
    p = random_laws(p_kind, rows, nodes + 1, vocab, generator)
    laws = random_laws(q_kind, rows, nodes + 2, vocab, generator)
    if kind == "same":
        laws = torch.cat([p, p[:, :1]], dim=1)
    if kind == "disjoint":
        laws = torch.cat([1.0 / p, 1.0 / p[:, :1]], dim=1)  # and not normalised
    of_root = [i for i, parent in enumerate(parents) if parent < 0]
    law_of = [parent + 1 for parent in parents]
    for node in of_root[(len(of_root) + 1) // 2 :]:
        law_of[node] = nodes + 1  # the second drafter's
    tokens = torch.zeros((rows, nodes), dtype=torch.int64)
    left = laws.clone()
    for node in range(nodes):
        mine = left[:, law_of[node]]
        tokens[:, node] = draw(mine, torch.rand(rows, generator=generator, dtype=torch.float64))
        left[torch.arange(rows), law_of[node], tokens[:, node]] = 0.0
    depth = Topology.of_parents(torch.tensor([parents]), nodes).depth
    topology = Topology.of_parents(torch.tensor([parents]), int(depth.max()))
    counts = tuple(int(n) for n in torch.randint(0, nodes + 1, (rows,), generator=generator))
    counts = (nodes,) * (rows // 2) + counts[rows // 2 :]
    tree = DraftTree(
        topology, tokens, counts, "without replacement", laws, torch.tensor([law_of]),
        max(parents.count(parent) for parent in parents),
    )  # fmt: skip
    return tree, p


def judge(tree: DraftTree, p: torch.Tensor, rounds: int = 3):
    keys = tuple(row_key(seed, (7,)) for seed in range(len(p)))
    judging = Judging(Warps(1.0), keys, (11,) * len(p), (rounds,) * len(p), record=True)
    verdict = exact.Exact().verify(tree, p.log(), judging)

    def numbers(purpose: Purpose, first: int, count: int) -> list[list[float]]:
        index = torch.arange(first, first + count).unsqueeze(0)
        return uniforms(purpose_keys(keys, purpose, p.device), index).tolist()

    at = rounds * ROUND_STRIDE
    return verdict, {
        Purpose.RATIO: numbers(Purpose.RATIO, at, tree.nodes),
        Purpose.RESIDUAL: numbers(Purpose.RESIDUAL, at, tree.nodes + 1),
        Purpose.TARGET: numbers(Purpose.TARGET, 12, tree.nodes + 1),
    }


def plain_walk(tree: DraftTree, p: torch.Tensor, u, row: int):
    """The accepted nodes, the states, the p and q that decided by node, and the next token of one row."""
    parents = tree.topology.parents[0, 1:].tolist()
    law_of, tokens = tree.law_of[0].tolist(), tree.tokens[row].tolist()
    states, decided = ["unused"] * tree.nodes, {}
    path, node, moved, refused = [], 0, True, False
    while moved:
        law, moved, refused = normalised(p[row, node].tolist()), False, False
        for child in [i for i in range(tree.counts[row]) if parents[i] == node]:
            earlier = [tokens[i] for i in range(child) if parents[i] == node and law_of[i] == law_of[child]]
            own = without(tree.q[row, law_of[child]].tolist(), earlier)
            token = tokens[child]
            decided[child] = law[token], own[token]
            if own[token] and u[Purpose.RATIO][row][child] * own[token] < law[token]:
                states[child] = "accepted"
                path.append(child + 1)
                node, moved = child + 1, True
                break
            states[child], refused = "rejected", True
            law = residual(law, own)
    number = u[Purpose.RESIDUAL][row][node] if refused else u[Purpose.TARGET][row][len(path)]
    next_token = int(draw(torch.tensor(law, dtype=torch.float64), torch.tensor(number, dtype=torch.float64)))
    return path, states, decided, next_token


TREES = {
    "chain": [-1, 0, 1],
    "two levels": TWO_LEVELS,
    "wide": [-1, -1, -1, -1, -1],
    "interleaved": [-1, 0, -1, 0, 2, 3, -1, 5, 2],
}


@pytest.mark.parametrize("shape", TREES)
@pytest.mark.parametrize("kind", PAIRS)
def test_the_rule_decides_as_the_plain_walk(kind, shape):
    rows = 120
    tree, p = batch(kind, rows, TREES[shape], seed=len(kind) + 10 * len(shape))
    verdict, u = judge(tree, p)
    seen = set()
    for row in range(rows):
        path, states, decided, next_token = plain_walk(tree, p, u, row)
        count = int(verdict.accepted[row])
        assert verdict.path[row].tolist()[1 : count + 1] == path
        assert [STATES[code] for code in verdict.states[row]] == states
        assert int(verdict.next_token[row]) == next_token
        assert float(p[row, path[-1] if path else 0, next_token]) == pytest.approx(float(verdict.next_p[row]))
        for node, (own_p, own_q) in decided.items():
            assert float(verdict.p[row, node]) == pytest.approx(own_p, abs=1e-9)
            assert float(verdict.q[row, node]) == pytest.approx(own_q, abs=1e-9)
        seen.update(states)
    assert {"accepted", "rejected"} <= seen or kind == "same"


def test_drafts_of_the_targets_own_law_are_kept_down_to_a_leaf():
    tree, p = batch("same", 64, [-1, -1, 0, 0, 2], seed=0)
    verdict, _ = judge(tree, p)
    whole = verdict.accepted[:32]  # the other half of the batch is cut short
    assert set(whole.tolist()) == {3}
    assert [STATES[code] for code in verdict.states[0]] == ["accepted", "unused", "accepted", "unused", "accepted"]


def test_a_child_that_nothing_was_left_for_is_refused():
    p = torch.tensor([[[0.5, 0.5, 0.0]] * 4])
    q = torch.tensor([[[0.0, 1.0, 0.0]]])
    for tokens in ([1, 0, 0], [1, 1, 1]):
        tree = DraftTree(
            Topology.of_parents(torch.tensor([[-1, -1, -1]]), 1), torch.tensor([tokens]).expand(64, -1), (3,) * 64,
            "without replacement", q.expand(64, -1, -1), torch.zeros((1, 3), dtype=torch.int64), 3,
        )  # fmt: skip
        verdict, _ = judge(tree, p.expand(64, -1, -1))
        accepted = verdict.accepted == 1
        assert 0 < int(accepted.sum()) < 64
        assert set(verdict.path[accepted, 1].tolist()) == {1}
        assert set(verdict.next_token[~accepted].tolist()) == {0}
        assert verdict.q[~accepted].unique(dim=0).tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize("kind", PAIRS)
def test_one_child_a_node_is_the_chain_rule(kind):
    tree, p = batch(kind, 600, [-1, 0, 1, 2], seed=5)
    laws = torch.stack([tree.q[:, law] for law in tree.law_of[0].tolist()], dim=1)
    laws = laws / laws.sum(dim=2, keepdim=True)
    topology = Topology.of_chain(4, p.device)
    verdicts = [
        judge(DraftTree(topology, tree.tokens, tree.counts, children, laws, law_of), p)[0]
        for children, law_of in (("sampled", None), ("without replacement", torch.arange(4).unsqueeze(0)))
    ]
    for name in ("accepted", "path", "next_token"):
        assert torch.equal(*(getattr(verdict, name) for verdict in verdicts)), name
    assert torch.equal(*(verdict.states[tree.valid()] for verdict in verdicts))
    for name in ("p", "q", "next_p"):
        a, b = (getattr(verdict, name) for verdict in verdicts)
        assert torch.allclose(a[:300].double(), b[:300].double()), name
    assert int(verdicts[0].accepted.sum()) > 0
    assert kind == "same" or int(verdicts[0].accepted.sum()) < 600 * 4
