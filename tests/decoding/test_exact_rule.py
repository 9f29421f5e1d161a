"""The exact rule gives the target's own law: by enumeration on small vocabularies, by chi-square on large ones.

Enumeration: probabilities are multiples of 1/4, so every threshold is a fraction whose denominator divides GRID, and
the midpoints of a GRID-point grid integrate over the random numbers without error.
"""

import itertools

import pytest
import torch
from chi_square import chi_square
from rule_trials import altered

from specterm.decoding.acceptance import chain, exact, walk
from specterm.decoding.ports import Judging
from specterm.decoding.sampling import Purpose, Warps, draw, probabilities, purpose_keys, row_key, uniforms
from specterm.decoding.tree import DraftTree, Topology

GRID = 12
V = 3
QUARTERS = torch.tensor(
    [[2, 1, 1], [0, 3, 1], [4, 0, 0], [1, 1, 2], [1, 3, 0], [0, 0, 4], [2, 2, 0], [3, 0, 1]], dtype=torch.float64
) / 4  # fmt: skip


def law(index: int) -> torch.Tensor:
    return QUARTERS[index % len(QUARTERS)]


def p_after(prefix: tuple[int, ...]) -> torch.Tensor:
    """The target's distribution after a prefix."""
    return law(3 * len(prefix) + sum((t + 1) * 3**i for i, t in enumerate(prefix)))


def q_after(prefix: tuple[int, ...]) -> torch.Tensor:
    """An unrelated draft distribution."""
    return law(5 + 2 * len(prefix) + 7 * sum((t + 1) * 2**i for i, t in enumerate(prefix)))


class Grid:
    """Stands in for the stateless uniforms: a value for each row, purpose and node."""

    def __init__(self, monkeypatch, values: dict[Purpose, torch.Tensor]) -> None:
        for module in (chain, walk):
            monkeypatch.setattr(module, "purpose_keys", lambda keys, purpose, device: values[purpose])
            monkeypatch.setattr(module, "uniforms", lambda values, index: values[:, : index.shape[1]])
        monkeypatch.setattr(chain, "round_uniforms", lambda keys, purpose, rounds, nodes, device: values[purpose])


def joint_law(outputs, weights, length: int) -> dict[tuple[int, ...], float]:
    """The law of the first `length` tokens, where a round's output is continued by the target's own law."""
    joint: dict[tuple[int, ...], float] = {}
    for tokens, weight in zip(outputs, weights):
        for rest in itertools.product(range(V), repeat=max(0, length - len(tokens))):
            mass, prefix = weight, tokens[:length]
            for token in rest:
                mass *= float(p_after(prefix)[token])
                prefix = (*prefix, token)
            joint[prefix] = joint.get(prefix, 0.0) + mass
    return joint


def assert_target_law(joint, length: int) -> None:
    for tokens in itertools.product(range(V), repeat=length):
        expected = 1.0
        for i, token in enumerate(tokens):
            expected *= float(p_after(tokens[:i])[token])
        assert joint.get(tokens, 0.0) == pytest.approx(expected, abs=1e-12), tokens


def judge(tree: DraftTree, logits: torch.Tensor, warps: Warps = Warps(1.0), rule=None):
    rows = tree.tokens.shape[0]
    judging = Judging(warps, tuple(range(rows)), (0,) * rows, (0,) * rows, record=True)
    return (rule or exact.Exact()).verify(tree, logits, judging)


def chain_outputs(monkeypatch, rule=None):
    """Every draft of two tokens, every grid point: what the rule emits, and with which weight."""
    midpoints = [(i + 0.5) / GRID for i in range(GRID)]
    rows = [
        (x, u)
        for x in itertools.product(range(V), repeat=2)
        if float(q_after(())[x[0]] * q_after(x[:1])[x[1]]) > 0
        for u in itertools.product(midpoints, repeat=3)
    ]
    tokens = torch.tensor([x for x, _ in rows])
    q = torch.stack([torch.stack([q_after(()), q_after(x[:1])]) for x, _ in rows])
    logits = torch.stack([torch.stack([p_after(()), p_after(x[:1]), p_after(x)]) for x, _ in rows]).log()
    u = torch.tensor([u for _, u in rows], dtype=torch.float64)
    Grid(monkeypatch, {Purpose.RATIO: u[:, :2], Purpose.RESIDUAL: u[:, 2:], Purpose.TARGET: u[:, 2:]})
    tree = DraftTree(Topology.of_chain(2, q.device), tokens, (2,) * len(rows), children="sampled", q=q)
    verdict = judge(tree, logits, rule=rule)
    outputs = [(*x[: int(n)], int(y)) for (x, _), n, y in zip(rows, verdict.accepted, verdict.next_token)]
    weights = [float(q_after(())[x[0]] * q_after(x[:1])[x[1]]) / GRID**3 for x, _ in rows]
    return outputs, weights


def test_sampled_chain_enumerated(monkeypatch):
    outputs, weights = chain_outputs(monkeypatch)
    assert {1, 2, 3} == {len(tokens) for tokens in outputs}
    assert_target_law(joint_law(outputs, weights, 3), 3)


class CorrectsFromTheTarget(exact.Exact):
    """A deliberate error: the correction is drawn from p and not from the residual."""

    def verify(self, tree, logits, judging):
        right = super().verify(tree, logits, judging)
        probs = probabilities(logits, judging.warps)
        at = probs[torch.arange(len(probs)), right.accepted]
        u = chain.uniforms(chain.purpose_keys((), Purpose.RESIDUAL, probs.device), torch.zeros(1, 1)).squeeze(1)
        return altered(right, next_token=draw(at, u))


def test_enumeration_catches_a_wrong_residual(monkeypatch):
    outputs, weights = chain_outputs(monkeypatch, CorrectsFromTheTarget())
    with pytest.raises(AssertionError):
        assert_target_law(joint_law(outputs, weights, 3), 3)


TREES = {
    "chain": ((-1, 0), (1, 2)),
    "two branches": ((-1, -1, 0, 0, 1), (0, 2, 1, 0, 2)),
    "every child": ((-1, -1, -1, 0, 1, 2), (2, 1, 0, 0, 1, 1)),
}


@pytest.mark.parametrize("name", TREES)
def test_fixed_children_enumerated(monkeypatch, name):
    parents, tokens = TREES[name]
    paths: list[tuple[int, ...]] = [()]
    for parent, token in zip(parents, tokens):
        paths.append((*paths[parent + 1], token))
    midpoints = [(i + 0.5) / GRID for i in range(GRID)]
    grid = torch.tensor(list(itertools.product(midpoints, repeat=3)), dtype=torch.float64)
    topology = Topology.of_parents(torch.tensor([parents]), 2)
    by_node = grid[:, topology.depth[0]]  # one number a position, as the rule asks for them
    Grid(monkeypatch, {Purpose.TARGET: by_node})
    logits = torch.stack([p_after(path) for path in paths]).log().expand(len(grid), -1, -1)
    tree = DraftTree(topology, torch.tensor([tokens]).expand(len(grid), -1), (len(tokens),) * len(grid))
    verdict = judge(tree, logits)
    outputs = [
        (*paths[int(path[int(n)])], int(y)) for path, n, y in zip(verdict.path, verdict.accepted, verdict.next_token)
    ]
    assert len({len(out) for out in outputs}) > 1
    assert_target_law(joint_law(outputs, [1.0 / len(grid)] * len(grid), 3), 3)


WARPS = [
    Warps(1.0),
    Warps(0.5),
    Warps(1.7, top_k=9),
    Warps(0.8, top_p=0.8),
    Warps(1.0, min_p=0.2),
    Warps(0.9, 12, 0.95),
]


@pytest.mark.parametrize("warps", WARPS, ids=str)
@pytest.mark.parametrize("drafter", ["adversarial", "unrelated", "truncated", "one token"])
def test_sampled_chain_small_vocabulary(warps, drafter):
    few = warps.top_p < 1.0 and drafter != "adversarial"  # a nucleus is sought row by row; a bad draft needs many rows
    trials = 5_000 if few else 20_000
    run_chain(vocab=16, trials=trials, warps=warps, drafter=drafter)


@pytest.mark.parametrize(
    ("drafter", "trials"),
    [
        ("unrelated", 6144),
        pytest.param("unrelated", 40_960, marks=pytest.mark.full),
        pytest.param("adversarial", 40_960, marks=pytest.mark.full),
    ],
)
def test_sampled_chain_large_vocabulary(drafter, trials):
    run_chain(vocab=4096, trials=trials, warps=Warps(0.7), drafter=drafter)


def run_chain(vocab: int, trials: int, warps: Warps, drafter: str) -> None:
    """Draft two tokens from q with real random numbers, judge them, and compare the first two emitted tokens with p."""
    generator = torch.Generator().manual_seed(vocab)
    table = torch.randn(2, vocab, generator=generator, dtype=torch.float32) * 2
    draft_logits, draft_warps = {
        "adversarial": (-table, Warps(1.0)),
        "unrelated": (table.flip(1), Warps(2.0)),
        "truncated": (0.8 * table, warps),
        "one token": (table, Warps(1.0, top_k=1)),
    }[drafter]
    q = probabilities(draft_logits, draft_warps)
    p = probabilities(table, warps).double()
    first, second = torch.zeros(vocab), torch.zeros(vocab)
    seen = accepted = 0
    step = 2048 if vocab > 1000 else 20_000
    for at in range(0, trials, step):
        keys = tuple(row_key(seed, (1,)) for seed in range(at, min(at + step, trials)))
        rows = len(keys)
        u = uniforms(purpose_keys(keys, Purpose.DRAFT, q.device), torch.arange(2).unsqueeze(0))
        laws = q.expand(rows, 2, vocab)
        tokens = draw(laws, u)
        logits = torch.cat([table, table[:1]]).expand(rows, 3, vocab)  # the target's law depends on depth alone
        tree = DraftTree(Topology.of_chain(2, q.device), tokens, (2,) * rows, children="sampled", q=laws)
        verdict = exact.Exact().verify(tree, logits, Judging(warps, keys, (0,) * rows, (0,) * rows, record=False))
        out1 = torch.where(verdict.accepted > 0, tokens[:, 0], verdict.next_token)
        first += torch.bincount(out1, minlength=vocab)
        has2 = verdict.accepted > 0
        out2 = torch.where(verdict.accepted > 1, tokens[:, 1], verdict.next_token)[has2]
        second += torch.bincount(out2, minlength=vocab)
        seen += int(has2.sum())
        accepted += int(verdict.accepted.sum())
    assert 0 < accepted < 2 * trials
    for counts, expected in ((first.double(), p[0] * trials), (second.double(), p[1] * seen)):
        statistic, threshold = chi_square(counts, expected)
        assert statistic < threshold


def test_padding_is_never_accepted():
    """A row with a shorter draft ends in a bonus where its own draft ends, whatever stands in the padding."""
    p = torch.tensor([0.0, 1.0])
    logits = p.log().expand(2, 3, 2)
    q = p.expand(2, 2, 2)
    tree = DraftTree(Topology.of_chain(2, q.device), torch.ones((2, 2), dtype=torch.int64), (2, 1), "sampled", q)
    for warps in (Warps(1.0), Warps(0.0)):
        verdict = judge(tree, logits, warps)
        assert verdict.accepted.tolist() == [2, 1]
        assert verdict.next_token.tolist() == [1, 1]
