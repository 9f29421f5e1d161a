"""Medusa: trees of the heads' likeliest tokens, whose output is naive's, and the state that each round begins from."""

from itertools import islice, product
from math import prod

import pytest
import torch
from harness import decode
from hypothesis import given, settings
from hypothesis import strategies as st

from specterm.bench.prompts import gather
from specterm.config import ModelSpec
from specterm.decoding.drafters.medusa import Medusa
from specterm.decoding.drafters.memory import DraftMemory
from specterm.decoding.drafters.rank_paths import FoundPaths, likeliest_paths, static_paths
from specterm.decoding.drafters.setup import DraftSetup
from specterm.decoding.ports import Admission, ProposeRow, Recording
from specterm.decoding.sampling import Warps
from specterm.events import Calibration
from specterm.models.heads.medusa import MedusaHeads
from specterm.models.loading import load_models

TOKENS = 24


@pytest.fixture(scope="module")
def models():
    return load_models(ModelSpec(medusa="builtin", dtype="float64"))


@pytest.fixture(scope="module")
def prompts(models):
    return [models.codec.encode(request.prompt) for request in gather(("builtin",), 3)]


@pytest.mark.parametrize("warps", [Warps(0.0), Warps(0.7, top_p=0.9)], ids=["greedy", "sampled"])
@pytest.mark.parametrize(
    "parameters",
    [{}, {"tree_nodes": 3}, {"head_tree": "static"}],
    ids=str,
)
def test_output_is_naives(models, prompts, parameters, warps):
    target = models.target.runner
    naive = decode(target, prompts, warps=warps, max_tokens=TOKENS)
    for batch_size in (1, 3):
        decoded = decode(
            target, prompts, method="medusa", heads=models.heads, warps=warps, max_tokens=TOKENS,
            batch_size=batch_size, record=Recording(probs=True), **parameters,
        )  # fmt: skip
        assert decoded.ids == naive.ids
        assert {"accepted", "rejected"} <= set(decoded.states)
        nodes = {len(part.tokens) for part in decoded.rounds}
        assert max(nodes) == parameters.get("tree_nodes", 24)
        assert all(0.0 < c <= 1.0 for part in decoded.rounds for c in part.confidence or ())


def test_float32_greedy_output_is_naives(prompts):
    models = load_models(ModelSpec(medusa="builtin", dtype="float32"))
    target = models.target.runner
    decoded = decode(target, prompts, method="medusa", heads=models.heads, max_tokens=TOKENS)
    assert decoded.ids == decode(target, prompts, max_tokens=TOKENS).ids
    assert "accepted" in decoded.states


class Oracle:
    """Heads that remember which states they were asked about."""

    token_ids = None
    dtype = torch.float64

    def __init__(self, made: MedusaHeads) -> None:
        self.heads, self.hidden_size = made.heads, made.hidden_size
        self.asked: list[torch.Tensor] = []
        self._made = made

    def __call__(self, states):
        self.asked.append(states)
        return self._made(states)


def test_heads_read_the_state_before_the_root(models, prompts):
    """Each round's state is the one that gives the root: the target's own head on it has the root as its argmax."""
    heads = Oracle(models.heads["medusa"])
    target = models.target.runner
    decoded = decode(target, prompts[:1], method="medusa", heads={"medusa": heads}, max_tokens=TOKENS)
    lengths = [1, *(len(part.emitted) for part in decoded.rounds)]
    drafted = [i for i, part in enumerate(decoded.rounds) if part.tokens]
    roots = [decoded.ids[0][sum(lengths[: i + 1]) - 1] for i in drafted]
    assert [int((target.head_weight() @ states[0]).argmax()) for states in heads.asked] == roots


def test_a_truncated_vocabulary_proposes_the_targets_ids(models, prompts):
    whole = models.heads["medusa"]
    kept = torch.arange(len(whole.token_ids) - 1, 0, -3)
    ids = whole.token_ids[kept]
    cut = MedusaHeads(whole.weight.data, whole.bias.data, whole.lm_heads.data[:, kept], ids)
    target = models.target.runner
    decoded = decode(target, prompts, method="medusa", heads={"medusa": cut}, max_tokens=TOKENS)
    assert decoded.ids == decode(target, prompts, max_tokens=TOKENS).ids
    assert "accepted" in decoded.states
    assert {token for part in decoded.rounds for token in part.tokens} <= set(ids.tolist())


def test_calibrated_costs_choose_the_nodes(models, prompts):
    def nodes(per_token):
        costs = Calibration({width: 1.0 + per_token * width for width in (1, 5, 17)}, (), 64)
        setup = DraftSetup(
            models.target.runner, (), Warps(0.0), Recording(),
            {"head_tree": "dynamic", "tree_nodes": None, "adaptive": False}, DraftMemory(), costs, models.heads,
        )  # fmt: skip
        drafter = Medusa.build(setup)
        drafter.open(1, 100)
        drafter.admit(
            Admission(0, torch.tensor([1]), 2, torch.randn(1, 384, generator=torch.Generator().manual_seed(0)).double())
        )
        return drafter.propose([ProposeRow(0, 9, 0, 0)]).counts[0]

    assert nodes(1e-9) == 64
    assert 1 <= nodes(10.0) < 8


@given(st.lists(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=4), min_size=1, max_size=3), st.integers(0, 100))
@settings(max_examples=200, deadline=None)
def test_paths_are_the_likeliest_of_the_cartesian_product(chances, count):
    chances = [sorted(level, reverse=True) for level in chances]
    every = [
        prod(chances[level][rank] for level, rank in enumerate(path))
        for depth in range(1, len(chances) + 1)
        for path in product(*(range(len(level)) for level in chances[:depth]))
    ]
    asked = FoundPaths(likeliest_paths(chances))
    some = [*islice(asked.scores(), count // 2)]
    found = asked.first(count)
    assert some == [score for _, score in found[: len(some)]]
    assert [score for _, score in found] == pytest.approx(sorted(every, reverse=True)[:count])
    paths = [path for path, _ in found]
    assert len(set(paths)) == len(paths)
    assert all(len(path) == 1 or path[:-1] in paths[:place] for place, path in enumerate(paths))


@pytest.mark.parametrize("heads", [1, 2, 3, 5])
def test_static_trees_are_deep_rather_than_wide(heads):
    paths = static_paths(heads, 10, 24, fading=0.75)
    assert len(paths) == (10 if heads == 1 else 24)
    assert max(map(len, paths)) == min(heads, 4)
    assert paths[0] == (0,)


def test_alternatives_are_each_heads_likeliest_tokens(models, prompts):
    decoded = decode(
        models.target.runner, prompts, method="medusa", heads=models.heads, max_tokens=TOKENS, batch_size=3,
        record=Recording(alternatives=12),
    )  # fmt: skip
    heads, seen = models.heads["medusa"].heads, 0
    for part in decoded.rounds:
        depth = [0]
        for parent in part.parents:
            depth.append(depth[parent + 1] + 1)
        said = [shown.drafter for shown in part.alternatives]
        for node, own in enumerate(said if part.tokens else ()):
            assert (own is None) == (depth[node] == heads)
            assert own is None or len(own) == 12
            assert own == said[depth.index(depth[node])]
        for node, (token, parent) in enumerate(zip(part.tokens, part.parents, strict=True)):
            (same,) = [candidate for candidate in said[parent + 1] if candidate.id == token]
            assert part.confidence[node] == pytest.approx(same.probability)
            seen += 1
    assert seen > 100
