"""Block verification decides as the formulas of the paper say, gives the law of the target, and accepts no less."""

import itertools
import random

import pytest
import torch
from rule_trials import ROUND, drafted, judge, rule_named

from specterm.decoding.acceptance.exact import Exact
from specterm.decoding.sampling import ROUND_STRIDE, Purpose, Warps, probabilities, purpose_keys, uniforms
from specterm.decoding.tree import DraftTree, Topology

V = 3


def shares(p, q, x) -> list[float]:
    """P_0 to P_n of the paper."""
    found = [1.0]
    for place, token in enumerate(x):
        found.append(min(1.0, found[-1] * p[x[:place]][token] / q[x[:place]][token]))
    return found


def thresholds(p, q, x) -> list[float]:
    """h_1 to h_n."""
    share, found = shares(p, q, x), []
    for i in range(1, len(x)):
        rest = sum(max(share[i] * a - b, 0.0) for a, b in zip(p[x[:i]], q[x[:i]]))
        found.append(1.0 if rest + 1.0 - share[i] == 0.0 else rest / (rest + 1.0 - share[i]))
    return [*found, share[-1]]


def normalised(law: list[float]) -> list[float]:
    return [x / sum(law) for x in law]


def block_outputs(p, q, x) -> list[tuple[tuple[int, ...], float]]:
    """What block verification emits for the draft x, with its probability."""
    share, h, found, behind = shares(p, q, x), thresholds(p, q, x), [], 1.0
    for kept in range(len(x), -1, -1):
        chance = behind * (h[kept - 1] if kept else 1.0)
        behind *= 1.0 - h[kept - 1] if kept else 0.0
        law = p[x[:kept]]
        if kept < len(x) and chance > 0.0:
            rest = [max(share[kept] * a - b, 0.0) for a, b in zip(law, q[x[:kept]])]
            law = normalised(rest) if sum(rest) else law
        found += [((*x[:kept], token), chance * own) for token, own in enumerate(law)]
    return found


def random_laws(numbers: random.Random) -> dict[tuple[int, ...], list[float]]:
    prefixes = [prefix for n in range(3) for prefix in itertools.product(range(V), repeat=n)]
    return {prefix: normalised([numbers.random() ** 3 for _ in range(V)]) for prefix in prefixes}


def chance(law, tokens) -> float:
    product = 1.0
    for place, token in enumerate(tokens):
        product *= law[tokens[:place]][token]
    return product


@pytest.mark.parametrize("seed", range(12))
def test_the_formulas_give_the_targets_law_and_accept_no_less(seed):
    numbers = random.Random(seed)
    p, q = random_laws(numbers), random_laws(numbers)
    joint, by_block, by_token = dict.fromkeys(itertools.product(range(V), repeat=3), 0.0), 0.0, 0.0
    for x in itertools.product(range(V), repeat=2):
        weight = chance(q, x)
        keep = [min(1.0, p[x[:i]][x[i]] / q[x[:i]][x[i]]) for i in range(2)]
        by_token += weight * (keep[0] + keep[0] * keep[1])
        for out, own in block_outputs(p, q, x):
            by_block += weight * own * (len(out) - 1)
            for rest in itertools.product(range(V), repeat=3 - len(out)):
                whole = (*out, *rest)
                joint[whole] += weight * own * chance(p, whole) / max(chance(p, out), 1e-300)
    assert by_block >= by_token - 1e-12
    for out, mass in joint.items():
        assert mass == pytest.approx(chance(p, out), abs=1e-12)


def test_the_rule_decides_as_the_formulas():
    rule, warps = rule_named("block")
    tree, logits, keys, _ = drafted("sampled chain", 400)
    verdict = judge(rule, warps, tree, logits, keys)
    p, q = probabilities(logits, warps).tolist(), tree.q.tolist()
    index = ROUND * ROUND_STRIDE + torch.arange(2).unsqueeze(0)
    u = uniforms(purpose_keys(keys, Purpose.RATIO, logits.device), index).tolist()
    for row, x in enumerate(tree.tokens.tolist()):
        laws_p, laws_q = ({tuple(x[:i]): law for i, law in enumerate(own)} for own in (p[row], q[row]))
        h = thresholds(laws_p, laws_q, tuple(x))
        kept = max((i + 1 for i in range(2) if u[row][i] < h[i]), default=0)
        assert int(verdict.accepted[row]) == kept
        assert [int(code) for code in verdict.states[row]] == [0] * kept + [1, 2][: 2 - kept]
    assert set(verdict.accepted.tolist()) == {0, 1, 2}


def test_on_the_same_drafts_it_accepts_more_than_token_by_token():
    tree, logits, keys, _ = drafted("sampled chain", 60_000)
    rule, warps = rule_named("block")
    block, token_wise = judge(rule, warps, tree, logits, keys), judge(Exact(), warps, tree, logits, keys)
    gain = (block.accepted - token_wise.accepted).double()
    assert float(gain.mean()) > 3 * float(gain.std()) / len(gain) ** 0.5


def test_rows_of_different_lengths_end_in_a_bonus():
    """The target as its own draft: every row is kept to its own end, whatever stands in the padding."""
    p = torch.tensor([0.3, 0.7], dtype=torch.float64)
    tokens = torch.ones((3, 3), dtype=torch.int64)
    tree = DraftTree(Topology.of_chain(3, p.device), tokens, (3, 1, 0), "sampled", p.expand(3, 3, 2))
    rule, _ = rule_named("block")
    verdict = judge(rule, Warps(1.0), tree, p.log().expand(3, 4, 2), (1, 2, 3))
    assert verdict.accepted.tolist() == [3, 1, 0]


def test_a_sampled_tree_is_no_chain():
    rule, warps = rule_named("block")
    tree, logits, keys, _ = drafted("without replacement", 2)
    with pytest.raises(ValueError, match="without replacement"):
        judge(rule, warps, tree, logits, keys)
