"""MLP speculator: beams of its recurrence, whose output is naive's, and the state and token that each round begins
from."""

from itertools import chain
from math import prod

import pytest
import torch
from harness import decode

from specterm.bench.prompts import gather
from specterm.config import ModelSpec
from specterm.decoding.drafters.memory import DraftMemory
from specterm.decoding.drafters.mlp import MLP, beams
from specterm.decoding.drafters.setup import DraftSetup
from specterm.decoding.ports import Recording
from specterm.decoding.sampling import Warps
from specterm.events import Calibration
from specterm.models.heads.mlp import MLPSpeculator
from specterm.models.loading import load_models

TOKENS = 24


@pytest.fixture(scope="module")
def models():
    return load_models(ModelSpec(mlp="builtin", dtype="float64"))


@pytest.fixture(scope="module")
def prompts(models):
    return [models.codec.encode(request.prompt) for request in gather(("builtin",), 3)]


@pytest.mark.parametrize("warps", [Warps(0.0), Warps(0.7, top_p=0.9)], ids=["greedy", "sampled"])
@pytest.mark.parametrize(
    ("parameters", "nodes"),
    [({}, 9), ({"tree_width": 1, "tree_depth": 2}, 2), ({"tree_nodes": 5}, 5)],
    ids=["as by default", "chain", "few nodes"],
)
def test_output_is_naives(models, prompts, parameters, nodes, warps):
    target = models.target.runner
    naive = decode(target, prompts, warps=warps, max_tokens=TOKENS)
    for batch_size in (1, 3):
        decoded = decode(
            target, prompts, method="mlp", heads=models.heads, warps=warps, max_tokens=TOKENS, batch_size=batch_size,
            record=Recording(probs=True), **parameters,
        )  # fmt: skip
        assert decoded.ids == naive.ids
        assert {"accepted", "rejected"} <= set(decoded.states)
        assert max(len(part.tokens) for part in decoded.rounds) == nodes
        assert all(0.0 < c <= 1.0 for part in decoded.rounds for c in part.confidence or ())


def test_float32_greedy_output_is_naives(prompts):
    models = load_models(ModelSpec(mlp="builtin", dtype="float32"))
    target = models.target.runner
    decoded = decode(target, prompts, method="mlp", heads=models.heads, max_tokens=TOKENS)
    assert decoded.ids == decode(target, prompts, max_tokens=TOKENS).ids
    assert {"accepted", "rejected"} <= set(decoded.states)


class Witness(MLPSpeculator):
    """A speculator that remembers what it was first asked in each round."""

    def watch(self):
        self.asked = []
        return self

    def forward(self, states, ids, level):
        if level == 0:
            self.asked.append((states, ids))
        return super().forward(states, ids, level)


def test_each_round_begins_from_the_state_before_the_root(models, prompts):
    """The state is the one that gives the root: the target's own head on it has the root as its argmax."""
    made = models.heads["mlp"]
    kinds = ([*weights] for weights in (made.emb, made.proj, made.norm, made.head))
    witness = Witness(made.levels, *kinds, scale_input=False).watch()
    target = models.target.runner
    decoded = decode(target, prompts[:1], method="mlp", heads={"mlp": witness}, max_tokens=TOKENS)
    lengths = [1, *(len(part.emitted) for part in decoded.rounds)]
    roots = [decoded.ids[0][sum(lengths[: i + 1]) - 1] for i in range(len(decoded.rounds))]
    assert [int(ids[0]) for _, ids in witness.asked] == roots[: len(witness.asked)]
    assert [int((target.head_weight() @ states[0]).argmax()) for states, _ in witness.asked] == [
        int(ids[0]) for _, ids in witness.asked
    ]
    assert len(witness.asked) >= len(roots) - 1  # a last round has no room for a draft


def test_a_path_is_scored_by_its_own_tokens(models):
    """Every candidate's score is the product of the chances along its path, read one token after the other."""
    speculator = models.heads["mlp"]
    hidden = torch.randn(2, 384, generator=torch.Generator().manual_seed(0)).double()
    roots = torch.tensor([5, 900])
    levels = beams(speculator, hidden, roots, width=3, depth=3)
    for row in range(2):
        paths = [()]
        for level in (each.rows()[row] for each in levels):
            chances = [chances_after(speculator, hidden[row], [int(roots[row]), *path]) for path in paths]
            ends = [(*path, int(token)) for path, tokens in zip(paths, level.tokens) for token in tokens]
            for end, score in zip(ends, chain.from_iterable(level.score)):
                told = [chances_after(speculator, hidden[row], [int(roots[row]), *end[:i]])[end[i]]
                        for i in range(len(end))]  # fmt: skip
                assert score == pytest.approx(prod(float(chance) for chance in told), rel=1e-4)
            for own, tokens in zip(chances, level.tokens):
                assert tokens == own.topk(3).indices.tolist()
            paths = [ends[i] for i in level.chosen]


def chances_after(speculator, hidden, ids):
    """What may come after the tokens of one path, with no batch and no beams."""
    state = speculator.begin(hidden)
    for level, token in enumerate(ids):
        logits, state = speculator(state, torch.tensor(token), level)
    return logits.softmax(-1)


def test_calibrated_costs_and_depth(models):
    def built(costs=None, **parameters):
        usual = {"tree_width": 3, "tree_depth": 4, "tree_nodes": None, "adaptive": False}
        return MLP.build(
            DraftSetup(
                models.target.runner, (), Warps(0.0), Recording(), usual | parameters, DraftMemory(), costs,
                models.heads,
            )
        )  # fmt: skip

    costs = Calibration({1: 1.0, 5: 1.1, 17: 1.2}, (), 64)
    assert built().max_nodes == 3 * 3  # three levels, whatever the depth asked for
    assert built(tree_depth=1).max_nodes == 3
    assert built(tree_nodes=99).max_nodes == 3 + 2 * 9
    assert built(costs).max_nodes == 3 + 2 * 9
    assert built(costs, tree_width=8).max_nodes == 64
