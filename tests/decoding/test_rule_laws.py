"""Every lossless rule gives the target's own law for every way of making children, and the tests would tell if not.

The joint law of three tokens on a vocabulary of four, in double precision, over many rows with random numbers of their
own; the single laws on a vocabulary of 4096. Each trap of the field is there as a deliberately wrong rule or draft.
"""

from dataclasses import replace

import pytest
import torch
from chi_square import chi_square
from rule_trials import SHAPES, altered, counts_of, drafted, judge, rule_named, target_law, with_laws

from specterm import catalogue
from specterm.config import SamplingSpec
from specterm.decoding.acceptance import RULES, chain, host_walk
from specterm.decoding.acceptance.exact import Exact
from specterm.decoding.ports import Judging
from specterm.decoding.sampling import Purpose, Warps, draw, probabilities, purpose_keys, row_key, uniforms
from specterm.decoding.tree import DraftTree, Topology

ROWS = 30_000
TOP_P_ROWS = 8_000  # a nucleus is sought row by row; the rule itself is the exact one, as a test below says
LOSSLESS = {
    "exact": ("exact", {}),
    "exact, warped": ("exact", {"temperature": 1.4, "top_k": 3}),
    "block": ("block", {}),
    "block, warped": ("block", {"temperature": 0.8, "top_k": 3}),
    "temperature": ("temperature", {"acceptance_temperature": 1.0}),
    "top-p": ("top-p", {"top_p": 0.8}),
    "min-p": ("min-p", {"min_p": 0.2}),
    "filter value": ("exact", {"top_k": 2, "filter_value": -1.0}),
}
DRAFT_WARPS = {"its own": Warps(1.0), "hotter, truncated": Warps(2.0, top_k=3)}


def cases():
    """Every rule with every way of making children; of the two draft laws one in turn, the other in the full matrix."""
    for i, name in enumerate(LOSSLESS):
        for j, kind in enumerate(SHAPES):
            for k, (said, draft_warps) in enumerate(DRAFT_WARPS.items()):
                if not name.startswith("block") or "chain" in kind:
                    marks = pytest.mark.full if (i + j + k) % 2 else ()
                    yield pytest.param(name, kind, draft_warps, marks=marks, id=f"{name}-{kind}-{said}")


def is_lossless(counts: torch.Tensor, warps: Warps) -> bool:
    statistic, threshold = chi_square(counts, target_law(warps) * counts.sum())
    return statistic < threshold


@pytest.mark.parametrize(("name", "kind", "draft_warps"), list(cases()))
def test_the_joint_law_is_the_targets(name, kind, draft_warps):
    rule_name, options = LOSSLESS[name]
    rule, warps = rule_named(rule_name, **options)
    assert catalogue.RULES[rule_name].lossless(options, speculative=True)
    rows = TOP_P_ROWS if warps.top_p < 1.0 else ROWS
    counts, accepted = counts_of(rule, warps, kind, rows, draft_warps=draft_warps)
    assert set(accepted.tolist()) == {0, 1, 2}
    assert is_lossless(counts, warps)


def test_every_lossless_rule_is_tested():
    sampling = {"temperature": 1.0, "acceptance_temperature": 1.0}
    lossless = {name for name, rule in catalogue.RULES.items() if rule.lossless(sampling, speculative=True)}
    assert lossless == {name for name, _ in LOSSLESS.values()}
    assert set(RULES) == set(catalogue.RULES)


# The traps.


class BestOfTwo:
    """Two independent judgings, and the one that accepted more is kept."""

    def verify(self, tree, logits, judging):
        one, two = (
            Exact().verify(tree, logits, replace(judging, keys=tuple(key + by for key in judging.keys)))
            for by in (0, 1)
        )
        better = two.accepted > one.accepted
        pick = lambda a, b: torch.where(better.view(-1, *[1] * (a.dim() - 1)), b, a)  # noqa: E731
        picked = {name: pick(getattr(one, name), getattr(two, name)) for name in ("accepted", "next_token")}
        return altered(one, **picked, walked=(pick(one.path, two.path), pick(one.states, two.states)))


class FreshDraw:
    """After a refusal the token is drawn anew from the target's law, not from what the refusal left of it."""

    def verify(self, tree, logits, judging):
        right = Exact().verify(tree, logits, judging)
        probs = probabilities(logits, judging.warps)
        law = probs[torch.arange(len(probs)), right.path[:, -1]]
        keys = purpose_keys(judging.keys, Purpose.RESIDUAL, law.device)
        fresh = draw(law, uniforms(keys, torch.full((1, 1), 12345)).squeeze(1))
        refused = (right.states == 1).any(dim=1)
        return altered(right, next_token=torch.where(refused, fresh, right.next_token))


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("wrong", [BestOfTwo, FreshDraw])
def test_a_wrong_rule_is_caught(wrong, kind):
    counts, accepted = counts_of(wrong(), Warps(1.0), kind, ROWS)
    assert set(accepted.tolist()) == {0, 1, 2}
    assert not is_lossless(counts, Warps(1.0))


@pytest.mark.parametrize("name", ["exact", "block"])
def test_drawing_from_a_truncated_law_and_testing_with_the_whole_one_is_caught(name):
    rule, warps = rule_named(name)
    truncated, whole = Warps(1.0, top_k=2), Warps(1.0)
    right, _ = counts_of(rule, warps, "sampled chain", ROWS, lambda tree: with_laws(tree, truncated), truncated)
    wrong, _ = counts_of(rule, warps, "sampled chain", ROWS, lambda tree: with_laws(tree, whole), truncated)
    assert is_lossless(right, warps)
    assert not is_lossless(wrong, warps)


@pytest.mark.parametrize("name", ["exact", "block"])
def test_dropping_sampled_tokens_of_low_confidence_is_caught(name):
    """Where a chain ends may not depend on what was drawn."""

    def drop(tree: DraftTree) -> DraftTree:
        confident = tree.q.gather(2, tree.tokens.unsqueeze(2)).squeeze(2) >= 0.3
        return replace(tree, counts=tuple(confident.long().cumprod(dim=1).sum(dim=1).tolist()))

    def cut(tree: DraftTree) -> DraftTree:
        return replace(tree, counts=tuple(i % 3 for i in range(len(tree.counts))))

    rule, warps = rule_named(name)
    assert is_lossless(counts_of(rule, warps, "sampled chain", ROWS, cut)[0], warps)
    assert not is_lossless(counts_of(rule, warps, "sampled chain", ROWS, drop)[0], warps)


@pytest.mark.parametrize("name", ["exact", "block"])
def test_sharing_noise_between_draft_and_residual_is_caught(monkeypatch, name):
    for module, name_of_key in ((host_walk, "purpose_key"), (chain, "purpose_keys")):
        own = getattr(module, name_of_key)

        def shared(keys, purpose, *rest, own=own):
            return own(keys, Purpose.DRAFT if purpose is Purpose.RESIDUAL else purpose, *rest)

        monkeypatch.setattr(module, name_of_key, shared)
    rule, warps = rule_named(name)
    assert not is_lossless(counts_of(rule, warps, "sampled chain", ROWS)[0], warps)


def colder(tree: DraftTree) -> DraftTree:
    """A tree that claims to have been drawn by sharper laws than it was."""
    laws = tree.q**1.5
    return replace(tree, q=laws / laws.sum(dim=2, keepdim=True))


def without_the_unlikely(tree: DraftTree) -> DraftTree:
    """A tree whose nodes behind an unlikely one are dropped: its shape follows what was drawn."""
    laws = tree.q.gather(1, tree.law_of.expand(len(tree.tokens), -1).unsqueeze(2).expand(-1, -1, tree.q.shape[2]))
    confident = laws.gather(2, tree.tokens.unsqueeze(2)).squeeze(2) >= 0.25
    return replace(tree, counts=tuple(confident.long().cumprod(dim=1).sum(dim=1).tolist()))


@pytest.mark.parametrize("kind", ["sampled tree", "without replacement"])
@pytest.mark.parametrize("trap", [colder, without_the_unlikely])
def test_the_traps_of_chains_are_caught_in_trees(trap, kind):
    rule, warps = rule_named("exact")
    assert not is_lossless(counts_of(rule, warps, kind, ROWS, trap)[0], warps)


@pytest.mark.parametrize("kind", SHAPES)
def test_presets_and_acceptance_temperature_1_are_the_exact_rule(kind):
    """Decision by decision, so that what is enumerated for the exact rule holds for them, too."""
    tree, logits, keys, _ = drafted(kind, 3000)
    expected = judge(Exact(), Warps(1.0), tree, logits, keys)
    found = judge(*rule_named("temperature", acceptance_temperature=1.0), tree, logits, keys)
    for name in ("accepted", "path", "next_token", "states", "p", "next_p"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    presets = {rule.name for rule in catalogue.RULES.values() if rule.preset_of == "exact"}
    assert presets == {"top-p", "min-p", "temperature"}
    assert RULES["top-p"] is RULES["min-p"] is RULES["exact"]


# A large vocabulary, where the laws depend on the depth alone.


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("exact", "without replacement"),
        ("block", "sampled"),
        ("min-p", "fixed"),
        pytest.param("exact", "fixed", marks=pytest.mark.full),
        pytest.param("temperature", "sampled", marks=pytest.mark.full),
        pytest.param("top-p", "without replacement", marks=pytest.mark.full),
    ],
)
def test_the_laws_on_a_large_vocabulary(name, kind):
    vocab, trials, step = 4096, 6144, 512
    generator = torch.Generator().manual_seed(5)
    table = torch.randn(2, vocab, generator=generator) * 2.5
    rule, warps = rule_named(name, temperature=0.8)
    p, q = probabilities(table, warps).double(), probabilities(0.7 * table, Warps(0.8))
    parents = (-1, 0) if kind == "sampled" else (-1, -1, 0)
    depths = [0 if parent < 0 else 1 for parent in parents]
    counts, seen, accepted = torch.zeros(2, vocab, dtype=torch.float64), 0, 0
    for at in range(0, trials, step):
        keys = tuple(row_key(seed, (1,)) for seed in range(at, at + step))
        u = uniforms(purpose_keys(keys, Purpose.DRAFT, q.device), torch.arange(3).unsqueeze(0))
        tokens = torch.zeros((step, len(parents)), dtype=torch.int64)
        left = q.expand(step, 2, vocab).clone()
        for node, depth in enumerate(depths):
            tokens[:, node] = left[:, depth].argmax(dim=1) if kind == "fixed" else draw(left[:, depth], u[:, node])
            left[torch.arange(step), depth, tokens[:, node]] = 0.0
        topology = (
            Topology.of_parents(torch.tensor([parents]), 2) if len(parents) > 2 else Topology.of_chain(2, q.device)
        )
        tree = DraftTree(
            topology, tokens, (len(parents),) * step, kind, None if kind == "fixed" else q.expand(step, 2, vocab),
            torch.tensor([depths]) if kind == "without replacement" else None, 2,
        )  # fmt: skip
        logits = table[topology.depth[0].clamp(max=1)].expand(step, -1, -1)
        verdict = rule.verify(tree, logits, Judging(warps, keys, (0,) * step, (0,) * step, record=False))
        deeper = verdict.accepted > 0
        drafts = torch.cat([torch.zeros(step, 1, dtype=torch.int64), tokens], dim=1).gather(1, verdict.path)
        first = torch.where(deeper, drafts[:, 1], verdict.next_token)
        second = torch.where(verdict.accepted > 1, drafts[:, 2], verdict.next_token)[deeper]
        counts += torch.stack([torch.bincount(out, minlength=vocab) for out in (first, second)])
        seen, accepted = seen + int(deeper.sum()), accepted + int(verdict.accepted.sum())
    assert 0 < accepted < 2 * trials
    for found, law, times in zip(counts, p, (trials, seen)):
        statistic, threshold = chi_square(found, law * times)
        assert statistic < threshold


def test_a_given_chain_is_naives_draw_under_every_lossless_rule():
    """Fixed children: the same tokens as one draw a node, with the same random numbers, whatever the rule."""
    tree, logits, keys, _ = drafted("fixed chain", 4000)
    verdicts = [judge(*rule_named(name), tree, logits, keys) for name in ("exact", "block", "temperature")]
    for other in verdicts[1:]:
        assert torch.equal(verdicts[0].accepted, other.accepted)
        assert torch.equal(verdicts[0].next_token, other.next_token)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("kind", ["fixed chain", "sampled chain"])
def test_greedy_decoding_is_the_same_under_every_rule(name, kind):
    options = {"acceptance_temperature": 3.0} if name == "temperature" else {}
    assert catalogue.RULES[name].lossless({"temperature": 0.0, **options}, speculative=True)
    rule, warps = rule_named(name, temperature=0.0, **options)
    tree, logits, keys, _ = drafted(kind, 500)
    found, exact = judge(rule, warps, tree, logits, keys), judge(Exact(), Warps(0.0), tree, logits, keys)
    assert int(exact.accepted.sum()) > 0
    assert kind == "fixed chain" or int(exact.accepted.sum()) < 1000
    assert torch.equal(found.accepted, exact.accepted)
    assert torch.equal(found.next_token, exact.next_token)


def test_a_rule_checks_what_it_takes():
    assert SamplingSpec(acceptance="typical").checked().rule_parameters == {
        "typical_epsilon": 0.09,
        "typical_delta": 0.3,
    }
    assert SamplingSpec(acceptance="min-p").checked().top_p == 1.0
