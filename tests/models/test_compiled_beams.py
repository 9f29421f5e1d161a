"""Beams in one call against the same level by level: of drafts, and of EAGLE heads on their own features."""

from itertools import product

import pytest
import torch
from beam_drafters import KINDS, made

from specterm.config import ModelSpec
from specterm.decoding.drafters.budget import CalibratedBudget
from specterm.decoding.drafters.host_beams import beam_levels
from specterm.decoding.estimates import Curve
from specterm.decoding.prefill import prefill
from specterm.events import Calibration
from specterm.kernels.machine import Machine, this_machine
from specterm.models.compiled.beams import grow
from specterm.models.compiled.chains import chain
from specterm.models.compiled.model import forward
from specterm.models.compiled.strides import Draft, stride
from specterm.models.loading import load_models

pytestmark = pytest.mark.skipif(this_machine() is None, reason="no kernels for this processor")
PENDING = ([17], [17, 300, 4, 99])
LESSER = [Machine("x86-64-v4", 16, 6), Machine("x86-64-v3", 8, 3)]


@pytest.fixture(scope="module", params=KINDS)
def drafter(request):
    return made(request.param, 40)


def assert_same(beam, wanted, shown=0):
    levels = beam_levels(beam, shown)
    assert len(levels) == len(wanted)
    for ours, theirs in zip((level.rows()[0] for level in levels), (level.rows()[0] for level in wanted)):
        assert ours.tokens == theirs.tokens
        assert ours.chosen == theirs.chosen
        for own, other in zip((*ours.confidence, *ours.score), (*theirs.confidence, *theirs.score), strict=True):
            assert own == pytest.approx(other, rel=1e-4)
        for own, other in zip(ours.alternatives, theirs.alternatives, strict=True):
            assert [token for token, _ in own] == [token for token, _ in other]
            assert [share for _, share in own] == pytest.approx([share for _, share in other], rel=1e-4)


@pytest.mark.parametrize("tokens", PENDING, ids=len)
@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_a_beam_is_what_grows_level_by_level(drafter, width, tokens):
    for depth in (1, 2, 3, 4):
        beam = drafter.beam(tokens, width, depth)
        assert beam.paths == [1, *[width] * (depth - 1)]
        assert_same(beam, drafter.stepwise(tokens, width, depth))


@pytest.mark.parametrize("kind", KINDS)
def test_beams_at_the_end_of_the_context(kind):
    """What would stand behind it stands at its last position."""
    drafter = made(kind, 1024)
    for tokens, left, (width, depth) in product(PENDING, (0, 2), ((1, 4), (3, 4), (5, 3))):
        drafter.length = 1024 - len(tokens) - left
        beam = drafter.beam(tokens, width, depth)
        assert_same(beam, drafter.stepwise(tokens, width, depth))


def test_more_tokens_are_told_of_than_go_on(drafter):
    for shown in (1, 8):
        beam = drafter.beam([17], 3, 3, shown=shown)
        assert_same(beam, drafter.stepwise([17], 3, 3, shown=shown), shown)


@pytest.mark.parametrize("vocab", [1, 2, 7, 1003, 5000])
def test_drafts_propose_nothing_beyond_the_targets_vocabulary(vocab):
    drafter, width = made("8bit", 40), min(vocab, 3)
    beam = drafter.beam([17], 3, 3, vocab)
    assert beam.ranks == width
    assert all(token < vocab for level in beam.tokens for token in level)
    assert_same(beam, drafter.stepwise([17], width, 3, vocab))


def budget_of(worth, right, levels):
    """One to which a level more is worth its time where it brings `worth` tokens, and a fifth more each time."""
    budget = CalibratedBudget(Calibration({1: 1.0}, (), 64), 1.0, 20, levels)
    budget._draft_s = Curve(lambda grown: worth * grown * 1.2**grown)
    budget.begin()
    budget.learn(0.0, 0)
    budget._accepted = right * budget._expected
    return budget


def test_a_gate_lets_as_many_paths_on_as_the_budget_says(drafter):
    outcomes = set()
    for worth, right, width in product((1e-4, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1.0), (0.5, 3.0), (1, 2, 5)):
        budget, other = (budget_of(worth, right, 4) for _ in range(2))
        gate = budget.gate(3)
        assert len(gate.worths) == 3
        beam = drafter.beam(PENDING[1], width, 4, gate=gate)
        budget.grew(len(beam.paths) - 1)
        assert_same(beam, drafter.stepwise(PENDING[1], width, 4, paths=other.paths))
        assert budget._levels == other._levels == len(beam.paths)
        outcomes |= {len(beam.paths), *("fewer" if paths < width else "all" for paths in beam.paths[1:])}
    assert outcomes == {"fewer", "all", 1, 2, 3, 4}


@pytest.mark.parametrize("tokens", PENDING, ids=len)
def test_the_true_text_goes_on_as_if_there_had_been_no_beam(drafter, tokens):
    """Nor does a beam leave anything in words that passes of other kinds are told with."""
    after, following = drafter.length + len(tokens), [[7], [8, 9, 10]]
    drafter.forward(tokens)
    wanted = [drafter.forward(each, after) for each in following]
    for width, depth in ((1, 3), (3, 4), (4, 2)):
        for each, expected in zip(following, wanted):
            drafter.forward([5] * 24)  # something else is where the beam writes
            drafter.beam(tokens, width, depth)
            assert torch.equal(drafter.forward(each, after), expected)


def test_chains_and_steps_after_a_beam():
    drafter = made("8bit", 40)
    steps = [drafter.runner.step(1, 40, 17), drafter.runner.greedy_chain(1, 40, [17, 300], 4, 0.0, 4096)[:2]]
    drafter.beam([17, 300, 4], 3, 3)
    assert torch.equal(drafter.runner.step(1, 40, 17), steps[0])
    drafter.beam([17, 300, 4], 2, 3)
    assert drafter.runner.greedy_chain(1, 40, [17, 300], 4, 0.0, 4096)[:2] == steps[1]


def test_there_is_no_beam_without_kernels_or_a_cache_or_room():
    models = load_models(ModelSpec(device="cpu", draft_quantize="none").checked())
    heads, runner = models.heads["eagle"], models.drafts[0].runner
    assert runner.beam(0, 0, [3], 2, 2, 2, 4096, None) is None
    heads.allocate(1, 8)
    assert heads.beam(0, 0, [3], torch.zeros(1, heads.hidden_size), 2, 2, 2, None) is None
    runner.allocate(1, 16)
    prefill(runner, 0, torch.arange(8))
    runner.keep(range(8))
    assert runner.beam(0, 5, [3], 2, 2, 2, 4096, None) is not None
    assert list(runner.kept()) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="beyond"):
        runner.beam(0, runner.cache.capacity - 8, [3], 4, 3, 4, 4096, None)


@pytest.mark.parametrize("machine", LESSER, ids=["avx512", "avx2"])
@pytest.mark.parametrize("kind", ["8bit", "eagle", "eagle3"])
def test_beams_of_lesser_processors_are_those_level_by_level_too(kind, machine, monkeypatch):
    if not this_machine().cpu.startswith("x86-64") or this_machine().lanes < machine.lanes:
        pytest.skip("this processor lacks their instructions")
    for module in ("matrix", "rows"):
        monkeypatch.setattr(f"specterm.models.compiled.{module}.this_machine", lambda: machine)
    drafter = made(kind, 40)
    for width, depth, tokens in ((1, 3, PENDING[0]), (3, 4, PENDING[1]), (5, 3, PENDING[0])):
        assert_same(drafter.beam(tokens, width, depth), drafter.stepwise(tokens, width, depth))


@pytest.mark.parametrize("front", [None, ("joined", "int8"), ("beside", "int8")], ids=str)
def test_code_for_other_processors_is_well_formed(front):
    """It is verified by LLVM; it cannot be run here."""
    from llvmlite import binding, ir

    machine = Machine("generic", 4, 6)
    writers = [lambda module: forward(module, machine, "forward", "layers", "int8", "bfloat16", front)]
    writers += [lambda module: grow(module, machine, "grow", "forward", heads=front is not None)]
    if front is None:
        writers += [lambda module: chain(module, machine, "chain", "forward")]
        chains, beams = Draft("chain"), Draft("grow", beams=True)
        for drafts in ([], [chains]):
            writers += [lambda module, drafts=drafts: stride(module, "forward", drafts)]
        for drafts in ([chains, chains], [beams]):
            writers += [lambda module, drafts=drafts: stride(module, "forward", drafts, tree=True)]
        writers += [lambda module: stride(module, "forward", [], lookup=True)]
    for write in writers:
        module = ir.Module("model")
        write(module)
        binding.parse_assembly(str(module)).verify()
