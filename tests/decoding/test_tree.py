"""Trees: shapes from parents, and walking them."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specterm.decoding.acceptance.walk import accepted_nodes, leading, node_states, path_of, walk
from specterm.decoding.tree import DraftTree, Topology, _of_parents_on_device, _with_level_on_device
from specterm.decoding.verdict import STATES

CPU = torch.device("cpu")


@st.composite
def parents_of_trees(draw):
    size = draw(st.integers(1, 12))
    return [draw(st.integers(-1, i - 1)) for i in range(size)]


def ancestors(parents, node):
    found = {node}
    while node >= 0:
        node = parents[node]
        found.add(node)
    return found


@given(parents_of_trees())
@settings(max_examples=150, deadline=None)
def test_topology_knows_depths_and_ancestors(parents):
    depths = [len(ancestors(parents, i)) - 1 for i in range(len(parents))]
    tree = Topology.of_parents(torch.tensor([parents]), max(depths))
    assert tree.depth[0].tolist() == [0, *depths]
    for i in range(len(parents)):
        seen = {j - 1 for j, visible in enumerate(tree.visible[0, i + 1].tolist()) if visible}
        assert seen == ancestors(parents, i)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(1, 3), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_a_tree_that_grows_by_levels_is_the_tree_of_its_parents(widths, rows, random):
    grown, parents, level = Topology.of_chain(0, CPU), [[] for _ in range(rows)], [0]
    for width in widths:
        own = [sorted(random.choices(level, k=width)) for _ in range(rows)]
        level = range(grown.size, grown.size + width)
        before, grown = grown, grown.with_level(torch.tensor(own))
        if not grown.chain:
            same(grown, _with_level_on_device(before, grown.parents))
        for row, more in zip(parents, own, strict=True):
            row.extend(node - 1 for node in more)
    whole = Topology.of_parents(torch.tensor(parents), len(widths))
    assert grown.max_depth == len(widths)
    assert grown.chain == all(width == 1 for width in widths)
    if not grown.chain:
        same(grown, whole)


def same(here, there):
    assert here.max_depth == there.max_depth
    for name in ("parents", "depth", "visible"):
        assert torch.equal(getattr(here, name), getattr(there, name)), name


@given(parents_of_trees(), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_walk_follows_the_one_kept_child_of_each_node(parents, random):
    children = {p: [i for i, q in enumerate(parents) if q == p] for p in range(-1, len(parents))}
    chosen = {p: random.choice([*kids, None]) for p, kids in children.items() if kids}
    kept = [chosen[parents[i]] == i for i in range(len(parents))]
    depths = [len(ancestors(parents, i)) - 1 for i in range(len(parents))]
    topology = Topology.of_parents(torch.tensor([parents]), max(depths))
    accepted = accepted_nodes(topology, torch.tensor([kept]))
    path, count = path_of(topology, accepted)

    expected, node = [], -1
    while chosen.get(node) is not None:
        node = chosen[node]
        expected.append(node)
    assert int(count) == len(expected)
    assert path[0].tolist()[: len(expected) + 1] == [0, *(n + 1 for n in expected)]
    assert set(path[0].tolist()[len(expected) :]) == {node + 1}
    states = [STATES[s] for s in node_states(topology, accepted, path[:, -1])[0].tolist()]
    for i, state in enumerate(states):
        want = "accepted" if i in expected else "rejected" if parents[i] == node else "unused"
        assert state == want


@st.composite
def batches_of_trees(draw):
    """The parents of each row, padded with -1, how many nodes each has, and which child of each node was kept."""
    trees = draw(st.lists(parents_of_trees(), min_size=1, max_size=4))
    counts = [len(parents) for parents in trees]
    padded = [parents + [-1] * (max(counts) - len(parents)) for parents in trees]
    kept = []
    for parents in trees:
        chosen = {
            parent: draw(st.sampled_from([i for i, p in enumerate(parents) if p == parent])) for parent in parents
        }
        unlucky = draw(st.sets(st.integers(-1, len(parents) - 1)))
        kept.append([chosen[parent] == i and parent not in unlucky for i, parent in enumerate(parents)])
    return padded, counts, [own + [False] * (max(counts) - len(own)) for own in kept]


@given(batches_of_trees(), st.integers(1, 2))
@settings(max_examples=150, deadline=None)
def test_host_and_device_walk_the_same_batch_the_same_way(batch, shared):
    padded, counts, kept = batch
    depth = max(len(ancestors(own, i)) - 1 for own, count in zip(padded, counts, strict=True) for i in range(count))
    parents, kept = torch.tensor(padded), torch.tensor(kept)
    if shared > 1:  # one shape for every row
        parents, kept = parents[:1], kept[:1].repeat(shared, 1)
    topology = Topology.of_parents(parents, depth)
    same(topology, _of_parents_on_device(topology.parents, depth))
    accepted = accepted_nodes(topology, kept)
    path, count = path_of(topology, accepted)
    expected = path, count, node_states(topology, accepted, path[:, -1])
    for here, there in zip(walk(topology, kept), expected, strict=True):
        assert torch.equal(here, there)
        assert here.dtype == there.dtype


def test_chain_and_general_walk_agree():
    chain = Topology.of_chain(4, CPU)
    general = Topology.of_parents(torch.tensor([[-1, 0, 1, 2]]), 4)
    kept = torch.tensor([[True, True, False, True], [True] * 4, [False] * 4])
    for a, b in zip(path_of(chain, accepted_nodes(chain, kept)), path_of(general, accepted_nodes(general, kept))):
        assert torch.equal(a, b)


def test_ragged_trees_know_their_padding():
    tree = DraftTree(Topology.of_chain(3, CPU), torch.zeros((3, 3), dtype=torch.int64), (3, 0, 1))
    assert tree.valid().tolist() == [[True] * 3, [False] * 3, [True, False, False]]


def test_what_leads_ends_at_the_first_that_was_not_kept():
    kept = torch.tensor([[1, 1, 0, 1], [0, 1, 1, 1], [1, 1, 1, 1], [1, 0, 0, 0]], dtype=torch.bool)
    assert leading(kept).tolist() == [2, 0, 4, 1]
    assert leading(kept[:, :0]).tolist() == [0, 0, 0, 0]
