"""The exact rule on float32 logits, which a kernel walks by, against the same in double precision, by torch's
operations."""

from dataclasses import replace

import pytest
import torch

from specterm.decoding.acceptance.exact import Exact
from specterm.decoding.acceptance.walk import target_uniforms
from specterm.decoding.host import HostKernels
from specterm.decoding.ports import Judging
from specterm.decoding.sampling import Warps, draw, likeliest, probabilities, row_key
from specterm.decoding.tree import DraftTree, Topology
from specterm.decoding.verdict import HostVerdict, Verdict
from specterm.kernels.machine import Machine, this_machine

pytestmark = pytest.mark.skipif(this_machine() is None, reason="no kernels for this processor")
WARPS = [Warps(0.0), Warps(1.0), Warps(0.7, top_p=0.9), Warps(1.4, top_k=4), Warps(1.0, min_p=0.1)]
MACHINES = [None, Machine("x86-64-v4", 16, 6), Machine("x86-64-v3", 8, 3)]
NODES, COUNTS = 6, (6, 0, 3, 1, 6, 5, 2, 6, 4, 6, 6, 3)
ROWS = len(COUNTS)
CHAIN = Topology.of_chain(NODES, torch.device("cpu"))


@pytest.fixture(autouse=True, params=MACHINES, ids=["own", "avx512", "avx2"])
def machine(request, monkeypatch):
    """This processor, or as if it were a lesser one."""
    lesser = request.param
    if lesser and not (this_machine().cpu.startswith("x86-64") and this_machine().lanes >= lesser.lanes):
        pytest.skip("this processor lacks their instructions")
    kernels = HostKernels(lesser or this_machine())
    monkeypatch.setattr("specterm.decoding.host._of_this_machine", lambda: kernels)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def tree_of(seed, rows):
    """Random parents, of `rows` rows: those of all, or of each."""
    parents = torch.cat([torch.randint(-1, i, (rows, 1), generator=generator(seed * 10 + i)) for i in range(NODES)], 1)
    return Topology.of_parents(parents, NODES)


def judging_of(warps, seed=0, record=True):
    keys = tuple(row_key(seed + row, (1, 2)) for row in range(ROWS))
    return Judging(warps, keys, tuple(range(7, 7 + 5 * ROWS, 5)), tuple(range(3, 3 + ROWS)), record)


def judged(tree, logits, warps, seed=0):
    """Both verdicts, of which the kernel's is the same whether more is recorded or not."""
    ours = Exact().verify(tree, logits, judging_of(warps, seed))
    bare = Exact().verify(tree, logits, judging_of(warps, seed, record=False))
    wide = None if tree.q is None else tree.q.double()
    theirs = Exact().verify(replace(tree, q=wide), logits.double(), judging_of(warps, seed))
    assert isinstance(ours, HostVerdict)
    assert isinstance(theirs, Verdict)
    assert (bare.paths, bare.next_tokens) == (ours.paths, ours.next_tokens)
    assert bare.p is bare.q is bare.next_p is None
    return ours, theirs


def assert_same(tree, ours, theirs):
    assert ours.accepted.tolist() == theirs.accepted.tolist()
    assert ours.next_token.tolist() == theirs.next_token.tolist()
    assert torch.equal(ours.path, theirs.path.expand_as(ours.path))
    valid = tree.valid()
    assert torch.equal(ours.states[valid], theirs.states[valid])
    torch.testing.assert_close(ours.p[valid].double(), theirs.p[valid], rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(ours.next_p.double(), theirs.next_p, rtol=1e-5, atol=1e-9)
    assert (ours.q is None) == (theirs.q is None)
    if theirs.q is not None:
        torch.testing.assert_close(ours.q[valid].double(), theirs.q[valid], rtol=1e-5, atol=1e-9)


def targets_draws(topology, logits, warps, seed=0):
    """The target's own token after the root and after each node."""
    if warps.greedy:
        return likeliest(logits)
    return draw(probabilities(logits.double(), warps), target_uniforms(judging_of(warps, seed), topology.depth))


def matching(topology, logits, warps, share, seed=0):
    """Tokens of which so many are those that the target draws at their parents, also where there is but padding."""
    parents = topology.parents.expand(ROWS, -1)[:, 1:]
    right = targets_draws(topology, logits, warps, seed).gather(1, parents)
    other = torch.randint(0, logits.shape[2], right.shape, generator=generator(seed))
    return torch.where(torch.rand(right.shape, generator=generator(seed + 1)) < share, right, other)


@pytest.mark.parametrize("warps", WARPS, ids=str)
@pytest.mark.parametrize("shape", ["chain", "shared tree", "own trees"])
def test_fixed_drafts_are_walked_as_by_torch(shape, warps):
    reached = set()
    for vocab in (3, 17, 300):
        for seed in range(4):
            topology = CHAIN if shape == "chain" else tree_of(seed, 1 if shape == "shared tree" else ROWS)
            logits = 2.0 * torch.randn((ROWS, NODES + 1, vocab), generator=generator(seed))
            tree = DraftTree(topology, matching(topology, logits, warps, 0.7, seed), COUNTS)
            ours, theirs = judged(tree, logits, warps, seed)
            assert_same(tree, ours, theirs)
            reached |= set(ours.accepted.tolist())
    assert {0, 1, 2, 3} <= reached


@pytest.mark.parametrize("warps", WARPS, ids=str)
@pytest.mark.parametrize("apart", [0.3, 2.0])
def test_sampled_chains_are_walked_as_by_torch(apart, warps):
    """`apart` is how far the draft's logits are from the target's."""
    reached, refused = set(), 0
    for vocab in (3, 17, 300):
        for seed in range(6):
            logits = 1.5 * torch.randn((ROWS, NODES + 1, vocab), generator=generator(seed))
            leaning = logits[:, :-1] + apart * torch.randn((ROWS, NODES, vocab), generator=generator(seed + 50))
            q = probabilities(leaning, Warps(1.2, top_k=12))
            tokens = draw(q, torch.rand((ROWS, NODES), generator=generator(seed), dtype=torch.float64))
            tree = DraftTree(CHAIN, tokens, COUNTS, "sampled", q)
            ours, theirs = judged(tree, logits, warps, seed)
            assert_same(tree, ours, theirs)
            assert (ours.q is None) == warps.greedy
            wide = DraftTree(CHAIN, tokens, COUNTS, "sampled", q.double())  # laws in another format than the logits
            assert judged(wide, logits, warps, seed)[0].paths == ours.paths
            reached |= set(ours.accepted.tolist())
            refused += sum(count < whole for count, whole in zip(ours.accepted.tolist(), COUNTS))
    assert {0, 1, 2, 3} <= reached
    assert refused > 20


@pytest.mark.parametrize("warps", WARPS, ids=str)
@pytest.mark.parametrize("kind", ["chain", "shared tree", "own trees", "sampled"])
def test_no_walk_goes_behind_a_rows_own_nodes(kind, warps):
    """Every node and all the padding would match; so the walk ends where the row's draft does."""
    topology = CHAIN if kind in ("chain", "sampled") else tree_of(1, 1 if kind == "shared tree" else ROWS)
    logits = torch.randn((ROWS, NODES + 1, 40), generator=generator(9))
    tokens, q = matching(topology, logits, warps, 1.0), None
    if kind == "sampled":
        tokens = likeliest(logits)[:, :-1]
        q = torch.full((ROWS, NODES, 40), 1e-6)  # the target always says more
    tree = DraftTree(topology, tokens, COUNTS, "fixed" if q is None else "sampled", q)
    ours, theirs = judged(tree, logits, warps)
    assert_same(tree, ours, theirs)
    assert all(node <= count for path, count in zip(ours.paths, COUNTS) for node in path)
    if topology.chain:
        assert ours.accepted.tolist() == list(COUNTS)
        drawn = targets_draws(CHAIN, logits, warps)
        assert ours.next_token.tolist() == [int(drawn[row, count]) for row, count in enumerate(COUNTS)]


def test_drafts_with_gaps_in_memory_are_walked_too():
    warps, wide = Warps(0.8), torch.randn((ROWS, NODES + 1, 80), generator=generator(2))
    logits = wide[..., ::2]
    padded = torch.cat((matching(CHAIN, logits, warps, 0.7), torch.zeros((ROWS, 3), dtype=torch.int64)), dim=1)
    tree = DraftTree(CHAIN, padded[:, :NODES], COUNTS)
    assert_same(tree, *judged(tree, logits, warps))


@pytest.mark.parametrize("warps", [Warps(0.0), Warps(1.0)], ids=["greedy", "sampled"])
def test_no_draft_at_all(warps):
    logits = torch.randn((ROWS, 1, 40), generator=generator(4))
    tree = DraftTree.empty(ROWS, torch.device("cpu"))
    ours, theirs = judged(tree, logits, warps)
    assert ours.next_token.tolist() == theirs.next_token.tolist()
    assert ours.accepted.tolist() == [0] * ROWS
